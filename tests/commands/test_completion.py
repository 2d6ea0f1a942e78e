"""Completion in real shells, from the script alone: no key waits for Python."""

import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from cct_lightning.commands.completion import completion
from cct_lightning.commands.main import COMMANDS

# What is typed -> what it is completed to.
LINES: dict[str, list[str]] = {
    "cct fi": ["fit"],
    "cct fit --config dig": ["digits"],
    "cct fit --config = dig": ["digits"],  # as bash breaks it
    "cct fit -c dig": ["digits"],
    "cct fit -h tra": ["trainer", "tracking"],
    "cct fit --config=dig": ["--config=digits"],
    "cct fit --model.poo": ["--model.pool"],
    "cct fit --model.pool cl": ["class_token"],
    "cct fit --model.optim.schedule l": ["linear"],
    "cct fit --model.compile t": ["true"],
    "cct fit --model.arch cct_2_3x2_32_": ["cct_2_3x2_32_sine"],
    "cct fit --trainer.precision 16": ["16", "16-true", "16-mixed"],
    "cct fit --trainer.max_ep": ["--trainer.max_epochs"],
    "cct fit --help tra": ["trainer", "tracking"],
    "cct test --ckp": ["--ckpt_path"],
    "cct ablate tok": ["tokenizer_x_pool"],
    "cct compare --format l": ["latex"],
    "cct completion b": ["bash"],
    "cct fit --run_dir ru": [],  # files are the shell's own
    "cct nowhere --x": [],
}


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash")
def test_in_bash(tmp_path: Path) -> None:
    lines = ["unset PATH", f"source {tmp_path / 'cct.bash'}"]  # nothing is started
    (tmp_path / "cct.bash").write_text(completion("bash") + "\n")
    for line in LINES:
        words = line.split(" ")
        lines += [f'COMP_WORDS=({" ".join(words)}); COMP_CWORD={len(words) - 1}; _cct; echo "${{COMPREPLY[*]}}"']
    lines.append("complete -p cct")
    bash = shutil.which("bash") or ""
    done = subprocess.run([bash, "--norc", "-c", "\n".join(lines)], capture_output=True, text=True)
    assert done.stderr == ""
    *found, registered = done.stdout.splitlines()
    assert [line.split() for line in found] == list(LINES.values())
    assert registered == "complete -o default -F _cct cct"


ZSH = """
zmodload zsh/zpty
zpty shell zsh -f -i
zpty -w shell "PROMPT='> '; source %s"
zpty -w -n shell $'cct fit --config=dig\\t'
zpty -r -m shell found '*--config=digits*' && print completed
"""


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh")
def test_in_zsh(tmp_path: Path) -> None:
    (tmp_path / "cct.zsh").write_text(completion("zsh") + "\n")
    done = subprocess.run(
        ["zsh", "-f", "-c", ZSH % (tmp_path / "cct.zsh")], capture_output=True, text=True, timeout=60, cwd=tmp_path
    )
    assert done.stdout == "completed\n", done.stdout + done.stderr


def test_the_command(cct: Callable[..., tuple[int, str, str]]) -> None:
    code, out, _ = cct("completion", "bash")
    assert (code, out) == (0, completion("bash") + "\n")
    assert all(f"            {name}) words=" in out for name in COMMANDS)
    code, _, err = cct("completion", "fish")
    assert code == 2
    assert "'bash', 'zsh'" in err

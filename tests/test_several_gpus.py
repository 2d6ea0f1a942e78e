"""The page about several GPUs: its commands parse; what they start is run in survival/ and ablation/."""

import inspect
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from cct_lightning.commands.ablate import ablate

PAGE = (Path(__file__).parents[1] / "docs" / "several_gpus.md").read_text()
LINES = [
    line for block in re.findall(r"^```bash\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) for line in block.split("\n")
]
FIT = [line for line in LINES if re.search(r"(cct|cct_lightning|fit\.sbatch)\b.* --config", line)]


@pytest.mark.parametrize("line", FIT)
def test_fit_command_parses(line: str, cct: Callable[..., tuple[int, str, str]]) -> None:
    options = line[line.index(" --config") :].split()
    code, _, err = cct("fit", *options, "--print_config")
    assert code == 0, err


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("cct ablate")])
def test_ablate_command_parses(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from cct_lightning.commands.parser import call

    given: dict[str, object] = {}

    def instead(grid: str, **options: object) -> None:
        given.update(options)

    instead.__signature__ = inspect.signature(ablate)  # type: ignore[attr-defined]
    instead.__doc__ = ablate.__doc__
    call(instead, line.split()[2:], prog="cct ablate")
    asked = [word.lstrip("-") for word in line.split() if word.startswith("--")]
    assert all(given[name] for name in asked if name != "gpus_per_run")


def test_every_command_is_tested() -> None:
    others = [line for line in LINES if line and line not in FIT and not line.startswith("cct ablate")]
    assert {line.split()[0] for line in others} == {"cp", "ray"}
    assert len(FIT) >= 8
    for path in re.findall(r"\]\(((?!http)[^)]+)\)", PAGE):
        assert (Path(__file__).parents[1] / "docs" / path).exists(), path


def test_batches_are_said_as_on_the_page(cct: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    short = ["--trainer.max_epochs=1", "--trainer.limit_train_batches=1", "--trainer.limit_val_batches=1"]
    short += ["--test_best=false", "--model.optim.warmup_epochs=0", "--tracking.mode=disabled"]
    code, out, err = cct("fit", "--config=digits", *short, "--trainer.accelerator=cpu", f"--run_dir={tmp_path}")
    assert code == 0, err
    form = r"\d+ images a step: (\d+) devices? x (\d+); learning rate 0\.003 \(not scaled\)"
    (said,) = re.findall(form, PAGE)
    (seen,) = re.findall(form, out)
    assert (seen, said) == (("1", "64"), ("4", "64"))

"""Checkpoints on a bad day: cut short, overwritten, on a full disk, of another model, of an older version, hostile."""

import math
import os
import pickle
import resource
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from survival.processes import checkpoint, end, metrics, start

from cct_lightning.commands.evaluate import evaluation_options
from cct_lightning.config.parser import run_parser
from cct_lightning.errors import InputError, TrainingFailed
from cct_lightning.runs.checkpoint_io import AtomicCheckpointIO, load_verified
from cct_lightning.runs.checkpoints import find_checkpoint
from cct_lightning.training.module import Classifier

Cct = Callable[..., tuple[int, str, str]]
OLD = Path(__file__).parent / "version_0_1.ckpt"


CONFIG = ["--config", "digits", "--trainer.max_epochs", "2", "--model.optim.warmup_epochs", "0"]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run that is done."""
    folder = tmp_path_factory.mktemp("finished")
    process = start(folder, *CONFIG, "--run_dir", "run", "--tracking.mode", "disabled")
    assert end(process, 0) == 0, (folder / "log.txt").read_text()[-2000:]
    return folder / "run"


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(finished, tmp_path / "run"))


def test_last_and_the_one_before_are_kept(run: Path) -> None:
    last, before = checkpoint(run / "last.ckpt"), checkpoint(run / "prev.ckpt")
    assert 0 < before["global_step"] < last["global_step"]
    assert find_checkpoint(run, "auto") == (run / "last.ckpt", "")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.999])
def test_a_truncated_checkpoint_gives_way_to_the_one_before(run: Path, share: float) -> None:
    last = run / "last.ckpt"
    os.truncate(last, int(last.stat().st_size * share))
    path, note = find_checkpoint(run, "auto")
    assert path == run / "prev.ckpt"
    assert "last.ckpt is damaged" in note
    assert "continuing from prev.ckpt" in note
    with pytest.raises(InputError, match=r"last\.ckpt is damaged"):
        find_checkpoint(run, str(last))


def test_a_flipped_bit_is_found(run: Path) -> None:
    last = run / "last.ckpt"
    content = bytearray(last.read_bytes())
    content[len(content) // 2] ^= 1
    last.write_bytes(content)
    torch.load(last, weights_only=True)  # PyTorch does not notice
    assert find_checkpoint(run, "auto")[0] == run / "prev.ckpt"


def test_nothing_whole_is_left(run: Path, cct: Cct) -> None:
    for name in ("last.ckpt", "prev.ckpt"):
        (run / name).write_bytes(b"")
    before = sorted((path.name, path.stat().st_mtime_ns) for path in run.iterdir())
    code, _, err = cct("fit", *CONFIG, "--run_dir", str(run))
    assert code == 2
    assert "prev.ckpt is damaged" in err
    assert err.count("\n") == 1
    assert sorted((path.name, path.stat().st_mtime_ns) for path in run.iterdir()) == before


def test_a_full_disk_leaves_the_old_checkpoint_whole(tmp_path: Path) -> None:
    writer, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    writer.save_checkpoint({"a": torch.zeros(1000)}, path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        with pytest.raises(TrainingFailed, match=r"Cannot save .*last\.ckpt: File too large .*is whole"):
            writer.save_checkpoint({"a": torch.ones(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert [path.name for path in tmp_path.iterdir()] == ["last.ckpt"]
    assert torch.equal(torch.load(path, weights_only=True)["a"], torch.zeros(1000))


FULL = """
import resource, sys
from cct_lightning.commands.main import main
import cct_lightning.build
# Larger than every other file of the run, smaller than a checkpoint with the state of the optimizer.
resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
sys.argv = ["cct", *sys.argv[1:]]
sys.exit(main())
"""


def test_a_run_on_a_full_disk_ends_with_one_sentence(tmp_path: Path) -> None:
    words = [
        "fit",
        "--config",
        "digits",
        "--trainer.max_epochs",
        "1",
        "--model.optim.warmup_epochs",
        "0",
        "--run_dir",
        "run",
    ]
    done = subprocess.run(
        [sys.executable, "-c", FULL, *words, "--tracking.mode", "disabled"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert len([line for line in done.stderr.splitlines() if "Cannot save" in line]) == 1
    assert not list((tmp_path / "run").glob("*.ckpt"))
    assert not list((tmp_path / "run").glob(".*.part*"))


def test_checkpoint_of_another_model(run: Path, cct: Cct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("fit", "--config", "digits", "--model.arch", "cct_4_3x1", "--resume", str(run / "last.ckpt"))
    code, _, err = cct(*words, "--run_dir", "other")
    assert code == 2
    assert "of another model (cct_2_3x1)" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--model.label_smoothing 0.5", "model.label_smoothing was 0.1 and is 0.5"),
        ("--seed_everything 3", "seed_everything was 0 and is 3"),
        ("--data.batch_size 32 --model.arch cct_4_3x1", "model.arch was cct_2_3x1 and is cct_4_3x1"),
    ],
)
def test_run_folder_of_another_configuration(run: Path, cct: Cct, words: str, expected: str) -> None:
    before = sorted((path.name, path.stat().st_mtime_ns) for path in run.iterdir())
    code, _, err = cct("fit", *CONFIG, "--run_dir", str(run), *words.split())
    assert code == 2
    assert expected in err
    assert err.count("\n") == 1
    assert sorted((path.name, path.stat().st_mtime_ns) for path in run.iterdir()) == before


def test_a_run_continues_with_another_rate(run: Path, tmp_path: Path) -> None:
    words = [*CONFIG, "--resume", "run/last.ckpt", "--run_dir", "other", "--tracking.mode", "disabled"]
    words += ["--model.optim.lr", "1e-3", "--model.optim.weight_decay", "0.1", "--model.optim.min_lr", "1e-4"]
    process = start(tmp_path, *words, "--trainer.max_epochs", "3", "--trainer.log_every_n_steps", "1")
    assert end(process, 0) == 0, (tmp_path / "log.txt").read_text()[-2000:]
    said = "Continuing with lr 0.001 (was 0.003), weight_decay 0.1 (was 0.03)."
    assert (tmp_path / "log.txt").read_text().count(said) == 1
    done = checkpoint(run / "last.ckpt")["global_step"]
    rates = [float(row["lr"]) for row in metrics(tmp_path / "other") if row["lr"]]
    curve = [1e-4 + 9e-4 * (1 + math.cos(math.pi * step / (done * 1.5))) / 2 for step in range(done, done * 3 // 2)]
    assert rates == pytest.approx(curve)
    groups = checkpoint(tmp_path / "other" / "last.ckpt")["optimizer_states"][0]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.1, 0.1, 0.0]


@pytest.mark.parametrize("words", ["--model.optim.optimizer adamw", "--model.finetune.freeze_backbone true"])
def test_a_run_cannot_continue_with_another_optimizer(words: str, run: Path, cct: Cct, tmp_path: Path) -> None:
    other = ["--resume", str(run / "last.ckpt"), "--run_dir", str(tmp_path / "other")]
    code, _, err = cct("fit", *CONFIG, *other, *words.split())
    assert code == 2
    assert "its state does not fit these" in err
    assert err.count("\n") == 1
    assert not (tmp_path / "other").exists()


def test_a_finished_run_says_so(run: Path, cct: Cct) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    code, out, err = cct("fit", *CONFIG, "--run_dir", str(run))
    assert code == 0, err
    assert "The run is finished" in out
    assert "test accuracy" in out
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before, "nothing is written"


class Bomb:
    """What runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


def test_a_checkpoint_whose_run_is_unknown_is_not_continued(run: Path) -> None:
    (run / "config.yaml").unlink()
    with pytest.raises(InputError, match=r"no config\.yaml"):
        find_checkpoint(run, "auto")
    assert find_checkpoint(run, str(run / "last.ckpt")) == (run / "last.ckpt", "")


@pytest.mark.parametrize("option", ["--resume", "--ckpt_path", "--model.pretrained", "last.ckpt"])
@pytest.mark.parametrize("form", ["zip", "pickle"])
def test_nothing_in_a_checkpoint_runs(
    option: str, form: str, cct: Cct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    bomb = {"state_dict": {}, "hyper_parameters": {}, "loops": Bomb(f"touch {tmp_path}/exploded")}
    path = tmp_path / "run" / "last.ckpt"
    path.parent.mkdir()
    if form == "zip":
        torch.save(bomb, path)
    else:
        path.write_bytes(pickle.dumps(bomb))
    words = {
        "--resume": ["fit", "--config", "digits", "--resume", str(path), "--run_dir", "fresh"],
        "--ckpt_path": ["test", "--ckpt_path", str(path)],
        "--model.pretrained": ["fit", "--config", "digits", "--model.pretrained", str(path), "--run_dir", "fresh"],
        "last.ckpt": ["fit", "--config", "digits", "--run_dir", "run"],
    }[option]
    code, out, err = cct(*words)
    assert code == 2, out + err
    assert str(path) in err
    assert not (tmp_path / "exploded").exists()
    assert not (tmp_path / "fresh").exists()
    monkeypatch.undo()
    torch.load(path, weights_only=False) if form == "zip" else pickle.loads(path.read_bytes())
    assert (tmp_path / "exploded").exists(), "the bomb is a real one"


@pytest.mark.parametrize("option", ["--resume", "--ckpt_path", "--model.pretrained", "last.ckpt", "Classifier.load"])
def test_a_zip_bomb_is_refused(
    option: str, run: Path, cct: Cct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    whole = checkpoint(run / "last.ckpt")
    whole["callbacks"]["bomb"] = {"zeros": torch.zeros(50_000_000)}
    torch.save(whole, tmp_path / "stored.ckpt")
    path = run / "last.ckpt"
    (run / "prev.ckpt").unlink()
    with zipfile.ZipFile("stored.ckpt") as stored, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for member in stored.namelist():
            packed.writestr(member, stored.read(member))
    assert path.stat().st_size < 10_000_000
    fit = ["fit", *CONFIG, "--run_dir", "fresh"]
    if option == "Classifier.load":
        with pytest.raises(InputError, match="would unpack to 20"):
            Classifier.load(path)
    else:
        words = {
            "--resume": [*fit, "--resume", str(path)],
            "--ckpt_path": ["test", "--ckpt_path", str(path)],
            "--model.pretrained": [*fit, "--model.pretrained", str(path)],
            "last.ckpt": ["fit", *CONFIG, "--run_dir", "run"],
        }[option]
        code, out, err = cct(*words)
        assert code == 2, out + err
        assert "PyTorch compresses nothing" in err
        assert err.count("\n") == 1
        assert not (tmp_path / "fresh").exists()
    assert torch.load(path, weights_only=True)["callbacks"]["bomb"]["zeros"].nbytes == 200_000_000, "PyTorch takes it"


def test_checkpoint_of_an_older_version(cct: Cct) -> None:
    assert OLD.stat().st_size < 200_000
    load_verified(OLD)
    model = Classifier.load(OLD)
    with torch.no_grad():
        logits = model(torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8))
    kept = checkpoint(OLD)["expected_logits"]
    torch.testing.assert_close(logits, kept, rtol=1e-4, atol=1e-5)
    code, out, err = cct("test", "--ckpt_path", str(OLD))
    assert code == 0, err
    assert "test/acc" in out


def test_options_win_over_those_of_a_checkpoint() -> None:
    words = ["--ckpt_path", str(OLD), "--data.batch_size", "50", "--model.ema_decay", "0.5"]
    built = run_parser("test").instantiate(evaluation_options("test", words))
    assert (built.data.batch_size, built.model.ema_decay) == (50, 0.5)
    assert built.model.hparams["arch"] == checkpoint(OLD)["hyper_parameters"]["arch"]


def test_a_run_continues_from_an_older_version(tmp_path: Path) -> None:
    config = checkpoint(OLD)["config"]
    words = ["--config", "old.yaml", "--resume", str(OLD), "--run_dir", "run", "--tracking.mode", "disabled"]
    (tmp_path / "old.yaml").write_text(yaml.safe_dump(config))
    process = start(tmp_path, *words, "--trainer.max_epochs", "3")
    assert end(process, 0) == 0, (tmp_path / "log.txt").read_text()[-2000:]
    assert checkpoint(tmp_path / "run" / "last.ckpt")["global_step"] == 3 * checkpoint(OLD)["global_step"] // 2

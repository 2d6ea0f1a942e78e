"""`cct_lightning.fit`: the run of the command, from Python, with the same folder, tracking and numbers."""

from pathlib import Path

import pytest
import torch
import wandb
import yaml
from warm import run_cct

import cct_lightning
from cct_lightning.errors import InputError
from cct_lightning.training.module import Classifier

pytestmark = pytest.mark.slow

# Small: what these runs show does not depend on it.
SHORT = {"max_epochs": 2, "warmup_epochs": 0.5, "embed_dim": 32}
TINY = {"max_epochs": 1, "warmup_epochs": 0, "embed_dim": 32}
PART = """
import torch
from cct_lightning.models.pooling import Pooling


class GemPool(Pooling):
    def __init__(self, *, embed_dim: int, p: float = 3.0) -> None:
        super().__init__(embed_dim=embed_dim)
        self.p = p

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.clamp(min=1e-6).pow(self.p).mean(1).pow(1 / self.p)
"""


def test_it_is_the_run_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = cct_lightning.fit("digits", pool="class_token", seed=1, run_dir="python", **SHORT)
    words = "--model.pool class_token --model.embed_dim 32 --seed_everything 1 --trainer.max_epochs 2"
    words += " --model.optim.warmup_epochs 0.5"
    done = run_cct("fit", "--config", "digits", *words.split(), "--run_dir", "command", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert result.run_dir == tmp_path / "python"
    ours, theirs = (sorted(p.name for p in (tmp_path / name).iterdir()) for name in ("python", "command"))
    assert ours == theirs
    configs = [yaml.safe_load((tmp_path / name / "config.yaml").read_text()) for name in ("python", "command")]
    assert configs[0] == configs[1]
    weights = [torch.load(tmp_path / n / "last.ckpt", weights_only=True)["state_dict"] for n in ("python", "command")]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert result.summary["status"] == "finished"
    assert result.metrics["test/acc"].dropna().tolist() == pytest.approx([result.summary["test/acc"]])
    model = result.load()
    assert isinstance(model, Classifier)
    assert not model.training


def test_several_runs_of_one_process_are_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    small = {**TINY, "media_every_n_epochs": 0}
    first = cct_lightning.fit("digits", **small)
    second = cct_lightning.fit("digits", options={"model.pool": "mean"}, **small)
    assert first.run_dir != second.run_dir
    assert wandb.run is None
    ids = {(result.run_dir / "wandb" / "run_id").read_text() for result in (first, second)}
    assert len(ids) == 2
    again = cct_lightning.fit("digits", **small, run_dir=first.run_dir)
    assert again.summary == first.summary, "a finished run is not trained again"
    longer = cct_lightning.fit("digits", **{**small, "max_epochs": 2}, run_dir=first.run_dir)
    assert longer.summary["epochs"] == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pol": "mean"}, "Did you mean 'pool'"),
        ({"name": "mnist"}, r"could be .*data\.name or tracking\.name|could be .*tracking\.name"),
        ({"pool": "seqpol"}, "Did you mean 'seqpool'"),
        ({"lr": "fast"}, "model.optim.lr"),
        ({"max_epochs": 0}, "max_epochs"),
        ({"fast_dev_run": True}, "leaves no run folder"),
        ({"callbacks": [object()]}, "trainer.callbacks is a list: give plain values"),
        ({"pool": "mean", "options": {"model.pool": "max"}}, "model.pool is given twice"),
    ],
)
def test_bad_input_is_one_sentence_and_writes_nothing(
    options: dict[str, object], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        cct_lightning.fit("digits", **options)
    assert not (tmp_path / "runs").exists()


def test_a_part_of_ones_own_takes_arguments_everywhere(tmp_path: Path) -> None:
    (tmp_path / "my_lab.py").write_text(PART)
    short = ["--config=digits", "--model.embed_dim=32", "--trainer.max_epochs=1", "--model.optim.warmup_epochs=0"]
    short += ["--tracking.mode=disabled"]
    own = ["--model.pool", "my_lab.GemPool", "--model.pool.p", "4"]
    done = run_cct("fit", *short, *own, "--run_dir", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config["model"]["pool"] == {"class_path": "my_lab.GemPool", "init_args": {"p": 4}}
    test = ["test", "--run_dir", "run", "--allow_import", "my_lab.GemPool"]
    for words in (test, ["fit", *short, *own, "--run_dir", "run"]):
        done = run_cct(*words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert "nothing is left to do" in done.stdout
    done = run_cct("fit", *short, *own[:3], "5", "--run_dir", "run", cwd=tmp_path)
    assert done.returncode == 2
    assert "model.pool was my_lab.GemPool(p=4) and is my_lab.GemPool(p=5)" in done.stderr
    done = run_cct("fit", *short, *own[:2], "--model.pool.q", "5", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "takes no argument 'q': it takes p" in done.stderr
    done = run_cct("fit", *short, *own[:2], "--model.pool.p", "much", cwd=tmp_path)
    assert done.returncode == 2
    assert "takes a float as p; got 'much'" in done.stderr
    default = run_cct("fit", *short, *own[:2], "--run_dir", "default", cwd=tmp_path)
    assert default.returncode == 0, default.stderr
    config = yaml.safe_load((tmp_path / "default" / "config.yaml").read_text())
    assert config["model"]["pool"]["init_args"] == {"p": 3.0}, "its defaults are concrete, too"


def test_a_finished_run_is_not_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    short = {**TINY, "mode": "disabled", "run_dir": "run"}
    cct_lightning.fit("digits", limit_train_batches=1, **short)
    with pytest.raises(InputError, match=r"is finished, and trainer\.limit_train_batches was 1 where 1\.0 is"):
        cct_lightning.fit("digits", limit_train_batches=1.0, **short)


def test_time_alone_limits_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    short = {**TINY, "max_epochs": -1, "run_dir": "run"}
    result = cct_lightning.fit("digits", max_time={"seconds": 1}, **short)
    assert result.summary["status"] == "finished"
    again = cct_lightning.fit("digits", max_time="00:00:00:01", **short)
    assert again.summary == result.summary


def test_a_fine_tuning_run_normalizes_as_its_checkpoint_was_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    short = {**TINY, "media_every_n_epochs": 0}
    first = cct_lightning.fit("digits", mean=[0.5], std=[0.25], run_dir="first", **short)
    second = cct_lightning.fit("digits", pretrained=str(first.run_dir / "best.ckpt"), run_dir="second", **short)
    data = yaml.safe_load((second.run_dir / "config.yaml").read_text())["data"]
    assert (data["mean"], data["std"]) == ([0.5], [0.25])
    third = cct_lightning.fit(
        "digits", pretrained=str(first.run_dir / "best.ckpt"), mean=[0.3], std=[0.3], run_dir="third", **short
    )
    data = yaml.safe_load((third.run_dir / "config.yaml").read_text())["data"]
    assert data["mean"] == [0.3], "what the user says wins"

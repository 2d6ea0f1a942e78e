"""Folders, tracking and data locations in a checkpoint are not obeyed; those of a run folder that is named are."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import cct_lightning
from cct_lightning.commands.evaluate import evaluate, evaluation_options
from cct_lightning.errors import InputError

OLD = Path(__file__).parents[1] / "survival" / "version_0_1.ckpt"
THEIRS: dict[str, Any] = {
    "data": {"root": "/theirs/data", "cache_dir": "/theirs/cache"},
    "tracking": {"entity": "them", "pictures": ["their_code.picture"]},
}


def changed(path: Path) -> Path:
    content = torch.load(OLD, weights_only=True)
    for group, values in THEIRS.items():
        content["config"][group] |= values
    content["config"] |= {"run_dir": "/theirs/run", "trainer": {"default_root_dir": "/theirs/root"}}
    torch.save(content, path)
    return path


def test_places_in_a_checkpoint_are_not_obeyed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = evaluation_options("test", ["--ckpt_path", str(changed(tmp_path / "x.ckpt"))])
    assert "theirs" not in str(options)
    assert "their_code" not in str(options)
    assert options.tracking.entity is None
    assert "data.root of the checkpoint (/theirs/data) is not followed" in capsys.readouterr().out
    words = ["--ckpt_path", str(tmp_path / "x.ckpt"), "--data.root", "/mine"]
    assert evaluation_options("test", words).data.root == "/mine"
    assert capsys.readouterr().out == ""


def test_a_run_folder_says_where_its_data_are(tmp_path: Path) -> None:
    changed(tmp_path / "best.ckpt")
    shutil.copy(OLD.with_suffix("") / "config.yaml", tmp_path)
    config = yaml.safe_load((tmp_path / "config.yaml").read_text())
    config["data"]["root"], config["tracking"]["project"] = "/mine", "my-project"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config))
    options = evaluation_options("test", [f"--run_dir={tmp_path}"])
    assert (options.data.root, options.data.cache_dir, options.tracking.project) == ("/mine", None, "my-project")
    assert "theirs" not in str(options)


def test_changed_code_and_nothing_to_evaluate_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_lab.py").write_text("from torch import nn\n\n\nclass Loss(nn.CrossEntropyLoss): ...\n")
    fit = {"run_dir": "run", "mode": "disabled", "limit_train_batches": 2, "warmup_epochs": 0}
    cct_lightning.fit("digits", max_epochs=1, loss="my_lab.Loss", **fit)
    words = ["--run_dir", "run", "--allow_import", "my_lab.Loss"]
    evaluate("test", words)
    assert "has changed" not in capsys.readouterr().out
    (tmp_path / "my_lab.py").write_text((tmp_path / "my_lab.py").read_text() + "changed = True\n")
    evaluate("test", words)
    assert "The code of my_lab has changed since the run was trained." in capsys.readouterr().out
    with pytest.raises(InputError, match=r"limit_test_batches 0 evaluates nothing"):
        evaluate("test", [*words, "--trainer.limit_test_batches", "0"])

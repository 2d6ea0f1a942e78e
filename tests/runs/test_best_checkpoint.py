"""Folders in a checkpoint are not obeyed: Lightning deletes the files that its state names."""

from pathlib import Path

import torch

from cct_lightning.runs.checkpoints import RunCheckpoint, checkpoints


def test_no_path_of_a_checkpoint_is_followed(tmp_path: Path) -> None:
    theirs = {
        "monitor": "val/acc",
        "best_model_score": torch.tensor(0.5),
        "best_model_path": "/home/you/thesis.tex",
        "current_score": torch.tensor(0.5),
        "dirpath": ".",
        "best_k_models": {"/home/you/thesis.tex": torch.tensor(0.5)},
        "kth_best_model_path": "./../thesis.tex",
        "kth_value": torch.tensor(0.5),
        "last_model_path": "/home/you/thesis.tex",
    }
    best, _ = checkpoints(tmp_path, monitor="val/acc", every_minutes=10)
    assert isinstance(best, RunCheckpoint)
    best.load_state_dict(theirs)
    ours = str(tmp_path / "best.ckpt")
    assert (best.best_model_path, best.kth_best_model_path, list(best.best_k_models)) == (ours, ours, [ours])
    assert (best.last_model_path, best.best_model_score) == ("", torch.tensor(0.5))
    stored = best.state_dict()
    assert "home" not in str(stored)
    assert str(tmp_path) not in str(stored)
    assert stored["best_model_path"] == "best.ckpt"

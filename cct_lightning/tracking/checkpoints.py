"""Which checkpoints a run folder keeps, and which one a run continues from.

They can be moved, and name no folder of the user's.
"""

from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import Callback, ModelCheckpoint

from cct_lightning.errors import InputError


class RunCheckpoint(ModelCheckpoint):
    """Lightning's ModelCheckpoint, whose state names files relative to the run folder.

    Lightning stores absolute paths: a run folder that has been moved would forget its best epoch when continued, and a
    checkpoint that is given away would tell where its owner keeps things.
    """

    def state_dict(self) -> dict[str, Any]:
        """Return the state with relative paths."""
        return _replaced(super().state_dict(), str(self.dirpath), ".")

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the state with the paths of this folder."""
        super().load_state_dict(_replaced(state_dict, ".", str(self.dirpath)))


def _replaced(value: Any, old: str, new: str) -> Any:
    if isinstance(value, dict):
        return {_replaced(key, old, new): _replaced(item, old, new) for key, item in value.items()}
    if isinstance(value, str) and (value == old or value.startswith(f"{old}/")):
        return str(Path(new + value[len(old) :]))
    return value


def checkpoints(run_dir: Path, *, monitor: str | None) -> list[Callback]:
    """Return the callbacks that keep best.ckpt and last.ckpt.

    Two, because ModelCheckpoint's own `save_last` leaves last.ckpt stale in epochs that are not among the best.
    """
    last = RunCheckpoint(
        dirpath=run_dir,
        filename="last",
        monitor=None,
        save_top_k=1,
        every_n_epochs=1,
        save_on_train_epoch_end=True,
        save_on_exception=True,
        enable_version_counter=False,
    )
    if monitor is None:
        return [last]
    best = RunCheckpoint(
        dirpath=run_dir, filename="best", monitor=monitor, mode="max", save_top_k=1, enable_version_counter=False
    )
    return [best, last]


def find_checkpoint(run_dir: Path, resume: str) -> Path | None:
    """Return the checkpoint to continue from.

    Args:
        run_dir: Run folder.
        resume: `auto`, `never`, or a path.

    Raises:
        InputError: The path is no file, or the folder holds a run that must not be continued.
    """
    last = run_dir / "last.ckpt"
    if resume == "auto":
        return last if last.is_file() else None
    if resume == "never":
        if (run_dir / "config.yaml").exists():
            raise InputError(
                f"{run_dir} holds a run already: choose another --run_dir, or --resume auto to continue it."
            )
        return None
    if not Path(resume).is_file():
        raise InputError(f"No checkpoint at {resume}: --resume takes auto, never, or the path of a checkpoint.")
    return Path(resume)

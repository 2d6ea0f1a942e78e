"""Checkpoints of a run folder that can be moved, and that name no folder of the user's."""

from pathlib import Path
from typing import Any

from pytorch_lightning.callbacks import ModelCheckpoint


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

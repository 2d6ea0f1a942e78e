"""A checkpoint's file: written so that a crash or a full disk leaves the old one whole, and checked before it is used.

Lightning writes through a temporary file in the system's temporary folder. From another file system that is moved by
copying, which a crash can cut short; and nothing is forced to the disk.
"""

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from cct_lightning.errors import InputError, TrainingFailed
from cct_lightning.models.weights.reader import check_size
from cct_lightning.system.atomic import replacing

LAST, PREVIOUS = "last.ckpt", "prev.ckpt"


class AtomicCheckpointIO(TorchCheckpointIO):
    """Write beside the file, force to the disk, rename; keep the previous last.ckpt as prev.ckpt."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Save a checkpoint.

        Args:
            checkpoint: Tensors and plain values.
            path: The file.
            storage_options: Not used.

        Raises:
            TrainingFailed: The disk is full or cannot be written; what was there before is whole.
        """
        path = Path(path)
        # In memory first: PyTorch's writer hides a full disk behind errors of its own.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path, sync=True) as temporary:
                temporary.write_bytes(buffer.getbuffer())
                if path.name == LAST and path.exists():
                    _keep(path)
        except OSError as error:
            kept = f" ({path.name} of before is whole)" if path.exists() else ""
            raise TrainingFailed(
                f"Cannot save {path}: {error.strerror or error}{kept}; make room and start the same command again."
            ) from error


def _keep(path: Path) -> None:
    # A second name for the same bytes, so that there is no moment without a last.ckpt.
    previous = path.with_name(PREVIOUS)
    try:
        with replacing(previous) as link:
            os.link(path, link)
    except OSError:
        os.replace(path, previous)  # a file system without hard links


def load_verified(path: Path) -> dict[str, Any]:
    """Read a checkpoint of `cct fit`, every byte checked, without running any code that it may hold.

    Raises:
        InputError: No file; a damaged one; one that would run code, or fill the memory; one of something else.
    """
    if not path.is_file():
        raise InputError(f"No checkpoint at {path}.")
    check_size(path)
    reason = ""
    try:
        with zipfile.ZipFile(path) as archive:
            broken = archive.testzip()  # compares every checksum, which PyTorch does not
        if broken is not None:
            reason = f"the checksum of {broken} is wrong"
    except (zipfile.BadZipFile, OSError, EOFError, NotImplementedError) as error:
        reason = str(error) or type(error).__name__
    if reason:
        raise InputError(f"The checkpoint {path} is damaged ({reason}).")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except Exception as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{path} cannot be read safely as a checkpoint ({first}).") from error
    if not isinstance(checkpoint, dict) or not {"hyper_parameters", "state_dict", "loops"} <= checkpoint.keys():
        raise InputError(f"{path} is no checkpoint that `cct fit` could continue from: give a last.ckpt or best.ckpt.")
    return checkpoint

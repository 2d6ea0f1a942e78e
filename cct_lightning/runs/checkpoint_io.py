"""A checkpoint's file: written so that a crash or a full disk leaves the old one whole, and checked before it is used.

Lightning writes through a temporary file in the system's temporary folder. From another file system that is moved by
copying, which a crash can cut short; and nothing is forced to the disk. `cct_lightning.models.weights.reader` reads it.
"""

import copy
import io
import os
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from lightning_fabric.plugins import TorchCheckpointIO

from cct_lightning.errors import TrainingFailed
from cct_lightning.models.weights.reader import load_verified as load_verified
from cct_lightning.runs.folder import RunFolder
from cct_lightning.system.atomic import replacing


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
                if path.name == RunFolder.LAST and path.exists():
                    _keep(path)
        except OSError as error:
            kept = f" ({path.name} of before is whole)" if path.exists() else ""
            raise TrainingFailed(
                f"Cannot save {path}: {error.strerror or error}{kept}; make room and start the same command again."
            ) from error


class BackgroundCheckpointIO(AtomicCheckpointIO):
    """Copy the state to the CPU, and write best.ckpt and last.ckpt in a thread, in order: a GPU trains on meanwhile.

    Other files are of a user's callbacks, which may look for them or remove them at once: they are written at once.
    After a failure nothing else in line is written, since it could name what is not there.

    Lightning's AsyncCheckpointIO writes with whatever Lightning sets in place of ours, and has no way to wait.
    """

    def __init__(self) -> None:
        self._writes: deque[Future[None]] = deque()
        self._thread: ThreadPoolExecutor | None = None
        self._failure: BaseException | None = None

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any | None = None
    ) -> None:
        """Save a checkpoint soon; wait only while one is written and another one is in line.

        Args:
            checkpoint: Tensors and plain values, which may change afterwards.
            path: The file.
            storage_options: Not used.

        Raises:
            TrainingFailed: An earlier one could not be written.
        """
        if Path(path).name not in (RunFolder.BEST, RunFolder.LAST):
            self.flush()
            super().save_checkpoint(checkpoint, path)
            return
        self.flush(left=1)
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="checkpoints")
        self._writes.append(self._thread.submit(self._write, _snapshot(checkpoint), path))

    def _write(self, checkpoint: dict[str, Any], path: str | os.PathLike[str]) -> None:
        if self._failure is None:
            try:
                super().save_checkpoint(checkpoint, path)
            except BaseException as error:
                self._failure = error

    def flush(self, left: int = 0) -> None:
        """Wait until at most `left` checkpoints are not written yet, and none after one could not be written.

        Raises:
            TrainingFailed: One could not be written.
        """
        while self._writes and (len(self._writes) > left or self._writes[0].done() or self._failure):
            self._writes.popleft().result()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure

    def load_checkpoint(self, *args: Any, **options: Any) -> dict[str, Any]:
        """Load a checkpoint, as Lightning does, once what is to be written is."""
        self.flush()
        return super().load_checkpoint(*args, **options)

    def teardown(self) -> None:
        """Write what is in line, at the end of a fit, also of one that failed."""
        try:
            self.flush()
        finally:
            if self._thread is not None:
                self._thread.shutdown()
            self._thread = None


def _snapshot(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Return a copy whose tensors are on the CPU: none of a GPU's memory is taken, and no thread works on it."""
    on_cpu = {id(tensor): tensor.detach().to("cpu", copy=True) for tensor in _tensors(checkpoint)}
    return copy.deepcopy(checkpoint, on_cpu)  # which takes what it finds there for copied


def _tensors(nested: Any) -> Iterator[torch.Tensor]:
    if isinstance(nested, torch.Tensor):
        yield nested
    elif isinstance(nested, Mapping | list | tuple):
        for part in nested.values() if isinstance(nested, Mapping) else nested:
            yield from _tensors(part)


def checkpoint_io(strategy: object, *, device_type: str) -> list[AtomicCheckpointIO]:
    """Return what writes checkpoints; nothing for strategies that bring their own.

    On a CPU a thread would take from the training what it saves.
    """
    if any(name in str(strategy).lower() for name in ("deepspeed", "modelparallel")):
        return []
    return [AtomicCheckpointIO() if device_type == "cpu" else BackgroundCheckpointIO()]


def _keep(path: Path) -> None:
    # A second name for the same bytes, so that there is no moment without a last.ckpt.
    previous = path.with_name(RunFolder.PREVIOUS)
    try:
        with replacing(previous) as link:
            os.link(path, link)
    except OSError:
        os.replace(path, previous)  # a file system without hard links

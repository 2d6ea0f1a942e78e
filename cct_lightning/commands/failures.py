"""What goes wrong while a run goes on: one sentence and the usual exit code, no traceback, where the cause is known."""

import errno
import os
import sys
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_fabric.utilities.rank_zero import rank_zero_only
from pytorch_lightning.utilities.exceptions import SIGTERMException

from cct_lightning.errors import InputError, TrainingFailed
from cct_lightning.training.memory import is_out_of_memory

_LOST = ("Connection closed by peer", "Connection reset by peer", "NCCL", "Broken pipe", "Read error")
# What a library raises with a message for its user; a KeyError or a ZeroDivisionError is an accident.
_DELIBERATE = (ImportError, NotImplementedError, RuntimeError, TypeError, ValueError)
_SECONDS_TO_END = 10  # those of a launcher to end the other processes once one has failed
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_PLACE = (errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.EROFS)


def explain(error: Exception) -> str | None:
    """Return the sentence for an error whose cause is known; None for any other."""
    text = str(error)
    if isinstance(error, TrainingFailed):
        return text
    if isinstance(error, OSError) and error.errno in _FULL:
        where = f" {error.filename}" if error.filename else ""
        return f"Cannot write{where} ({error.strerror}): make room and start the same command again."
    if isinstance(error, OSError) and error.errno in _NO_PLACE and error.filename:
        return f"Cannot use {error.filename} ({error.strerror}): give another path, or make this one usable."
    if is_out_of_memory(error):
        return "Out of memory: give a smaller --data.batch_size."
    if isinstance(error, torch.distributed.DistNetworkError):
        address = ":".join(os.environ.get(name, "?") for name in ("MASTER_ADDR", "MASTER_PORT"))
        return (
            f"The processes of this run cannot meet at {address} (MASTER_ADDR:MASTER_PORT), which may be in use or "
            f"unreachable: unset the variables or set others. {text.splitlines()[0]}"
        )
    if isinstance(error, RuntimeError) and "DataLoader worker" in text:
        return (
            f"A process that loads data has died ({text.splitlines()[0].rstrip('. ')}), perhaps out of memory: "
            "start the same command again, with fewer --data.num_workers if it happens again."
        )
    if isinstance(error, RuntimeError) and torch.distributed.is_initialized() and any(word in text for word in _LOST):
        return (
            "Another process of this run has ended; its own message says why. The same command continues from the "
            "last checkpoint."
        )
    if isinstance(error, _DELIBERATE) and _raised_in(error) in ("lightning_fabric", "pytorch_lightning", "wandb"):
        return f"{' '.join(text.split()).rstrip('.')}. The same command continues from last.ckpt, where there is one."
    return None


def _raised_in(error: Exception) -> str:
    """Return the package whose code raised an error."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]


@contextmanager
def _first_process_speaks() -> Iterator[None]:
    """Hold an error of the other processes back, so that what fails in all of them is said once.

    The first one's launcher ends them meanwhile; where it waits for them, what they say comes a little later.
    """
    try:
        yield
    except Exception:
        if getattr(rank_zero_only, "rank", 0):
            time.sleep(_SECONDS_TO_END)
        raise


@contextmanager
def exit_on_known_errors(command: str) -> Iterator[None]:
    """Turn what a command raises into an exit code and a sentence that names the command.

    Raises:
        InputError: What the user asked for cannot be done.
    """
    try:
        with _first_process_speaks():
            yield
    except MisconfigurationException as error:
        raise InputError(" ".join(str(error).split())) from error
    except InputError:
        raise
    except SIGTERMException:
        sys.exit(143)  # before or after training, where Lightning would end with 0
    except KeyboardInterrupt:
        sys.exit(130)
    except SystemExit as exit:
        if exit.code == 1 and isinstance(exit.__context__, KeyboardInterrupt):
            sys.exit(130)  # Lightning's own code is 1
        raise
    except Exception as error:
        sentence = explain(error)
        if sentence is None:
            raise
        print(f"cct {command}: {sentence}", file=sys.stderr)
        sys.exit(1)

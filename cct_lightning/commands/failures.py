"""What goes wrong while a run goes on: one sentence and the usual exit code, no traceback, where the cause is known."""

import errno
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning.utilities.exceptions import SIGTERMException

from cct_lightning.errors import InputError, TrainingFailed

_LOST = ("Connection closed by peer", "Connection reset by peer", "NCCL", "Broken pipe", "Read error")
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def explain(error: Exception) -> str | None:
    """Return the sentence for an error whose cause is known; None for any other."""
    text = str(error)
    if isinstance(error, TrainingFailed):
        return text
    if isinstance(error, OSError) and error.errno in _FULL:
        where = f" {error.filename}" if error.filename else ""
        return f"Cannot write{where} ({error.strerror}): make room and start the same command again."
    if isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator: can't allocate memory" in text:
        return (
            "Out of memory: halve --data.batch_size and double --trainer.accumulate_grad_batches, which keeps the "
            "images of a step, or use --trainer.precision bf16-mixed."
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
    return None


@contextmanager
def exit_on_known_errors(command: str) -> Iterator[None]:
    """Turn what a command raises into an exit code and a sentence that names the command.

    Raises:
        InputError: What the user asked for cannot be done.
    """
    try:
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

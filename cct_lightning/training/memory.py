"""Memory: how the C library allocates that of tensors on a CPU, and what to do when it is not enough."""

import ctypes
import platform

import torch

_MANY_TOKENS = 1024  # whose attention, quadratic in them, is most of the memory; CCTs in the paper have 64 to 256


def keep_freed_memory() -> bool:
    """Let glibc keep freed memory, which the system would otherwise take back and clear page by page; tell if it did.

    A training step frees and allocates the same large tensors every time; measured in benchmarks/training_step.py. The
    process keeps its peak memory until it ends. Nothing but speed changes.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    trim_threshold, top_pad, mmap_threshold = -1, -2, -3  # M_* of malloc.h
    largest = 2**31 - 1
    return all((mallopt(mmap_threshold, 2**30), mallopt(trim_threshold, largest), mallopt(top_pad, 2**26)))


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error says that a device, or this machine, has no more memory."""
    said = ("DefaultCPUAllocator: can't allocate memory", "MPS backend out of memory")
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(text in str(error) for text in said)


def out_of_memory(
    *, tokens: int | None, img_size: tuple[int, int], batch_size: int, global_batch_size: int | None, precision: str
) -> str:
    """Return the sentence about a training step that had too little memory.

    Args:
        tokens: Tokens of an image; None where the model has none.
        img_size: (H, W) in pixels.
        batch_size: Images of one device in one step.
        global_batch_size: Images of an optimizer step, where the user fixed them.
        precision: Lightning's name of it.
    """
    height, width = img_size
    advice = []
    if many := (tokens or 0) > _MANY_TOKENS:
        advice.append(
            "make fewer tokens with a larger --model.kernel_size, more --model.conv_blocks (cct_7_7x2 has both) or a "
            "smaller --data.img_size"
        )
    if batch_size > 1:
        halve = "" if global_batch_size else "halve --data.batch_size and "
        advice.append(f"{halve}double --trainer.accumulate_grad_batches, which keeps the images of a step")
    if precision.startswith("32"):
        advice.append("use --trainer.precision bf16-mixed")
    if not advice:
        advice.append("train a smaller --model.arch")
    where = f" with {tokens:,} tokens of {height}x{width} pixels" if many else ""
    return f"Out of memory{where}: {', or '.join(advice)}."

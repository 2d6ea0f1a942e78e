"""What this process has of its machine: CPU cores, memory."""

import os
import sys

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]


def cores() -> int:
    """Return the number of CPU cores that this process may use: its affinity where the system tells, else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory() -> int | None:
    """Return the most memory that this process has used so far, in bytes; None where the system does not tell."""
    if resource is None:
        return None
    # Kilobytes, on a Mac bytes.
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def started_by_hand() -> bool:
    """Tell whether this is one of several processes started with torch's variables, but not by torchrun."""
    # Lightning gives the processes that it starts no RANK.
    return "TORCHELASTIC_RUN_ID" not in os.environ and {"RANK", "WORLD_SIZE", "LOCAL_RANK"} <= os.environ.keys()


def is_first_process() -> bool:
    """Tell whether this is the first of the processes that a launcher has started, as far as its variables tell."""
    return all(os.environ.get(name, "0") == "0" for name in ("RANK", "LOCAL_RANK", "SLURM_PROCID"))

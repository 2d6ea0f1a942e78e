"""How many CPU cores this process may use."""

import os


def cores() -> int:
    """Return the number of CPU cores that this process may use: its affinity where the system tells, else all."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1

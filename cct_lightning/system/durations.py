"""How a duration is printed, everywhere alike."""

import math


def duration(seconds: float | None) -> str:
    """Return seconds as h:mm:ss, or `unknown`."""
    if seconds is None or math.isinf(seconds):
        return "unknown"
    whole = int(seconds)
    return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"

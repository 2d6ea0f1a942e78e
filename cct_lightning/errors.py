"""What the command line prints as one sentence, without a traceback: bad input (exit code 2), failed training (1)."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input. The message is one sentence that says what is wrong and what to do."""


class TrainingFailed(RuntimeError):
    """Training cannot go on. The message is one sentence; the command line prints it without a traceback."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return a hint such as `` Did you mean 'cct_7_3x1'?``, or an empty string when nothing is near.

    Args:
        word: What was typed.
        choices: What would have been right.
    """
    found = difflib.get_close_matches(word, list(choices), n=1, cutoff=0.6)
    return f" Did you mean {found[0]!r}?" if found else ""

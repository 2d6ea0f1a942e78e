"""What the command line prints as one sentence, without a traceback: bad input (exit code 2), failed training (1)."""

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input. The message is one sentence that says what is wrong and what to do."""


class TrainingFailed(RuntimeError):
    """Training cannot go on. The message is one sentence; the command line prints it without a traceback."""


def nearest(word: str, choices: Iterable[str]) -> str:
    """Return a hint such as `` Did you mean 'cct_7_3x1'?``, or an empty string when nothing is near.

    What begins with the word comes first; capital letters do not matter, and the word itself is no hint.

    Args:
        word: What was typed.
        choices: What would have been right.
    """
    lower, others = word.lower(), [choice for choice in choices if choice != word]
    begun = [choice for choice in others if len(word) > 2 and choice.lower().startswith(lower)]
    scores = {choice: difflib.SequenceMatcher(None, choice.lower(), lower).ratio() for choice in begun or others}
    best = max(scores, key=lambda choice: scores[choice], default=None)  # the first of equals
    return f" Did you mean {best!r}?" if best is not None and (begun or scores[best] >= 0.6) else ""

"""A parser whose errors are one sentence. Light: no command pays for Lightning's import."""

import re
from typing import NoReturn

from jsonargparse import ArgumentParser

from cct_lightning.compat import option_names
from cct_lightning.errors import InputError, nearest


class OneSentence(ArgumentParser):
    """A parser whose errors are one sentence that names the nearest valid option."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise one sentence, which the command line prints."""
        if not self.exit_on_error:
            super().error(message, ex)  # an inner parser, of one type among several
        message = re.sub(r'Parser key "([^"]*)":', r"--\1:", message)
        message = re.sub(r"<class '([^']*)'>", r"\1", message).replace("typing.", "")
        message = re.sub(r"Group '([\w.]+)' does not accept option '([^']*)'", r"Unknown option: \1.\2", message)
        message = re.sub(r"Expected an? (.*?)\. Got value: (.*)", r"expected \1, got \2.", message, flags=re.DOTALL)
        message = " ".join(re.sub("unrecognized arguments?", "Unknown option", message).split())
        unknown = re.search(r"Unknown option: (?:--)?([\w.]+)", message)
        if unknown:
            message = message.rstrip(".") + "." + nearest(unknown[1], option_names(self))
        raise InputError(message) from ex

"""A parser whose errors are one sentence. Light: no command pays for Lightning's import."""

import re
from typing import NoReturn

from jsonargparse import ArgumentParser

from cct_lightning.compat import option_names
from cct_lightning.errors import InputError, nearest


def class_problem(message: str) -> str:
    """Return what is wrong with a class or its arguments, of jsonargparse's report about every type that it tried."""
    found = re.search(r"Problem with given class_path '([^']*)':\s*([^\n]*(?:(?<=:)\n[^\n]*)*)", message)
    if found:
        return f"{found[1]}: {' '.join(found[2].split())}"
    first = re.search(r"Errors:\s*- ([^\n]*)", message)
    return first[1].strip() if first else " ".join(message.split())


class OneSentence(ArgumentParser):
    """A parser whose errors are one sentence that names the nearest valid option."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise one sentence, which the command line prints."""
        if not self.exit_on_error:
            super().error(message, ex)  # an inner parser, of one type among several
        if "Problem with given class_path" in message:
            option = re.match(r'Parser key "([^"]*)":', message)
            message = (f"--{option[1]}: " if option else "") + class_problem(message)
        message = re.sub(r'Parser key "([^"]*)":', r"--\1:", message)
        message = re.sub(r"<class '([^']*)'>", r"\1", message).replace("typing.", "")
        message = re.sub(r"Group '([\w.]+)' does not accept option '([^']*)'", r"Unknown option: \1.\2", message)
        message = re.sub(r"Expected an? (.*?)\. Got value: (.*)", r"expected \1, got \2.", message, flags=re.DOTALL)
        message = " ".join(re.sub("unrecognized arguments?", "Unknown option", message).split())
        unknown = re.search(r"Unknown option: (?:--)?([\w.]+)", message)
        if unknown:
            message = message.rstrip(".") + "." + nearest(unknown[1], option_names(self))
        raise InputError(message) from ex

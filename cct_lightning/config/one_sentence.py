"""A parser whose errors are one sentence. Light: no command pays for Lightning's import."""

import re
from collections.abc import Iterable
from typing import NoReturn

from jsonargparse import ArgumentParser

from cct_lightning.compat import parser_actions
from cct_lightning.config.options import LINKED
from cct_lightning.errors import InputError, nearest


def class_problem(message: str) -> str:
    """Return what is wrong with a class or its arguments, of jsonargparse's report about every type that it tried."""
    found = re.search(r"Problem with given class_path '([^']*)':\s*([^\n]*(?:(?<=:)\n[^\n]*)*)", message)
    if found:
        return f"{found[1]}: {' '.join(found[2].split())}"
    first = re.search(r"Errors:\s*- ([^\n]*)", message)
    return first[1].strip() if first else " ".join(message.split())


def option_names(parser: ArgumentParser) -> list[str]:
    """Return the names of a parser's options, dotted."""
    return [action.dest for action in parser_actions(parser)]


def unknown_option(given: str, names: Iterable[str]) -> str:
    """Return the sentence about an option that there is not.

    Args:
        given: What was typed: the option, and perhaps its value.
        names: The options that there are.
    """
    found = re.match(r"(?:--)?([\w.-]*)", given)
    name = found[1].rstrip(".") if found else given
    known = [option for option in names if option not in LINKED]
    last = {option.rpartition(".")[2]: option for option in reversed(known)}  # of equals, the first option
    whole = [option for option in known if option.lower().endswith(f".{name.lower()}")]
    hint = f" Did you mean {whole[0]!r}?" if whole else nearest(name, known)
    if not hint and (near := re.search("'(.*)'", nearest(name, reversed(last)))):
        hint = f" Did you mean {last[near[1]]!r}?"
    return f"Unknown option: {given.rstrip('.')}.{hint}"


# jsonargparse's report on a plain value of a union: nothing but the types that it tried.
_UNION = re.compile(
    r"Does not validate against any of the Union subtypes Subtypes: \[(.*), ([\w.]+(?:\[[^\]]*\])?)\]"
    r" Errors:(?: - Expected (?:an? )?(?:(?! - | Given ).)+)+ Given value type: \S+ Given value: ?(.*)"
)
_SEQUENCE = re.compile(r"\b(?:collections\.abc\.)?(?:Sequence|Iterable|list|tuple)\b(?:\[(\w+)[^\]]*\])?")


def _expected(kinds: str, value: str) -> str:
    """Return what was expected and given, in the words of the command line and of YAML."""
    examples = {"int": "[1,2]", "float": "[0.5,0.5]"}
    kinds = re.sub(r"\bcct_lightning\.[\w.]*\.(\w+)", r"options of \1", kinds)
    kinds = _SEQUENCE.sub(lambda found: f"a list such as {examples.get(found[1], '[a,b]')}", kinds)
    return f"expected {kinds}, got {'null' if value.strip(' .') == 'None' else value or repr('')}."


class OneSentence(ArgumentParser):
    """A parser whose errors are one sentence that names the nearest valid option."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise one sentence, which the command line prints."""
        if not self.exit_on_error:
            super().error(message, ex)  # an inner parser, of one type among several
        if "Problem with given class_path" in message:
            option = re.match(r'Parser key "([^"]*)":', message)
            message = (f"--{option[1]}: " if option else "") + class_problem(message)
        message = " ".join(re.sub(r'Parser key "([^"]*)":', r"--\1:", message).split())
        message = re.sub(r"<class '([^']*)'>", r"\1", message).replace("typing.", "").replace("NoneType", "null")
        message = re.sub(r"Literal\[([^\]]*)\]", r"\1", message)
        message = re.sub(r"Group '([\w.]+)' does not accept option '([^']*)'", r"Unknown option: \1.\2", message)
        message = re.sub(r"Option '([^']*)' is not accepted", r"Unknown option: \1", message)
        message = _UNION.sub(lambda found: _expected(f"{found[1]} or {found[2]}", found[3]), message)
        message = re.sub(r"Expected an? (.*?)\. Got value: ?(.*)", lambda found: _expected(*found.groups()), message)
        message = re.sub(r"- Expected a path but .* either not accessible or invalid - ", "", message)
        message = re.sub(
            r"--([\w.]+): Unable to load config '(.*?)' - .*",
            lambda found: (
                f"--{found[1]} is a group of options: give one of them, such as --{self._one_of(found[1])}, "
                f"or a YAML file; {found[2]!r} is neither."
            ),
            message,
        )
        message = re.sub(
            r"argument ([\w.]+) --> ([\w.]+): .*", r"--\2 is taken from \1: it cannot be given. Leave it out.", message
        )
        message = re.sub("unrecognized arguments?", "Unknown option", message)
        before, unknown, given = message.partition("Unknown option: ")
        raise InputError(before + unknown_option(given, option_names(self)) if unknown else message) from ex

    def _one_of(self, group: str) -> str:
        return next(name for name in option_names(self) if re.fullmatch(rf"{group}\.\w+(?<!\.help)", name))

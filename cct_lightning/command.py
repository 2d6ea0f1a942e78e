"""From a typed function to a command: its signature gives the options, its docstring the help."""

import inspect
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, get_args, get_origin

import docstring_parser
from jsonargparse import ArgumentParser

from cct_lightning.errors import nearest


class OneSentence(ArgumentParser):
    """A parser whose errors are one sentence that names the nearest valid option, with exit code 2."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Print one sentence and exit."""
        message = re.sub(r'Parser key "([^"]*)":', r"--\1:", message)
        message = re.sub(r"<class '([^']*)'>", r"\1", message).replace("typing.", "")
        message = re.sub(r"Subcommand '\w+' does not accept option '([^']*)'", r"Unknown option: \1", message)
        message = re.sub(r"Expected an? (.*?)\. Got value: (.*)", r"expected \1, got \2.", message, flags=re.DOTALL)
        message = " ".join(re.sub("unrecognized arguments?", "Unknown option", message).split())
        unknown = re.search(r"Unknown option: (?:--)?([\w.]+)", message)
        if unknown:
            message = message.rstrip(".") + "." + nearest(unknown[1], self._known_options())
        print(f"{self.prog.split(' [')[0]}: {message}", file=sys.stderr)
        sys.exit(2)

    def _known_options(self) -> list[str]:
        actions = list(self._actions)
        if self._subcommands_action is not None:
            command = next((word for word in sys.argv[1:] if word in self._subcommands_action.choices), None)
            actions += self._subcommands_action.choices[command]._actions if command else []
        return [action.dest for action in actions]


def call(function: Callable[..., Any], args: Sequence[str], *, prog: str) -> Any:
    """Parse arguments for a function and call it.

    A parameter without a default is positional, a list of such takes one word or more; every other one is an option.

    Args:
        function: Typed, with a docstring in Google style.
        args: The words after the command.
        prog: The command, for help and errors.

    Returns:
        What the function returns.
    """
    doc = docstring_parser.parse(function.__doc__ or "")
    help_of = {item.arg_name: item.description for item in doc.params}
    parser = OneSentence(prog=prog, description=doc.short_description, allow_abbrev=False)
    many: list[str] = []
    for name, parameter in inspect.signature(function, eval_str=True).parameters.items():
        if parameter.default is parameter.empty and get_origin(parameter.annotation) in (list, Sequence):
            many.append(name)
    parser.add_function_arguments(function, skip=set(many), as_positional=True)
    for name in many:
        item = get_args(inspect.signature(function, eval_str=True).parameters[name].annotation)[0]
        parser.add_argument(name, type=item, nargs="+", help=help_of.get(name))
    parsed = parser.instantiate_classes(parser.parse_args(list(args)))
    return function(**parsed.as_dict())

"""From a typed function to a command: its signature gives the options, its docstring the help."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_args, get_origin

import docstring_parser

from cct_lightning.config.one_sentence import OneSentence


def call(function: Callable[..., Any], args: Sequence[str], *, prog: str) -> Any:
    """Parse the words after a command for a function, and return what the function returns.

    A parameter without a default is positional, every other one an option; a list takes one word or more, `*args` any
    number.

    Args:
        function: Typed, with a docstring in Google style.
        args: The words after the command.
        prog: The command, for help and errors.
    """
    doc = docstring_parser.parse(function.__doc__ or "")
    help_of = {item.arg_name: item.description for item in doc.params}
    parser = OneSentence(prog=prog, description=doc.short_description, allow_abbrev=False)
    parameters = inspect.signature(function, eval_str=True).parameters
    many = {name: p for name, p in parameters.items() if get_origin(p.annotation) in (list, Sequence)}
    words = next((name for name, p in parameters.items() if p.kind is p.VAR_POSITIONAL), None)
    parser.add_function_arguments(function, skip=set(many), as_positional=True)
    if words is not None:
        parser.add_argument(words, type=parameters[words].annotation, nargs="*", help=help_of.get(f"*{words}"))
    for name, parameter in many.items():
        item, text = get_args(parameter.annotation)[0], help_of.get(name)
        if parameter.default is parameter.empty:
            parser.add_argument(name, type=item, nargs="+", help=text)
        else:
            # Several words after the option, or the option several times.
            parser.add_argument(f"--{name}", type=item, nargs="+", action="extend", default=[], help=text)
    flags = [name for name, parameter in parameters.items() if parameter.annotation is bool]
    values = parser.instantiate(parser.parse_args(_spelled(args, flags))).as_dict()
    return function(*(values.pop(words) if words is not None else ()), **values)


def _spelled(args: Sequence[str], flags: Sequence[str]) -> list[str]:
    # --dry-run is --dry_run, and a flag alone is true.
    words: list[str] = []
    for word, following in zip(args, [*args[1:], ""], strict=False):
        option, equals, value = word.partition("=")
        if option.startswith("--"):
            option = "--" + option[2:].replace("-", "_")
            if option[2:] in flags and not equals and following.lower() not in ("true", "false"):
                equals, value = "=", "true"
        words.append(option + equals + value)
    return words

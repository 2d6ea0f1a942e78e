"""From a typed function to a command: its signature gives the options, its docstring the help."""

import inspect
from collections.abc import Callable, Sequence
from typing import Any, get_args, get_origin

import docstring_parser

from cct_lightning.commands.help.check import spelled
from cct_lightning.config.one_sentence import OneSentence


def function_parser(function: Callable[..., Any], *, prog: str) -> OneSentence:
    """Return the parser of a function's arguments.

    A parameter without a default is positional, every other one an option; a list takes one word or more, `*args` any
    number.

    Args:
        function: Typed, with a docstring in Google style.
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
    return parser


def call(function: Callable[..., Any], args: Sequence[str], *, prog: str) -> Any:
    """Parse the words after a command for a function, and return what the function returns; see `function_parser`."""
    parser = function_parser(function, prog=prog)
    parameters = inspect.signature(function, eval_str=True).parameters
    flags = [name for name, parameter in parameters.items() if parameter.annotation is bool]
    values = parser.instantiate(parser.parse_args(spelled(args, flags))).as_dict()
    words = next((name for name, p in parameters.items() if p.kind is p.VAR_POSITIONAL), None)
    return function(*(values.pop(words) if words is not None else ()), **values)

"""The command `cct`. This file imports nothing heavy: help and `cct models` answer at once.

    cct fit --config cifar10 --model.arch cct_7_3x1
"""  # fmt: skip

import atexit
import gc
import importlib
import os
import sys
from collections.abc import Sequence
from importlib.metadata import version
from types import ModuleType

from cct_lightning.config.recipes import recipes
from cct_lightning.errors import InputError, nearest
from cct_lightning.system.machine import is_first_process

# Command -> what it does, and the function behind it; the module is imported when the command runs.
COMMANDS: dict[str, tuple[str, str]] = {
    "new": ("create a small project of your own: a part, a recipe, an ablation, a test", "commands.new:new"),
    "fit": ("train, keep the best epoch, test it once", "commands.fit:fit_command"),
    "validate": ("evaluate a checkpoint on the validation split", "commands.evaluate:validate_command"),
    "test": ("evaluate a checkpoint on the test split", "commands.evaluate:test_command"),
    "predict": ("classify image files with a checkpoint", "commands.predict:predict"),
    "convert": ("convert weights between published, Lightning and safetensors files", "commands.convert:convert"),
    "export": ("export a checkpoint to ONNX or torch.export", "commands.export:export"),
    "publish": ("publish the model of a run to a folder or the Hugging Face Hub", "commands.publish:publish"),
    "explain": ("show on one page what a checkpoint predicts for images, and why", "commands.explain:explain"),
    "ablate": ("train a grid of runs on all GPUs or cores, resumably", "commands.ablate:ablate"),
    "compare": ("compare runs: mean and deviation over seeds, differences, tests", "commands.compare:compare"),
    "report": ("write one HTML page about runs, readable offline", "commands.report:report"),
    "dashboard": ("create a W&B workspace and report for an ablation", "commands.dashboard:dashboard"),
    "benchmark": ("images per second, forward and in training, beside a peer", "commands.benchmark:benchmark"),
    "completion": ("print what completes commands and options in bash or zsh", "commands.completion:completion"),
    "models": ("list the published variants with tokens, parameters and MACs", "commands.models:models_command"),
}

# Commands that parse their words themselves; the others get their options from the function's signature.
OWN_PARSER = ("fit", "validate", "test", "models")

_INTERRUPTED = 130  # the exit code that a shell shows for Ctrl-C
_CLOSED = 141  # the exit code that a shell shows for SIGPIPE

USAGE = """\
usage: cct COMMAND [options]

Train Compact Transformers (ViT-Lite, CVT, CCT) on small image data sets.

{commands}

recipes (--config NAME, or a YAML file; several may follow each other):
{recipes}

  cct fit --config digits                              a first run: real images, no download
  cct fit --config cifar10 --model.arch cct_7_3x1 --trainer.devices 8
  cct fit --config digits --print_config               every option and its value
  cct COMMAND --help                                   the options and their meaning"""


def _usage() -> str:
    width = max(map(len, [*COMMANDS, *recipes()])) + 2
    # The first line of a recipe says what it is.
    titles = {name: path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ") for name, path in recipes().items()}
    return USAGE.format(
        commands="\n".join(f"  {name:{width}}{text}" for name, (text, _) in COMMANDS.items()),
        recipes="\n".join(f"  {name:{width}}{text}" for name, text in titles.items()),
    )


def run(args: Sequence[str]) -> None:
    """Run one command.

    Raises:
        InputError: What the user asked for cannot be done.
    """
    command, *rest = args or ["--help"]
    if command == "help" and rest:
        run([rest[0], "--help", *rest[1:]])
    elif command in ("-h", "--help", "help"):
        print(_usage())
    elif command in ("--version", "-V"):
        print(f"cct_lightning {version('cct_lightning')}")
    elif command in COMMANDS:
        from cct_lightning.commands.help.check import check
        from cct_lightning.commands.help.pages import asked

        # Answered from a table, since the command itself imports torch.
        if (page := asked(command, rest)) is not None:
            print(page)
            return
        if is_first_process():  # the others would say the same once more
            check(command, rest)
        module, _, name = COMMANDS[command][1].partition(":")
        function = getattr(_import(f"cct_lightning.{module}"), name)
        if command in OWN_PARSER:
            function(rest)
        else:
            from cct_lightning.commands.parser import call

            result = call(function, rest, prog=f"cct {command}")
            if result is not None and not isinstance(result, dict):
                print(result)
    else:
        raise InputError(f"Unknown command {command!r}: choose {', '.join(COMMANDS)}.{nearest(command, COMMANDS)}")


def _import(name: str) -> ModuleType:
    """Import a module without looking for garbage meanwhile: imports leave hardly any, and it takes a fifth of them."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        if collecting:
            gc.enable()


def main() -> int:
    """Entry point of `cct`: bad input gives one sentence and exit code 2."""
    # At its end, Python would look for garbage in all that was imported: a second, and the memory is free anyway.
    atexit.register(gc.freeze)
    args = sys.argv[1:]
    try:
        # A user's own parts may lie in the working directory; last, so that nothing there hides an installed package.
        if (folder := _working_directory()) not in sys.path:
            sys.path.append(folder)
        run(args)
        sys.stdout.flush()
    except InputError as error:
        print(f"cct {args[0] if args else ''}: {error}".replace("cct :", "cct:"), file=sys.stderr)
        return 2
    except KeyboardInterrupt:  # wherever a command does not handle it
        return _INTERRUPTED
    except BrokenPipeError:
        if not _output_is_closed():
            raise
        return _CLOSED
    return 0


def _working_directory() -> str:
    try:
        return os.getcwd()
    except FileNotFoundError:
        raise InputError("The working directory has been deleted: change to one that exists.") from None


def _output_is_closed() -> bool:
    """Tell whether nobody reads what is printed, as in `cct --help | head`; then nothing more is printed."""
    try:
        print(flush=True)
    except BrokenPipeError:
        # Python flushes once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return True
    return False

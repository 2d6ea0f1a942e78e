"""What may be missing: a user's own code by its import path, such as `my_lab.GemPool`, and optional packages."""

import importlib
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cct_lightning.errors import InputError

_imported: set[str] = set()  # what this process was asked for by its user, and has imported


def import_path(path: str, what: str) -> Any:
    """Import a class, a function or an object.

    Args:
        path: Module and name, joined by dots.
        what: What it is for, for the message: `pool`, `data set`.

    Raises:
        InputError: No such module, or the module has no such name.
    """
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"Cannot import the {what} {path!r} ({error}): check the path and PYTHONPATH.") from error
    _imported.add(path)
    return found


def check_imports(paths: Iterable[str], source: Path, allow: Iterable[str] = ()) -> None:
    """Check that code which a file names may be imported: the file's author chose it, and importing runs it.

    Classes of torch.nn and torch.optim run nothing new, and what the user had this process import is the user's choice.

    Args:
        paths: The import paths in the file.
        source: The file, for the message.
        allow: Import paths that the user has repeated.

    Raises:
        InputError: The user has not repeated one of them.
    """
    allowed = {*allow, *_imported}
    own = [path for path in paths if path.rpartition(".")[0] not in ("torch.nn", "torch.optim")]
    if refused := sorted({path for path in own if path not in allowed}):
        raise InputError(
            f"{source} names code that loading it would run ({', '.join(refused)}): if you trust it, repeat it as "
            f"--allow_import {' '.join(refused)}, in Python as allow_import={refused}."
        )


def import_class(path: str, what: str, base: type) -> type:
    """Import a class that must be a subclass of `base`; see `import_path`.

    Raises:
        InputError: It cannot be imported, or is no such class.
    """
    found = import_path(path, what)
    if not (isinstance(found, type) and issubclass(found, base)):
        public = f"{base.__module__}.{base.__qualname__}".replace("torch.nn.modules.module.", "torch.nn.")
        raise InputError(f"The {what} {path!r} is not a subclass of {public}.")
    return found


def require_extra(extra: str, *modules: str, purpose: str) -> None:
    """Check that optional packages are installed, without importing them.

    Args:
        extra: The extra of cct_lightning that installs them.
        *modules: Their import names.
        purpose: What needs them, for the message: `--peer timm`, `cct ablate`.

    Raises:
        InputError: One is missing.
    """
    if missing := [name for name in modules if find_spec(name) is None]:
        names = " and ".join(missing).replace("_", "-")
        raise InputError(f"{purpose} needs {names}, not installed here: pip install 'cct_lightning[{extra}]'.")

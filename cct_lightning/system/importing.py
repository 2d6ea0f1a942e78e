"""What may be missing: a user's own code by its import path, such as `my_lab.GemPool`, and optional packages."""

import importlib
from importlib.util import find_spec
from typing import Any

from cct_lightning.errors import InputError


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
        return getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(f"Cannot import the {what} {path!r} ({error}): check the path and PYTHONPATH.") from error


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

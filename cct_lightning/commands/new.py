"""`cct new`: a small project of one's own, from the files in new_project/."""

import keyword
import re
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from cct_lightning.errors import InputError
from cct_lightning.system.atomic import replacing_folder

_TEMPLATE = Path(__file__).parent / "new_project"
_NAME = "my_lab"  # in the template, as a folder and in its files


def new(name: str, *, into: str = ".") -> str:
    """Create a project of your own: a part, a recipe, an ablation, a test, a notebook.

    Args:
        name: Name of the project and of its Python package, such as my_lab.
        into: Folder in which the project's folder is created.

    Raises:
        InputError: Not a name for a package, one that hides an installed package, the folder exists, or it cannot be
            written; nothing is left then.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_]*", name) or keyword.iskeyword(name):
        raise InputError(f"{name!r} cannot name a Python package: use small letters, digits and _, such as my_lab.")
    target = Path(into).expanduser() / name
    if target.exists():
        raise InputError(f"{target} exists: choose another name, or another folder with --into.")
    if name in sys.stdlib_module_names or name in packages_distributions():
        raise InputError(f"{name} is the name of an installed package, which it would hide: choose another name.")
    try:
        target.absolute().parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(target) as folder:
            _write(folder, name)
    except OSError as error:
        raise InputError(f"Cannot write {target} ({error.strerror or error}): choose another --into.") from error
    return f"{target} is ready:\n\n  cd {target}\n  make train    # its recipe, offline\n  make test"


def _write(folder: Path, name: str) -> None:
    for source in sorted(path for path in _TEMPLATE.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        # Packaging tools obey a file of this name.
        relative = str(source.relative_to(_TEMPLATE)).replace("gitignore", ".gitignore").replace(_NAME, name)
        path = folder / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source.read_text(encoding="utf-8").replace(_NAME, name), encoding="utf-8")

"""The user's own code is part of what run this is: digests of the modules that options name by import path.

Nothing is imported: a configuration may come from anywhere, and reading it runs no code.
"""

import ast
import hashlib
import importlib.util
import re
import sysconfig
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from cct_lightning.config.options import changes_results, flatten
from cct_lightning.errors import InputError

_IMPORT_PATH = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
_GROUPS = ("model.optim", "model.finetune", "data.augment", "data.mixing")  # the parser reads these from files, too
_PACKAGE = Path(__file__).parents[1]
_STDLIB = Path(sysconfig.get_path("stdlib"))


def import_paths(options: Mapping[str, Any]) -> set[str]:
    """Return all texts among nested options that could be import paths: of any that can change a result.

    Any, because the parser imports more than it then takes, such as a text in place of the options of a dataclass.
    """
    given = ((key, value) for key, value in flatten(options) if changes_results(key) or key.endswith(".class_path"))
    return {text for _, value in given for text in _texts(value) if _IMPORT_PATH.fullmatch(text)}


def own_code(options: Mapping[str, Any]) -> dict[str, str]:
    """Return module -> digest of its source and of the user's modules that it imports.

    Installed packages are not the user's own; their versions are in environment.json.

    Args:
        options: Nested options, of which those that can change a result are searched for import paths.
    """
    modules = sorted({path.rpartition(".")[0] for path in import_paths(options)})
    found: dict[str, str] = {}
    for module in modules:
        sources: dict[str, bytes] = {}
        _collect(module, sources)
        if sources:
            content = b"".join(f"{name} {len(sources[name])}\n".encode() + sources[name] for name in sorted(sources))
            found[module] = hashlib.sha256(content).hexdigest()[:12]
    return found


def check_plain(options: Mapping[str, Any], source: Path) -> None:
    """Check that the texts among the options in a file are names: the parser would read YAML and files, and import.

    Raises:
        InputError: One is not.
    """
    for key, value in flatten(options):
        for text in _texts(value):
            is_name = re.fullmatch(r"[\w.+ -]*", text, re.ASCII) and text == text.strip()
            if not is_name or (key in _GROUPS and Path(text or ".").is_file()):
                raise InputError(f"The checkpoint {source} is not used: its option {key} is {text[:40]!r}, no name.")


def changed_code(stored: Mapping[str, str] | None, options: Mapping[str, Any]) -> list[str]:
    """Return the modules of nested options whose digest is another than one that was kept."""
    return [module for module, digest in own_code(options).items() if (stored or {}).get(module, digest) != digest]


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _texts(item)


def _collect(module: str, sources: dict[str, bytes]) -> None:
    """Add the source of a module, and of what it imports, as far as it is the user's own."""
    path = _find(module)
    if path is None or module in sources:
        return
    _collect(module.rpartition(".")[0], sources)  # importing a module runs the packages that it is in
    if {"site-packages", "dist-packages"} & set(path.parts) or any(map(path.is_relative_to, (_PACKAGE, _STDLIB))):
        return
    sources[module] = path.read_bytes()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for name in _imports(sources[module], package):
        _collect(name, sources)


def _find(module: str) -> Path | None:
    """Return the source file of a module; None where it has none."""
    first, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(first)  # for a module in a package, this would import the package
    except ValueError:  # a script, or a module made by hand
        spec = None
    if spec is None:
        return None
    path = Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()]
    for name in rest:
        folders = [folder / name for folder in folders]
        files = (file for folder in folders for file in (folder / "__init__.py", folder.with_name(f"{name}.py")))
        path = next(filter(Path.is_file, files), None)
    return path


def _imports(source: bytes, package: str) -> Iterator[str]:
    try:
        nodes = list(ast.walk(ast.parse(source)))
    except (SyntaxError, ValueError):
        return  # importing it says so
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            parent = ".".join([*above, *filter(None, [node.module])])
            # Each name may be a module, too.
            yield from filter(None, [parent, *(f"{parent}.{alias.name}".lstrip(".") for alias in node.names)])

"""The house stays in order: private parts of libraries in one file, imports downward, rooms that say their purpose."""

import ast
import configparser
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "cct_lightning"
# Each room may import the rooms before it, and nobody those after it.
ROOMS = (
    "errors", "compat", "system", "models", "data", "training", "analysis", "config", "runs", "tracking", "slurm",
    "build", "api", "ablation", "comparison", "commands",
)  # fmt: skip
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "new_project" not in path.parts)


def room(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def name(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


# Documented in spite of their names: named tuples, and the end of a process without clean-up.
PUBLIC = {"_replace", "_asdict", "_exit"}


def private(word: str) -> bool:
    return word.startswith("_") and not (word.startswith("__") and word.endswith("__")) and word not in PUBLIC


def definitions(tree: ast.AST) -> set[str]:
    """Private names that a file defines itself: functions, classes, variables, attributes that it assigns."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            owner = node.value if isinstance(node, ast.Attribute) else None
            if owner is None or (isinstance(owner, ast.Name) and owner.id in ("self", "cls")):
                found.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.arg):
            found.add(node.arg)
    return found


def bases_of_libraries(tree: ast.AST) -> dict[str, set[str]]:
    """Class -> private methods that it overrides, for classes that derive from another file's."""
    own = {node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and any(ast.unparse(base).split("[")[0] not in own for base in node.bases):
            found[node.name] = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
    return found


def private_access(path: Path) -> Iterator[str]:
    tree = ast.parse(path.read_text())
    own = definitions(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and private(node.attr) and node.attr not in own:
            yield f"{name(path)}:{node.lineno} {ast.unparse(node)}"
        if isinstance(node, ast.ImportFrom) and node.module:
            words = [*node.module.split("."), *(alias.name for alias in node.names)]
            if any(private(word) for word in words):
                yield f"{name(path)}:{node.lineno} from {node.module} import {', '.join(words)}"
        if isinstance(node, ast.Import):
            for alias in node.names:
                if any(private(word) for word in alias.name.split(".")):
                    yield f"{name(path)}:{node.lineno} import {alias.name}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("getattr", "setattr"):
            word = node.args[1] if len(node.args) > 1 else None
            if isinstance(word, ast.Constant) and private(str(word.value)) and word.value not in own:
                yield f"{name(path)}:{node.lineno} {ast.unparse(node)}"


@pytest.mark.parametrize("path", FILES, ids=name)
def test_private_parts_of_libraries_are_touched_in_compat_alone(path: Path) -> None:
    if name(path) != "compat.py":
        assert list(private_access(path)) == []


def overridden(path: Path) -> Iterator[str]:
    """Private methods of a library's class that a class of ours overrides."""
    import importlib
    import inspect

    module = importlib.import_module("cct_lightning." + name(path).removesuffix(".py").replace("/", "."))
    for cls_name, methods in bases_of_libraries(ast.parse(path.read_text())).items():
        cls = getattr(module, cls_name, None)
        if not inspect.isclass(cls):
            continue
        for method in filter(private, methods):
            for base in cls.__mro__[1:]:
                if method in vars(base) and base.__module__.split(".")[0] != "cct_lightning":
                    yield f"{cls_name}.{method} of {base.__module__}.{base.__qualname__}"


@pytest.mark.parametrize("path", [p for p in FILES if "commands/guard" not in name(p)], ids=name)
def test_no_class_overrides_a_private_method_of_a_library(path: Path) -> None:
    if name(path) not in ("compat.py", "__main__.py") and bases_of_libraries(ast.parse(path.read_text())):
        assert list(overridden(path)) == []


@pytest.mark.parametrize("path", FILES, ids=name)
def test_imports_go_downward(path: Path) -> None:
    here = room(path)
    if here in ("__init__", "__main__"):
        return
    rank = ROOMS.index(here) if here in ROOMS else 0
    for node in ast.walk(ast.parse(path.read_text())):
        modules = [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
        modules += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for module in modules:
            words = module.split(".")
            if words[0] == "cct_lightning" and len(words) > 1:
                assert words[1] == here or ROOMS.index(words[1]) < rank, f"{name(path)}:{node.lineno} imports {module}"


def test_at_most_six_loose_modules() -> None:
    assert len(list(PACKAGE.glob("*.py"))) <= 6
    assert not [path for path in FILES if path.stem in ("utils", "util", "helpers", "common", "misc")]


def test_every_room_says_what_it_is_for() -> None:
    for folder in {path.parent for path in FILES} - {PACKAGE}:
        docstring = ast.get_docstring(ast.parse((folder / "__init__.py").read_text()))
        assert docstring, f"{folder.name}/__init__.py says nothing"


# Signatures of libraries, which our classes must keep.
FORWARDED = {
    "config/parser.py:__init__",
    "models/tokenizer.py:__init_subclass__",
    "runs/metrics_csv.py:log_hyperparams",
    "tracking/shield.py:__call__",
    "tracking/shield.py:shielded",
}


@pytest.mark.parametrize("path", FILES, ids=name)
def test_no_keywords_that_swallow_typos(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef) and node.args.kwarg is not None and node.args.kwarg.arg == "kwargs":
            unpacked = "Unpack" in ast.unparse(node.args.kwarg.annotation or ast.Constant(""))
            assert unpacked or f"{name(path)}:{node.name}" in FORWARDED or private(node.name)


def test_every_data_file_is_packaged() -> None:
    setup = configparser.ConfigParser()
    setup.read(PACKAGE.parent / "setup.cfg")
    packaged = {path for pattern in setup["options.package_data"]["cct_lightning"].split(",")
                for path in PACKAGE.glob(pattern.strip())}  # fmt: skip
    files = {path for path in PACKAGE.rglob("*.*") if path.is_file() and path.suffix not in (".py", ".pyc")}
    assert PACKAGE / "data/augment/autoaugment.yaml" in files
    assert files <= packaged

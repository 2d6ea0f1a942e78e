"""The one reader of YAML files: recipes, a run's config.yaml, grids."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from cct_lightning.errors import InputError

# libyaml's loader is ten times as fast as the one in Python; both run no code that a file may hold.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MERGE = "tag:yaml.org,2002:merge"  # `<<`, which may be there several times


def read_yaml(path: Path) -> Any:
    """Return the content of a YAML file, in any encoding of the standard: UTF-8, UTF-16 or UTF-32.

    Raises:
        InputError: It cannot be read, is no YAML, or has a key twice; the message names the line.
    """
    try:
        content = path.read_bytes()
        # JSON's rule is that of YAML: the first bytes tell the encoding.
        loader = _Loader(content.decode(json.detect_encoding(content)))
        node = loader.get_single_node()
        for key in _repeated(node, set(), ()):
            line = key.start_mark.line + 1
            raise InputError(f"{path} has the key {key.value!r} twice, again in line {line}: keep one of them.")
        return None if node is None else loader.construct_document(node)
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is no YAML in UTF-8 or UTF-16 ({error.reason}): save it as UTF-8.") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f" in line {mark.line + 1}" if mark else ""
        what = " ".join(part for part in (error.context, error.problem) if part)
        raise InputError(f"{path} is no YAML{where}: {what}.") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no YAML: {' '.join(str(error).split())}.") from error


def _repeated(node: yaml.Node | None, seen: set[int], above: tuple[int, ...]) -> Iterator[yaml.ScalarNode]:
    """Yield the keys that a mapping at or below a node has had before; PyYAML takes the last one without a word."""
    if node is not None and id(node) in above:
        raise yaml.MarkedYAMLError(problem="an alias is inside its own anchor", problem_mark=node.start_mark)
    if node is None or id(node) in seen:  # an alias
        return
    seen.add(id(node))
    above = (*above, id(node))
    if isinstance(node, yaml.MappingNode):
        known = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                if (key.tag, key.value) in known:
                    yield key
                known.add((key.tag, key.value))
            yield from _repeated(value, seen, above)
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _repeated(item, seen, above)

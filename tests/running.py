"""How the tests run `cct` as a user does."""

import dataclasses
from pathlib import Path


@dataclasses.dataclass
class Finished:
    """A run that ended well."""

    folder: Path
    output: str

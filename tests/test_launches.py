"""What a step asks of a GPU, on a pretended one: one device, nothing waited for, no more kernels than counted.

benchmarks/launches.py counts; results/launches.json is what it counted last: where it is more now, a change made it so.
"""

import json
from pathlib import Path
from typing import Any

import pytest

TABLE = Path(__file__).parents[1] / "benchmarks" / "results" / "launches.json"
BEFORE = {row["part"]: row for row in json.loads(TABLE.read_text())["rows"]}


@pytest.fixture(scope="module")
def counted() -> dict[str, dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(TABLE.parents[2]))
        from benchmarks.launches import count
    return {row["part"]: row for row in count()}


def test_every_part_is_in_the_table(counted: dict[str, dict[str, Any]]) -> None:
    assert counted.keys() == BEFORE.keys()


@pytest.mark.parametrize("part", BEFORE)
def test_no_more_than_counted(part: str, counted: dict[str, dict[str, Any]]) -> None:
    for what in ("kernels", "of them with int64"):
        assert counted[part][what] <= 1.05 * BEFORE[part][what], f"{what}: count again by benchmarks/launches.py"
    assert counted[part]["copies to the device"] <= BEFORE[part]["copies to the device"]
    assert counted[part]["waits"] == 0

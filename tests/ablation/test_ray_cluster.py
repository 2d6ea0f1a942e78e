"""`cct ablate` on a Ray cluster of two small machines, one of which is lost."""

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from small_grid import cct, environment, write_grid

from cct_lightning.ablation.grid import expand, read_grid
from cct_lightning.runs.folder import RunFolder

pytestmark = pytest.mark.slow

pytest.importorskip("ray", reason="Ray is not installed: pip install 'cct_lightning[ablate]'")


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    from ray.cluster_utils import Cluster

    for key, value in environment().items():
        monkeypatch.setenv(key, value)
    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    yield found
    found.shutdown()


def test_the_runs_of_a_lost_machine_go_on_elsewhere(cluster: Any, tmp_path: Path) -> None:
    lost = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    grid = write_grid(tmp_path, model__arch={"value": "cct_2_3x1"}, model__pool={"value": "mean"})
    logs = [tmp_path / "runs" / "small" / run.name / RunFolder.LOG for run in expand(read_grid(grid))]
    command = cct("ablate", "small.yaml", "--address", cluster.address)
    with (tmp_path / "out.txt").open("w") as out:
        engine = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=out, stderr=out)
    # One on each machine: a run gets no more cores than one of them has.
    while not all(path.exists() for path in logs):
        assert engine.poll() is None, (tmp_path / "out.txt").read_text()
        time.sleep(0.1)
    cluster.remove_node(lost, allow_graceful=False)
    assert engine.wait(400) == 0, (tmp_path / "out.txt").read_text()
    assert "2 runs: 2 finished" in (tmp_path / "out.txt").read_text()
    assert sorted(path.read_text().count("$ cct fit") for path in logs) == [1, 2]

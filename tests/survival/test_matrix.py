"""Every callback of ours x every interruption x one and two processes: always the end of the undisturbed run."""

import subprocess
from pathlib import Path

import pytest
from survival.matrix import INTERRUPTIONS, KINDS
from survival.processes import PATH, TESTS, assert_same_run, checkpoint, metrics, without_ends_of_epochs
from warm import python, warm_environment

pytestmark = pytest.mark.slow

ENDINGS = (*INTERRUPTIONS, "trained longer")
# Clocks, and what Lightning forgets when a run continues: the score that was saved last, of no further use.
DIFFER = {"elapsed", "seconds", "timed_images", "current_score"}


@pytest.fixture(scope="module", params=[1, 2], ids=["1 process", "2 processes"])
def runs(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of all runs with so many processes."""
    folder = tmp_path_factory.mktemp(f"matrix{request.param}")
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={request.param}"]
    words = [*(launcher if request.param > 1 else []), str(Path(TESTS) / "survival" / "matrix.py"), str(folder)]
    done = subprocess.run(
        [python(), *words],
        env=warm_environment(PYTHONPATH=PATH),
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return folder


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ENDINGS)
def test_it_ends_as_the_undisturbed_run(runs: Path, kind: str, ending: str) -> None:
    whole, parts = runs / kind / "undisturbed", runs / kind / ending
    # A run that steps end within an epoch sums up what it has of it, and the longer run the rest.
    kept = without_ends_of_epochs if (kind, ending) == ("limited by steps", "trained longer") else metrics
    # Weights, average, optimizer, schedule, best epoch, every row of metrics.csv.
    assert_same_run(whole, parts, rows=kept)
    states = [checkpoint(run / "last.ckpt")["callbacks"] for run in (whole, parts)]
    assert states[0].keys() == states[1].keys()
    for name in states[0]:
        one, two = ({key: value for key, value in state[name].items() if key not in DIFFER} for state in states)
        assert one == two, name
    rows = [row for row in metrics(whole) if row["train/loss_step"]]
    assert len(rows) == {"accumulated": 6, "limited by steps": 8}.get(kind, 10)
    assert all(row["train/grad_norm"] for row in rows)

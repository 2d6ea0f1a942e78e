"""What several tests share: the packed real data sets and a command line in this process."""

import importlib.util
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest
from small_grid import environment, write_grid
from warm import run_cct

from cct_lightning.ablation.grid import expand, read_grid
from cct_lightning.runs.lock import take_lock

# No test reaches for the network, an account or a user's cache, whatever the machine it runs on.
os.environ["WANDB_MODE"] = "offline"
os.environ.pop("WANDB_API_KEY", None)
# Workers of the suite share the cores: threads of each that wait for those of another would cost more than they bring.
os.environ.setdefault("OMP_NUM_THREADS", "1")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files that take long: begun last, one of them would keep all other workers waiting."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


@pytest.fixture(autouse=True)
def _process() -> Iterator[None]:
    """Undo what a run in this process leaves in it: environment, import path, and modules of a user's own."""
    # A process that finds this joins the W&B service of the process that set it, which may be gone.
    os.environ.pop("WANDB_SERVICE", None)
    environment, path = dict(os.environ), list(sys.path)
    yield
    if (wandb := sys.modules.get("wandb")) is not None:
        if wandb.run is not None:
            wandb.finish()
        wandb.teardown()  # settings that it keeps for the whole process: offline, the server of a test
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:] = path
    if (module := sys.modules.get("lightning_utilities.core.rank_zero")) is not None:
        module.rank_zero_only.rank = 0  # which a Trainer sets for its process, also a pretended one
    # `my_lab.py` of one test would hide the package `my_lab` of another.
    for name in [name for name in sys.modules if name.split(".")[0] == "my_lab"]:
        del sys.modules[name]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder with `unpack.py` and the packed CIFAR-10 and MNIST: CCT_TEST_DATA, or ../shared/data."""
    folder = Path(os.environ.get("CCT_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
    if not (folder / "unpack.py").exists():
        pytest.skip("the packed CIFAR-10 and MNIST are not on this machine (set CCT_TEST_DATA)")
    return folder


@pytest.fixture(scope="session")
def unpack(shared_data: Path) -> ModuleType:
    """The module that unpacks the real data sets."""
    spec = importlib.util.spec_from_file_location("unpack", shared_data / "unpack.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def cct(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run `cct` in this process; return exit code, stdout and stderr. For what ends before training starts."""
    from cct_lightning.commands.main import main

    def run(*args: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cct", *args])
        capsys.readouterr()
        try:
            code = main()
        except SystemExit as exit:
            code = int(exit.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return run


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The eight runs, one after the other, without the engine."""
    base = tmp_path_factory.getbasetemp()
    # Processes that share the tests (pytest-xdist) share the runs, too: one trains, the others wait.
    out = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "undisturbed"
    out.mkdir(exist_ok=True)
    while (lock := take_lock(out)) is None:
        time.sleep(0.5)
    with lock:
        if not (out / "done").exists():
            train_all(out)
            (out / "done").touch()
    return out


def train_all(out: Path) -> None:
    """Train the eight runs."""
    for run in expand(read_grid(write_grid(out))):
        words = [*run.arguments, f"--run_dir={out / run.name}", "--tracking.mode=disabled"]
        done = run_cct("fit", *words, cwd=out, environment=environment())
        assert done.returncode == 0, done.stderr

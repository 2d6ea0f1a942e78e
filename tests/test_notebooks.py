"""Every notebook is stored without outputs and runs from top to bottom, offline."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from warm import python, warm_environment

pytestmark = pytest.mark.slow

FOLDER = Path(__file__).parents[1] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


def test_there_are_notebooks() -> None:
    assert {"02_inside_cct", "03_augmentation", "04_attention"} <= {path.stem for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_stored_clean(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.get("outputs"), f"{path.name} stores outputs: clear them before you commit"
        assert cell.get("execution_count") is None, f"{path.name} stores execution counts: clear them"
    assert notebook.cells[0].cell_type == "markdown"
    assert str(FOLDER.parent) not in path.read_text()


# Whether all cells run does not depend on how long it trains; its kernel may have imported matplotlib before it begins.
CONFIG = """
c.InteractiveShellApp.matplotlib = "inline"
c.InteractiveShellApp.exec_lines = [
    "import cct_lightning, functools; __fit = cct_lightning.fit",
    "cct_lightning.fit = functools.wraps(__fit)(lambda *args, **options: __fit("
    "*args, **{name: min(value, 2) if name == 'max_epochs' else value for name, value in options.items()}))",
]
"""


def execute(path: Path, folder: Path) -> None:
    keep = os.environ.get("CCT_KEEP_NOTEBOOKS")  # to look at the figures
    if not keep:
        config = folder / "ipython" / "profile_default" / "ipython_kernel_config.py"
        config.parent.mkdir(parents=True)
        config.write_text(CONFIG)
    environment = {
        "CCT_DATA": folder / "data",
        "WANDB_MODE": "offline",
        "OMP_NUM_THREADS": "1",  # small batches gain little from a second thread, and lose much where cores are shared
        "http_proxy": "http://localhost:9",  # whatever asks the network is refused
        "https_proxy": "http://localhost:9",
        "IPYTHONDIR": folder / "ipython",
        "PYTHONPATH": os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]),
    }
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(folder)}})
    if not keep:
        client.create_kernel_manager().kernel_spec.argv[0] = python()
    client.execute(env=warm_environment(**{name: str(value) for name, value in environment.items()}))
    if keep:
        Path(keep, path.name).write_text(json.dumps(notebook, indent=1))


@pytest.fixture(scope="module")
def running(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[Path, "Future[None]"]]:
    """The notebooks that are asked for, two at a time."""
    items = [item for item in request.session.items if getattr(item, "originalname", "") == "test_runs"]
    paths = [item.callspec.params["path"] for item in items]  # type: ignore[attr-defined]
    python()  # starts the server, once
    with ThreadPoolExecutor(2) as pool:
        yield {path: pool.submit(execute, path, tmp_path_factory.mktemp(path.stem)) for path in paths}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path, running: dict[Path, "Future[None]"]) -> None:
    running[path].result()  # raises with the cell and its traceback

"""Every notebook is stored without outputs and runs from top to bottom, offline."""

import json
import os
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

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


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {
        "CCT_DATA": tmp_path / "data",
        "WANDB_MODE": "offline",
        "OMP_NUM_THREADS": "1",  # small batches gain little from a second thread, and lose much where cores are shared
        "http_proxy": "http://localhost:9",  # whatever asks the network is refused
        "https_proxy": "http://localhost:9",
        "IPYTHONDIR": tmp_path / "ipython",
        "PYTHONPATH": os.pathsep.join([str(FOLDER.parent), os.environ.get("PYTHONPATH", "")]),
    }.items():
        monkeypatch.setenv(name, str(value))
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()  # raises with the cell and its traceback
    if keep := os.environ.get("CCT_KEEP_NOTEBOOKS"):  # to look at the figures
        Path(keep, path.name).write_text(json.dumps(notebook, indent=1))

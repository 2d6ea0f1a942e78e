"""`cct new`: the project that it makes works at once."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from warm import python, warm_environment

pytestmark = pytest.mark.slow

CCT = Callable[..., tuple[int, str, str]]


@pytest.fixture
def project(cct: CCT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A new project of another name than the template's, as the working directory."""
    code, out, err = cct("new", "pixel_lab", "--into", str(tmp_path))
    assert code == 0, err
    assert f"cd {tmp_path / 'pixel_lab'}" in out
    monkeypatch.chdir(tmp_path / "pixel_lab")
    monkeypatch.syspath_prepend(tmp_path / "pixel_lab")
    # The Makefile runs `cct` and `python`: those of this environment.
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    for key, value in warm_environment().items():
        monkeypatch.setenv(key, value)
    return tmp_path / "pixel_lab"


def test_its_tests_pass(project: Path) -> None:
    done = subprocess.run(["make", "test"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout
    texts = [path.read_text() for path in project.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert not any("my_lab" in text for text in texts)


def test_its_recipe_and_its_ablation_would_start(project: Path, cct: CCT) -> None:
    code, out, err = cct("fit", "--config", "recipe.yaml", "--print_config")
    assert code == 0, err
    assert "pixel_lab.parts.TopPool" in out
    code, out, err = cct("ablate", "ablation.yaml", "--dry-run")
    assert code == 0, err
    assert "6 runs" in out


def test_its_notebook_runs(project: Path) -> None:
    path = project / "notebooks" / "explore.ipynb"
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(path.parent)}})
    client.create_kernel_manager().kernel_spec.argv[0] = python()
    client.execute()
    assert notebook.cells[2].outputs[-1].data["text/plain"].replace(".", "").isdigit()


def test_its_readme_names_files_that_exist(project: Path) -> None:
    text = (project / "README.md").read_text()
    for name in re.findall(r"^\| `(\S+)`", text, re.MULTILINE):
        assert (project / name).exists(), name


@pytest.mark.parametrize(("name", "reason"), [("My-Lab", "small letters"), ("class", "cannot name"), ("torch", "hide")])
def test_a_bad_name_is_refused(name: str, reason: str, cct: CCT, tmp_path: Path) -> None:
    code, _, err = cct("new", name, "--into", str(tmp_path))
    assert code == 2
    assert reason in err
    assert not list(tmp_path.iterdir())


def test_an_existing_folder_is_left_alone(cct: CCT, tmp_path: Path) -> None:
    (tmp_path / "my_lab").mkdir()
    code, _, err = cct("new", "my_lab", "--into", str(tmp_path))
    assert code == 2
    assert "exists" in err


@pytest.mark.parametrize("into", ["/proc/nowhere", "file", "file/below"])
def test_a_place_that_cannot_be_written(into: str, cct: CCT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    code, _, err = cct("new", "pixel_lab", "--into", into)
    assert code == 2
    assert re.fullmatch(rf"cct new: Cannot write {into}/pixel_lab \(.*\): choose another --into\.\n", err)
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]


def test_a_full_disk_leaves_nothing(cct: CCT, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write, written = Path.write_text, []

    def fail(path: Path, text: str, **options: str) -> int:
        written.append(path)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        return write(path, text, **options)

    monkeypatch.setattr(Path, "write_text", fail)
    code, _, err = cct("new", "pixel_lab", "--into", str(tmp_path))
    assert code == 2
    assert "No space left on device" in err
    assert not list(tmp_path.iterdir())

"""The package as others get it: a wheel that trains away from its source, a source distribution, declared imports."""

import ast
import os
import re
import subprocess
import sys
import tarfile
import zipfile
from email.parser import Parser
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
TOOLS = {"pytest", "pytest-xdist", "hypothesis", "psutil", "ruff", "mypy", "build", "pre-commit"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the source distribution, made from the files of this checkout."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    # A copy, since a build leaves folders in its source.
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode != 0:
        pytest.skip("git is needed to list the files of the source")
    for name in listed.stdout.splitlines():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes((ROOT / name).read_bytes())
    command = [sys.executable, "-m", "build", "--outdir", str(out), str(source)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (out / "files.txt").write_text(listed.stdout)
    return out


@pytest.fixture(scope="module")
def metadata(built: Path) -> dict[str, list[str]]:
    """The wheel's metadata, each field with its values."""
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        message = Parser().parsestr(archive.read(name).decode())
    fields = {key: [str(value) for value in message.get_all(key, [])] for key in message}
    return {**fields, "body": [message.get_payload()]}


def test_the_wheel_trains_away_from_its_source(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    site = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(site), str(wheel)]
    subprocess.run(install, check=True, capture_output=True)
    env = {**os.environ, "PYTHONPATH": str(site)}
    where = "import cct_lightning; print(cct_lightning.__file__)"
    done = subprocess.run([sys.executable, "-c", where], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert Path(done.stdout.strip()).is_relative_to(site)
    words = ["fit", "--config", "digits", "--trainer.max_epochs", "1", "--model.optim.warmup_epochs", "0.5"]
    done = subprocess.run(
        [str(site / "bin" / "cct"), *words, "--run_dir", "run"], cwd=tmp_path, env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "test accuracy" in done.stdout


def test_the_source_distribution_holds_every_file(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        held = {name.partition("/")[2] for name in archive.getnames()}
    assert set((built / "files.txt").read_text().splitlines()) - held == set()


def test_the_metadata_is_complete(metadata: dict[str, list[str]]) -> None:
    assert metadata["License-Expression"] == ["Apache-2.0"]
    assert any(url.startswith("Paper, https://") for url in metadata["Project-URL"])
    assert {"Typing :: Typed", "Operating System :: POSIX :: Linux"} <= set(metadata["Classifier"])
    # On an index a link relative to the repository leads nowhere.
    links = re.findall(r"\]\(([^)]+)\)", metadata["body"][0])
    assert links
    assert all(link.startswith("https://") for link in links)


def test_an_install_brings_no_test_tools(metadata: dict[str, list[str]]) -> None:
    runtime = {_name(line) for line in metadata["Requires-Dist"] if "extra ==" not in line}
    assert "torch" in runtime
    assert not runtime & TOOLS
    assert {_name(line) for line in metadata["Requires-Dist"] if 'extra == "dev"' in line} >= TOOLS


def _name(requirement: str) -> str:
    match = re.match(r"[\w.-]+", requirement)
    assert match is not None
    return match[0].lower().replace("_", "-")


def test_every_import_is_declared() -> None:
    declared = {_name(line) for line in (ROOT / "requirements.txt").read_text().splitlines() if line[:1].isalpha()}
    extras = {_name(line.strip()) for line in re.findall(r"[\w-]+(?:\[\w+\])?>=\S+", (ROOT / "setup.cfg").read_text())}
    known = packages_distributions()
    for path in (p for p in (ROOT / "cct_lightning").rglob("*.py") if "new_project" not in p.parts):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            for top in {name.partition(".")[0] for name in names} - {"cct_lightning", *sys.stdlib_module_names}:
                owners = {_name(owner) for owner in known.get(top, [top])}
                assert owners & (declared | extras), f"{path.relative_to(ROOT)} imports {top}, which is not declared"


def test_the_workflow_and_the_hooks_run_the_commands_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text())
    assert set(workflow) >= {"name", "jobs"}
    for job in workflow["jobs"].values():
        for command in (step["run"] for step in job["steps"] if "run" in step):
            program, target = command.split()
            assert program == "make"
            assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    for hook in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        assert hook["entry"].split()[0] in TOOLS


def test_the_versions_agree() -> None:
    (version,) = re.findall(r"^version = (.+)$", (ROOT / "setup.cfg").read_text(), re.MULTILINE)
    assert str(yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]) == version
    assert f"## {version}" in (ROOT / "CHANGELOG.md").read_text()

"""docs/wandb.md: its commands, typed as they stand there with the real client, against a stand-in of the server."""

import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from wandb_server import ENTITY, WandbServer
from warm import python, warm_environment

from cct_lightning.runs.folder import RunFolder

pytestmark = pytest.mark.slow

PAGE = (Path(__file__).parents[2] / "docs" / "wandb.md").read_text()
LINES = [
    line for block in re.findall(r"^```bash\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE) for line in block.splitlines()
]


def line(start: str) -> str:
    """The first command that begins so."""
    return next(found for found in LINES if found.startswith(start))


class Page:
    """A folder in which commands of the page are typed, and the server that they talk to."""

    def __init__(self, folder: Path, server: WandbServer) -> None:
        self.folder, self.server = folder, server

    def type(self, words: str, **variables: str) -> str:
        program, *rest = shlex.split(words, comments=True)
        rest = [str(path) for word in rest for path in (sorted(self.folder.glob(word)) if "*" in word else [word])]
        module = {"cct": "cct_lightning", "wandb": "wandb"}[program]
        environment = warm_environment(self.server.environment(HOME=str(self.folder), **variables))
        command = [python(), "-m", module, *rest]
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with WandbServer() as server:
        folder = tmp_path_factory.mktemp("page")
        (folder / "my_lab.py").write_text("# code of one's own")
        (folder / ".venv" / "site-packages").mkdir(parents=True)
        (folder / ".venv" / "site-packages" / "theirs.py").write_text("# code that is installed")
        yield Page(folder, server)


@pytest.fixture(scope="module")
def output(page: Page) -> str:
    """What the first run prints, with all that can be turned on."""
    more = line("cct fit --config digits --tracking.watch").partition("digits ")[2]
    return page.type(f"{line('cct fit')} {more} --tracking.logger [wandb,tensorboard] --trainer.limit_train_batches 10")


def test_the_run_is_where_its_lines_say(page: Page, output: str) -> None:
    [run] = page.server.runs.values()
    address = f"{page.server.url}/{ENTITY}/mine/runs/{run['name']}"
    assert f"\nW&B run {address}\n" in output
    assert output.splitlines()[-1] == f"W&B run                   {address}"
    assert (run["state"], run["project"], run["group"], run["jobType"]) == ("finished", "mine", "first", "fit")
    assert page.server.unknown == []


def test_the_page_names_what_is_logged(page: Page, output: str) -> None:
    [run] = page.server.runs.values()
    rows = run["history"]
    table = PAGE.partition("| key |")[2].partition("\n\n")[0]
    named = set(re.findall(r"`([\w/]+)`", table)) - {"lr/GROUP"} - set(re.findall(r"`(mixup|ema_decay)`", table))
    logged = {key for row in rows for key in row}
    numbers = {key for row in rows for key, value in row.items() if isinstance(value, float | int) and key[0] != "_"}
    assert named <= logged
    assert numbers - named == {"epoch", "trainer/global_step", "train/images_seen"}
    for key in ("train/loss", "train/acc", "val/acc", "train/images_per_s"):
        assert [row["epoch"] for row in rows if key in row] == [1, 2, 3], key
    assert [row["epoch"] for row in rows if "test/acc" in row] == [3]
    assert {"gradients/head.weight", "parameters/head.weight"} & logged or any("gradients/" in key for key in logged)
    ours = RunFolder(page.folder / "run").summary()
    assert {key: run["summary"][key] for key in ours} == ours
    assert (ours["steps"], ours["epochs"], ours["seed"]) == (30, 3, 0)
    best = max((row for row in rows if "val/acc" in row), key=lambda row: (row["val/acc"], row["epoch"]))
    assert (ours["best_epoch"], ours["best_val/acc"]) == (best["epoch"], best["val/acc"])


def test_the_config_is_resolved_and_nested(page: Page, output: str) -> None:
    [run] = page.server.runs.values()
    config = {key: entry["value"] for key, entry in run["config"].items()}
    assert config["model"]["pool"] == "seqpool"
    assert config["environment"]["command"].startswith("__main__.py fit --config digits --trainer.max_epochs 3")
    assert "git_commit" in config["environment"]
    assert yaml.safe_load((page.folder / "run" / "config.yaml").read_text())["model"] == config["model"]


def test_artifacts_pictures_code_and_metadata_arrive(page: Page, output: str) -> None:
    [run] = page.server.runs.values()
    found = {part["name"]: part for part in page.server.artifacts}
    assert {part["state"] for part in page.server.artifacts} == {"COMMITTED"}
    model = [part for part in page.server.artifacts if part["name"] == f"model-{run['name']}"]
    assert [sorted(part["aliases"]) for part in model] == [["last", "latest"], ["best", "latest"]]
    [code] = [part for name, part in found.items() if name.startswith("source-")]
    assert list(code["files"]) == ["my_lab.py"]
    assert "wandb-metadata.json" in run["files"]
    assert any(name.startswith("media/images/val/reliability") for name in run["files"])
    assert list((page.folder / "run" / "tensorboard").glob("events.*"))


def test_an_offline_run_is_synced(page: Page, output: str) -> None:
    said = page.type(
        f"{line('cct fit --config digits --trainer.max_epochs 3 --tracking.mode')} --tracking.project mine"
    )
    printed = re.search(r"W&B is offline: upload later with (wandb sync .*)", said)
    assert printed is not None
    before = set(page.server.runs)
    page.type(line("wandb sync"))
    [new] = set(page.server.runs) - before
    assert page.server.runs[new]["state"] == "finished"
    assert (
        f"wandb sync offline/wandb/{next((page.folder / 'offline' / 'wandb').glob('offline-run-*')).name}" == printed[1]
    )
    assert [row["epoch"] for row in page.server.runs[new]["history"] if "val/acc" in row] == [1, 2, 3]


@pytest.mark.parametrize(
    "command", [found for found in LINES if found.startswith("cct compare") and "SWEEP" not in found]
)
def test_runs_are_compared(
    command: str,
    page: Page,
    output: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    cct: Callable[..., tuple[int, str, str]],
) -> None:
    for key, value in page.server.environment(XDG_CACHE_HOME=str(tmp_path)).items():
        monkeypatch.setenv(key, value)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    code, out, err = cct(*command.split()[1:])
    assert code == 0, err
    [run] = [run for run in page.server.runs.values() if run.get("group") == "first"]
    assert f"{100 * run['summary']['test/acc']:.2f}" in out


@pytest.mark.parametrize("command", [found for found in LINES if found.startswith("cct dashboard")])
def test_dashboards_are_built(command: str, cct: Callable[..., tuple[int, str, str]]) -> None:
    pytest.importorskip("wandb_workspaces", reason="not installed: pip install 'cct_lightning[dashboard]'")
    code, out, err = cct(*command.removesuffix(" --dry-run").split()[1:], "--dry-run")
    assert code == 0, err
    assert '"workspace"' in out


def test_the_lines_about_sweeps_are_those_of_the_test() -> None:
    assert [found for found in LINES if " sweep " in found or " agent " in found] == [
        "wandb sweep grid.yaml", "CUDA_VISIBLE_DEVICES=0 wandb agent team/mine/SWEEP",
    ]  # fmt: skip


@pytest.mark.parametrize("command", [found for found in LINES if found.startswith("cct fit")])
def test_options_of_the_page_are_known(command: str, cct: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = cct(*command.split()[1:], "--print_config")
    assert code == 0, err
    assert "tracking" in yaml.safe_load(out)

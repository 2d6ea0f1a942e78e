"""README and docs/ are never wrong: commands parse, Python runs, numbers are computed, paths exist.

The pages about ablations, several GPUs and W&B have tests of their own for what they start.
"""

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import yaml
from PIL import Image
from warm import run_cct

from cct_lightning.commands.main import COMMANDS
from cct_lightning.models.arch import parse_arch
from cct_lightning.models.complexity import budget

ROOT = Path(__file__).parents[1]
PAGES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
}
TESTED_ELSEWHERE = ("docs/ablations.md", "docs/grids.md", "docs/several_gpus.md", "docs/wandb.md")
README = PAGES["README.md"]


def blocks(language: str, pages: Iterable[str] = PAGES) -> list[str]:
    """The blocks of a language, each once."""
    found = (re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.DOTALL | re.MULTILINE) for page in pages)
    return list(dict.fromkeys(block for page in found for block in page))


def lines(pages: Iterable[str]) -> list[str]:
    """The commands of pages, each once."""
    all_lines = (line.split("  #")[0].strip() for block in blocks("bash", pages) for line in block.splitlines())
    return list(dict.fromkeys(line for line in all_lines if line))


HERE = [page for page in PAGES if page not in TESTED_ELSEWHERE]
COMMAND_LINES = lines(HERE)


@pytest.mark.parametrize("line", [line for line in COMMAND_LINES if line.startswith("make")])
def test_make_target_exists(line: str) -> None:
    done = subprocess.run([*shlex.split(line), "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a short run."""
    cwd = tmp_path_factory.mktemp("short")
    short = ["--trainer.max_epochs", "2", "--model.optim.warmup_epochs", "1"]
    done = run_cct("fit", "--config", "digits", *short, "--run_dir", "run", cwd=cwd)
    assert done.returncode == 0, done.stderr
    return cwd / "run"


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what the commands name: a recipe, a part, images."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_recipe.yaml").write_text("base: cifar10\nmodel:\n  arch: cct_2_3x2\n")
    (tmp_path / "IMAGES").mkdir()
    Image.new("L", (8, 8), 128).save(tmp_path / "IMAGES" / "grey.png")
    for source in blocks("python", HERE):
        if name := re.match(r"# (\w+\.py)\n", source):
            (tmp_path / name[1]).write_text(source)
    return tmp_path


@pytest.mark.parametrize("line", [line for line in COMMAND_LINES if line.startswith("cct fit")])
def test_fit_command_parses(line: str, cct: Callable[..., tuple[int, str, str]], workplace: Path) -> None:
    words = line.split()[1:]
    code, out, err = cct(*words, *([] if "--help" in words else ["--print_config"]))
    assert code == 0, err
    if "--help" not in words:
        assert {"model", "data", "trainer"} <= set(yaml.safe_load(out))


OTHERS = [line for line in COMMAND_LINES if line.startswith("cct ") and not line.startswith("cct fit")]


@pytest.mark.parametrize("line", [line for line in OTHERS if "runs/" not in line and "--set" not in line])
def test_command_runs(line: str, cct: Callable[..., tuple[int, str, str]], workplace: Path, run_dir: Path) -> None:
    code, _, err = cct(*line.replace("RUN_DIR", str(run_dir)).split()[1:])
    assert code == 0, err
    for name in re.findall(r"\S+\.(?:csv|html|onnx|safetensors)", line):
        assert (workplace / name).stat().st_size > 0


def test_commands_on_several_runs(cct: Callable[..., tuple[int, str, str]], workplace: Path, run_dir: Path) -> None:
    shutil.copytree(run_dir, workplace / "runs" / "tokenizer_x_pool" / "run")
    lines = [line for line in OTHERS if line.startswith(("cct compare", "cct report"))]
    assert len(lines) == 2
    for line in lines:
        code, _, err = cct(*line.split()[1:])
        assert code == 0, f"{line}: {err}"
    assert "tokenizer_x_pool" in recipes_of_ablations()


def recipes_of_ablations() -> set[str]:
    return {path.stem for path in (ROOT / "cct_lightning" / "configs" / "ablations").glob("*.yaml")}


def test_own_part_trains(cct: Callable[..., tuple[int, str, str]], workplace: Path) -> None:
    (line,) = (line for line in COMMAND_LINES if line.startswith("cct fit") and "my_lab" in line)
    short = ["--trainer.max_epochs", "3", "--trainer.limit_train_batches", "2", "--tracking.mode", "disabled"]
    code, out, err = cct(*line.split()[1:], *short, "--run_dir", "run")
    assert code == 0, err
    config = yaml.safe_load((workplace / "run" / "config.yaml").read_text())
    assert config["model"]["pool"] == {"class_path": "my_lab.TopPool", "init_args": {"k": 2}}
    assert "test accuracy" in out


def test_every_command_is_one_of_ours() -> None:
    for line in lines(PAGES):
        program, command = re.sub(r"^[A-Z_]+=\S+ ", "", line).split()[:2]
        assert program in ("make", "cct", "wandb", "pip", "sbatch", "torchrun", "ray", "cp"), line
        assert program != "cct" or command in COMMANDS, line


@pytest.mark.parametrize("source", blocks("python", HERE))
def test_python_runs(source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(source, "page", "exec"), {"__name__": "page"})


def test_table_of_variants() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \| (\d+)x\d+ \| .*? \| (\d+) \| ([\d.]+) M \| ([\d.]+) G \|$",
        PAGES["docs/models.md"],
        re.MULTILINE,
    )
    assert len(rows) >= 6
    for name, size, tokens, params, macs in rows:
        arch = parse_arch(name)
        cost = budget(arch)
        printed = (int(size), int(tokens), params, macs)
        assert printed == (arch.img_size[0], cost.tokens, f"{cost.params / 1e6:.3f}", f"{cost.macs / 1e9:.3f}"), name


def results(name: str) -> dict[str, Any]:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def label(row: dict[str, Any]) -> str:
    precision = f", {row['our precision']}" if "our precision" in row else ""
    return f"{next(iter(row.values()))}{precision}"


def test_speed_is_what_was_measured() -> None:
    form = r"^\| \[(.+?)\]\(../benchmarks/results/(\w+)\.md\) \| (.+?) \| ([\d.]+) \|$"
    rows = re.findall(form, PAGES["docs/speed.md"], re.MULTILINE)
    assert len(rows) >= 8
    for what, name, peer, times in rows:
        (row,) = (row for row in results(name)["rows"] if what == label(row))
        key = {"torchvision": "times torchvision v2", "kornia": "times kornia"}.get(peer, "times")
        found = row.get(key, row.get("times faster", row.get("ratio")))
        assert float(times) == found, (what, times, found)


@pytest.mark.parametrize("more", ["", " --trainer.max_epochs=50 --data.augment=basic"])
def test_recipe_on_a_cpu_is_what_was_measured(more: str) -> None:
    (row,) = (row for row in results("ladder")["rows"] if row["command"] == f"`cct fit --config=cifar10_cpu{more}`")
    accuracy, runs = re.fullmatch(r"(.+) \(n=(\d)\)", row["ours, %"]).groups()  # type: ignore[union-attr]
    recipe = (ROOT / "cct_lightning" / "configs" / "cifar10_cpu.yaml").read_text()
    for text in (README, recipe):
        assert f"{accuracy} %" in text
        assert f"{runs} seeds" in text
        assert f"{row['minutes a run']} minutes" in text


def test_accuracy_is_what_was_measured() -> None:
    section = PAGES["docs/accuracy.md"]
    keys = ("model", "data", "epochs", "ours, %", "minutes a run", "published, %", "command")
    measured = [row for row in results("ladder")["rows"] if row["ours, %"] != "not run"]
    table = [line for line in section.splitlines() if line.startswith("| ")][1:]
    assert table == [f"| {' | '.join(str(row[key]) for key in keys)} |" for row in measured]
    accuracy = {row["model"]: row["ours, %"].split(" (")[0] for row in measured if row["data"] == "cifar10"}
    prose = " ".join(section.partition("\n| ")[0].split())
    base = "CCT-2/3x2, 50 epochs"
    theirs = {row["crop"]: row["test, %"] for row in results("reference_script")["rows"] if row["epochs"] == 50}
    assert f"reaches {theirs['yes']} %, and `cct fit` {accuracy[base]} % as the recipe is" in prose
    assert f"without the random crop, which the script did not have at first, {theirs['no']} and" in prose
    assert f"and {accuracy[f'{base}, no crop']} ({accuracy['CCT-2/3x2, no crop']} after all 200 epochs)" in prose
    assert f"{accuracy[f'{base}, dropout']} and {accuracy[f'{base}, float32']} after 50 epochs" in prose
    (all_images,) = (row for row in measured if row["model"] == "CCT-2/3x2, all 50,000 images")
    gap = all_images["published, %"] - float(accuracy[all_images["model"]])
    assert f"stays {gap:.1f} points below" in prose
    assert f"reaches {accuracy['CCT-2/3x2, Muon']} %" in prose


def test_paths_exist() -> None:
    (tree,) = blocks("text", ["docs/design.md"])
    folder = Path()
    for line in tree.splitlines():
        for name in re.match(r" *([\w./]+(?:, [\w./]+)*)", line)[1].split(", "):  # type: ignore[index]
            folder = Path() if not line.startswith(" ") else folder
            path = folder / name
            assert (ROOT / path).exists(), path
            if not line.startswith(" "):
                folder = path


def anchors(page: Path) -> list[str]:
    headings = (line.lstrip("# ").lower() for line in page.read_text().splitlines() if line.startswith("#"))
    return [re.sub(r"[^\w -]", "", heading).replace(" ", "-") for heading in headings]


@pytest.mark.parametrize("page", PAGES)
def test_links_and_paths_exist(page: str) -> None:
    for link in re.findall(r"\]\(((?!http)[^)]+)\)", PAGES[page]):
        path, _, heading = link.partition("#")
        target = (ROOT / page).parent / path
        assert target.exists(), link
        assert not heading or heading in anchors(target), link
    for path in re.findall(r"`((?:cct_lightning|benchmarks|docs|tests|notebooks)/[\w./]*)`", PAGES[page]):
        assert (ROOT / path).exists(), path

"""What a grid file can say beside lists of values, and that W&B's agents run the same."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from small_grid import GRID
from wandb.sdk.launch.sweeps.utils import create_sweep_command_args

from cct_lightning.ablation.check import check_runs
from cct_lightning.ablation.grid import OURS, Grid, expand, override, read_grid
from cct_lightning.ablation.plan import make_plan
from cct_lightning.ablation.to_wandb import write_sweep
from cct_lightning.ablation.trial import job_of
from cct_lightning.commands.ablate import ablate
from cct_lightning.config.parser import parse, plain
from cct_lightning.config.recipes import options_of
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.errors import InputError

Cct = Callable[..., tuple[int, str, str]]
SHORT = {"trainer.max_epochs": {"value": 1}, "model.optim.warmup_epochs": {"value": 0}}
SMALL = {"name": "small", "model.embed_dim": 64, "model.depth": 1}
BIG = {"name": "big", "model.embed_dim": 128, "model.depth": 3, "data.mixing": None}
PART = {"class_path": "my_lab.Scaled", "init_args": {"by": 2.0}}
SCALED = """
from cct_lightning.models.pooling import MeanPool


class Scaled(MeanPool):
    def __init__(self, *, embed_dim, by=1.0):
        super().__init__(embed_dim=embed_dim)
        self.by = by
"""
# The fields of W&B's schema (the package `sweeps` 0.3) that a grid may have.
WANDB = {"program", "command", "method", "parameters", "name", "description", "metric", "project", "entity", "run_cap"}


def grid(folder: Path, parameters: Mapping[str, Any], **fields: Any) -> Grid:
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump({**GRID, "parameters": {**parameters, **SHORT}, **fields}, sort_keys=False))
    return read_grid(path)


def names(grid: Grid) -> list[str]:
    return [run.name for run in expand(grid)]


def results(words: list[str]) -> frozenset[tuple[str, Any]]:
    return ResolvedConfig.resolve(plain(parse("fit", words))).results_key


def agents_words(path: Path) -> list[list[str]]:
    """The words that W&B's agents give to `cct fit` for a grid: it takes every combination of the lists."""
    entries = read_yaml_parameters(path)
    full = expand(Grid(name="", file="", command=("--config=digits",), parameters=entries))
    return [
        [
            *run.command,
            *create_sweep_command_args({"args": {k: {"value": v} for k, v in run.parameters.items()}})["args"],
        ]
        for run in full
    ]


def read_yaml_parameters(path: Path) -> dict[str, tuple[Any, ...]]:
    content = yaml.safe_load(path.read_text())
    assert set(content) <= WANDB
    return {key: tuple(entry.get("values") or [entry["value"]]) for key, entry in content["parameters"].items()}


def test_linked_choices_are_called_by_their_names(tmp_path: Path) -> None:
    found = grid(tmp_path, {"size": {"values": [SMALL, BIG]}, "model.pool": {"values": ["mean", "seqpool"]}})
    assert names(found) == [
        "size=small-pool=mean",
        "size=small-pool=seqpool",
        "size=big-pool=mean",
        "size=big-pool=seqpool",
    ]
    run = expand(found)[2]
    assert run.parameters["model.depth"] == 3
    assert "size" not in run.parameters
    assert options_of(run.arguments)["data"]["mixing"] is None


def test_nested_parameters_are_those_with_dots(tmp_path: Path) -> None:
    pools = {"values": ["mean", "max"]}
    nested = {"model": {"parameters": {"pool": pools, "optim": {"parameters": {"lr": {"value": 0.001}}}}}}
    flat = {"model.pool": pools, "model.optim.lr": {"value": 0.001}}
    assert expand(grid(tmp_path, nested)) == expand(grid(tmp_path, flat))


def test_parts_with_arguments_and_null(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_lab.py").write_text(SCALED)
    monkeypatch.syspath_prepend(tmp_path)
    three = {"name": "three", "model.pool": "my_lab.Scaled", "model.pool.by": 3.0}
    two = {"name": "two", "model.pool": PART}
    runs = expand(grid(tmp_path, {"pooling": {"values": [two, three]}, "data.mixing": {"values": [None]}}))
    checked = check_runs(runs, prepare=False)
    assert [each.config.flat["model.pool"]["init_args"] for each in checked] == [{"by": 2.0}, {"by": 3.0}]
    (run,) = expand(grid(tmp_path, {"model.pool": {"values": [PART]}, "model.position": {"values": [None]}}))
    assert results(run.arguments) == results(
        [*run.command, *SHORT_WORDS, "--model.pool=my_lab.Scaled", "--model.pool.by=2"]
    )
    assert names(grid(tmp_path, {"model.pool": {"values": [None, PART]}}))[0] == "pool=null"


SHORT_WORDS = [f"--{key}={entry['value']}" for key, entry in SHORT.items()]


def test_combinations_are_excluded(tmp_path: Path) -> None:
    both = {"size": {"values": [SMALL, BIG]}, "model.pool": {"values": ["mean", "max", PART]}}
    found = grid(tmp_path, both, exclude=[{"size": "big", "pool": "mean"}, {"model.pool": PART}], seeds=1)
    assert names(found) == ["size=small-pool=mean-seed0", "size=small-pool=max-seed0", "size=big-pool=max-seed0"]


def test_one_change_at_a_time(tmp_path: Path) -> None:
    both = {"model.pool": {"values": ["mean", "max"]}, "model.depth": {"values": [1, 2, 3]}}
    found = grid(tmp_path, both, design="one_at_a_time", seeds=2)
    variants = ["pool=mean-depth=1", "pool=max-depth=1", "pool=mean-depth=2", "pool=mean-depth=3"]
    assert names(found) == [f"{variant}-seed{seed}" for variant in variants for seed in (0, 1)]
    # In the folder of the full grid these are the same runs.
    assert set(names(found)) < set(names(grid(tmp_path, both, seeds=2)))


def test_seeds_and_a_cap(tmp_path: Path) -> None:
    pools = {"model.pool": {"values": ["mean", "max"]}}
    assert names(grid(tmp_path, pools, seeds=3))[:3] == ["pool=mean-seed0", "pool=mean-seed1", "pool=mean-seed2"]
    assert names(grid(tmp_path, pools, run_cap=1)) == ["pool=mean"]


def test_the_name_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = grid(tmp_path, {"seed_everything": {"value": 1}}, name="my study", project="lab", entity="team")
    assert found.name.startswith("my-study")
    out = tmp_path / "runs"
    ablate(str(tmp_path / "mine.yaml"), out=str(out), dry_run=True)
    assert str(out / found.name) in capsys.readouterr().out
    (item,) = make_plan(check_runs(expand(found), prepare=False), out / found.name)
    assert {f"--tracking.group={found.name}", "--tracking.project=lab", "--tracking.entity=team"} <= set(
        job_of(item, threads=1).arguments
    )
    # Runs that began under the name of the file go on there.
    (out / "mine").mkdir(parents=True)
    ablate(str(tmp_path / "mine.yaml"), out=str(out), dry_run=True)
    assert str(out / "mine") in capsys.readouterr().out


def test_a_combination_that_would_not_start_is_named_and_how_to_leave_it_out(tmp_path: Path) -> None:
    both = {"model.arch": {"values": ["cvt_2_2", "cct_2_3x1"]}, "model.kernel_size": {"values": [2, 3]}}
    runs = expand(grid(tmp_path, both, seeds=2))
    with pytest.raises(
        InputError, match=r"The run arch=cvt_2_2-kernel_size=3-seed0 would not start: .*3 pixels"
    ) as caught:
        check_runs(runs, prepare=False)
    message = str(caught.value)
    assert "Of 8 runs 2 would not start" in message
    exclude = yaml.safe_load(message.rpartition("exclude: ")[2])
    assert exclude == [{"model.arch": "cvt_2_2", "model.kernel_size": 3}]
    assert len(check_runs(expand(grid(tmp_path, both, seeds=2, exclude=exclude)), prepare=False)) == 6


def test_a_part_of_ones_own_that_raises_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forward = '    def forward(self, x):\n        raise RuntimeError("no such\\n  tokens")\n'
    (tmp_path / "my_lab.py").write_text(SCALED + "\n" + forward)
    monkeypatch.syspath_prepend(tmp_path)
    runs = expand(grid(tmp_path, {"model.pool": {"values": ["mean", "my_lab.Scaled"]}}))
    with pytest.raises(InputError, match=r"my_lab\.Scaled raised RuntimeError: no such tokens\. Of 2 runs 1") as caught:
        check_runs(runs, prepare=False)
    assert str(caught.value).endswith("exclude: [{model.pool: my_lab.Scaled}]")


def test_a_data_set_of_ones_own_that_raises_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = 'title="Birds", origin="", license="", read=lambda folder: {}["nest"], classes=("a", "b"), in_chans=3'
    (tmp_path / "my_lab.py").write_text(
        f'from cct_lightning.data import Source\n\nBIRDS = Source(name="my_lab.BIRDS", {entry}, size=(8, 8))\n'
    )
    monkeypatch.syspath_prepend(tmp_path)
    data = {"data.name": {"value": "my_lab.BIRDS"}, "data.root": {"value": str(tmp_path)}}
    runs = expand(grid(tmp_path, {**data, "model.arch": {"value": "cct_2_3x1"}}))
    with pytest.raises(InputError, match=r"would not start: The data set my_lab\.BIRDS raised KeyError: 'nest'\."):
        check_runs(runs, prepare=True)


def test_a_schedule_that_does_not_fit_is_found_before_a_run_starts(tmp_path: Path) -> None:
    warmups = {"model.optim.warmup_epochs": {"values": [0, 1]}}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({**GRID, "parameters": {**warmups, "trainer.max_epochs": {"value": 1}}}))
    with pytest.raises(
        InputError, match=r"warmup_epochs=1 would not start: A warm-up of 1 .* add to the file: exclude"
    ):
        check_runs(expand(read_grid(path)), prepare=False)


def test_one_change_at_a_time_needs_the_baseline(tmp_path: Path) -> None:
    both = {"model.pool": {"values": ["mean", "max"]}, "model.depth": {"values": [1, 2]}}
    for left_out in ({"pool": "mean", "depth": 1}, {"pool": "mean"}):
        with pytest.raises(InputError, match=r"leaves the baseline out \(pool=mean-depth=1\)"):
            names(grid(tmp_path, both, design="one_at_a_time", exclude=[left_out]))
    found = names(grid(tmp_path, both, design="one_at_a_time", seeds=2, exclude=[{"seed_everything": 1}]))
    assert found[0] == "pool=mean-depth=1-seed0"


def test_wandbs_agents_run_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_lab.py").write_text(SCALED)
    monkeypatch.syspath_prepend(tmp_path)
    both = {"size": {"values": [SMALL, BIG]}, "model.pool": {"values": ["mean", None, PART]}}
    fields = {"exclude": [{"size": "big", "pool": "mean"}], "seeds": 2, "design": "one_at_a_time"}
    for given in ({}, {"seeds": 2}, fields):
        found, target = grid(tmp_path, both, **given), tmp_path / "sweep.yaml"
        write_sweep(found, tmp_path / "mine.yaml", str(target))
        assert not set(OURS) & set(yaml.safe_load(target.read_text()))
        ours = [results(run.arguments) for run in expand(found)]
        theirs = [results(words) for words in agents_words(target)]
        assert len(ours) == len(theirs)
        assert set(ours) == set(theirs)
        if not given:  # which W&B takes as it is
            assert {results(words) for words in agents_words(tmp_path / "mine.yaml")} == set(ours)


def test_wandbs_agent_hands_a_nested_group_on(tmp_path: Path) -> None:
    """It gives the innermost mapping to the outermost name."""
    args = {"model": {"value": {"pool": "mean", "optim": {"lr": 0.001}}}}
    words = create_sweep_command_args({"args": args})["args"]
    assert results(["--config=digits", *words]) == results(
        ["--config=digits", "--model.pool=mean", "--model.optim.lr=1e-3"]
    )


def test_a_linked_choice_can_be_set(tmp_path: Path) -> None:
    found = grid(tmp_path, {"size": {"values": [SMALL, BIG]}})
    assert expand(override(found, [f"size={BIG}"]))[0].parameters["model.depth"] == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parameters": {"size": {"values": [SMALL, SMALL]}}}, "twice"),
        ({"parameters": {"size": {"values": [SMALL, 3]}}}, "mixes linked choices"),
        ({"parameters": {"size": {"values": [{"name": "big", "depth": 7}]}}}, "such as model.depth"),
        ({"parameters": {"size": {"values": [SMALL]}, "model.depth": {"value": 1}}}, "model.depth by size and by"),
        ({"parameters": {"size": {"values": [{"name": "a", "run_dir.x": 1}]}}}, "cannot be part"),
        ({"exclude": {"model.pool": "mean"}}, "needs a list"),
        ({"exclude": [{"model.pol": "mean"}]}, "no parameter of it. Did you mean 'model.pool'"),
        ({"exclude": [{"model.pool": "max"}]}, "takes class_token, seqpool"),
        ({"design": "one at a time"}, "choose full or one_at_a_time"),
        ({"seeds": 0}, "give how many"),
        ({"seeds": 3}, "the seeds twice"),
        ({"name": ""}, "give a text"),
        ({"run_cap": 0}, "a whole number from 1"),
    ],
)
def test_what_a_grid_cannot_say_is_one_sentence(tmp_path: Path, fields: dict[str, Any], message: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({**GRID, **fields}))
    with pytest.raises(InputError, match=message):
        read_grid(path)


def test_the_grids_of_the_docs(tmp_path: Path, cct: Cct, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    own = (Path(__file__).parents[2] / "docs" / "own_parts.md").read_text()
    (tmp_path / "my_lab.py").write_text(own.partition("```python\n# my_lab.py\n")[2].partition("```")[0])
    page = (Path(__file__).parents[2] / "docs" / "grids.md").read_text()
    for name, text in re.findall(r"^```yaml\n# (\S+)\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        (tmp_path / name).write_text(text)
    assert len(expand(read_grid(tmp_path / "sizes.yaml"))) == 15
    lines = re.findall(r"^cct .*", page, re.MULTILINE)
    assert len(lines) == 3
    for line in lines:
        code, _, err = cct(*line.split()[1:])
        assert code == 0, err
    assert len(agents_words(tmp_path / "sweep.yaml")) == 15


def test_everything_excluded_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="leaves no run"):
        names(grid(tmp_path, {"model.pool": {"value": "mean"}}, exclude=[{"pool": "mean"}]))

"""The table of options is what the parsers say, and what is judged by it is judged as they do."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl

from cct_lightning.commands.help.build import as_text, build
from cct_lightning.commands.help.check import check
from cct_lightning.commands.help.table import TABLE, Option, command, lightning_version
from cct_lightning.commands.main import COMMANDS, run
from cct_lightning.config.parser import parse, run_parser
from cct_lightning.config.recipes import expand_configs, recipes
from cct_lightning.errors import InputError


def comparable(table: dict[str, Any]) -> dict[str, Any]:
    """The table without what versions of Lightning and `typing`'s cache of equal unions decide."""
    same = table.pop("lightning") == pl.__version__
    for found in table["commands"].values():
        found["options"] = [one for one in found["options"] if same or not one["name"].startswith("trainer.")]
        found["names"] = [name for name in found["names"] if same or not name.startswith("trainer.")]
        for option in found["options"]:
            option["types"] = sorted(option.get("types", ()))
    return table


def test_the_table_is_what_the_parsers_say() -> None:
    stored = json.loads(TABLE.read_text(encoding="utf-8"))
    assert list(stored["commands"]) == list(COMMANDS)
    assert comparable(stored) == comparable(json.loads(as_text(build()))), "run `make options`"


def sentence(function: Any, *args: Any) -> str | None:
    try:
        function(*args)
    except InputError as error:
        return str(error)
    return None


def kinds() -> dict[tuple[Any, ...], Option]:
    """One option of each combination of types and choices."""
    skipped = () if lightning_version() == pl.__version__ else ("trainer.",)
    return {
        (option.types, bool(option.choices)): option
        for option in command("fit").options
        if option.types and not option.name.startswith(skipped)
    }


VALUES = ("1", "-1", "0.5", "1e-3", "3.0", "true", "null", "yes", "0x10", " 1", "no_such_value")


@pytest.mark.parametrize("option", kinds().values(), ids=lambda option: option.name)
def test_values_are_judged_as_the_parser_does(option: Option) -> None:
    whole = run_parser("fit").parse_args
    for value in (*VALUES, *map(str, option.choices)):
        word = f"--{option.name}={value}"
        found = sentence(check, "fit", [word])
        if found is not None:
            # In the order of the types in a union, the processes that parse may differ.
            assert sorted(re.findall(r"\w+", found)) == sorted(re.findall(r"\w+", sentence(whole, [word]) or ""))
        elif option.types in (("int",), ("float",), ("bool",), ("choice",), ("int", "null"), ("float", "null")):
            assert sentence(whole, [word]) is None


@pytest.mark.parametrize(
    "args",
    [
        "--model.pol x", "--model.pol=x", "--model.optim.lrr 1", "--model.optim.warmup-epochs=3", "--dat.name digits",
        "--trainer.max_epoch=3", "--seed 3", "--tracking.mod auto", "--model.optim.lr",
        "--model.depth --model.pool max",
    ],
)  # fmt: skip
def test_typos_are_answered_as_the_parser_does(args: str) -> None:
    words = args.split()
    assert sentence(check, "fit", words) == sentence(run_parser("fit").parse_args, words) is not None


@pytest.mark.parametrize(
    "content",
    [
        "{model: {arc: cct_7_3x1}}", "{modl: {arch: cct_7_3x1}}", "{trainer: {max_epoch: 3}}", "{sed: 3}",
        "{model: {optim: {lrr: 1}}}", "{tracking: {tag: [a]}}",
    ],
)  # fmt: skip
def test_typos_in_a_recipe_are_answered_as_the_parser_does(content: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    words = [f"--config={tmp_path / 'mine.yaml'}"]
    assert sentence(check, "fit", words) == sentence(parse, "fit", words) is not None


RECIPE = """
model: {pool: {class_path: my_lab.Mine, init_args: {k: 3}}, arch: {class_path: my_lab.Net, width: 3}}
trainer:
  callbacks+: [{class_path: EarlyStopping, init_args: {monitor: val/acc}}]
  strategy: {class_path: DDPStrategy, init_args: {find_unused_parameters: true}}
  max_time: {hours: 1}
data: {mixing: {prob: 0.5}, augment: {extra_ops: [my_lab.op]}}
base: digits
code: {my_lab: abc}
"""


def test_a_recipe_with_classes_and_their_arguments_is_left_to_the_parser(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(RECIPE)
    check("fit", ["--config", str(tmp_path / "mine.yaml"), "--seed_everything", "1"])
    for name in recipes():
        check("fit", ["--config", name])


@pytest.mark.parametrize(
    "args",
    [
        "--model.pool my_lab.Mine --model.pool.k 3",
        "--model.pool={class_path: my_lab.Mine, init_args: {k: 3}}",
        "--model.arch my_lab.Net --model.arch.width 3 --model.loss.gamma=2 --model.optim.optimizer.init_args.k 3",
        "--trainer.callbacks+=EarlyStopping --trainer.callbacks.monitor=val/acc",
        "--trainer.callbacks.help EarlyStopping",
        "--trainer.strategy DDPStrategy --trainer.strategy.find_unused_parameters true",
        "--trainer.plugins+=my_lab.Plugin --trainer.logger.save_dir x --trainer.devices [0,1]",
        "--trainer.max_time {hours: 1} --trainer.val_check_interval 0.5",
        "--data.augment.extra_ops [my_lab.op] --data.mixing.prob 0.5 --data.mixing {prob: 1}",
        "--data.img_size [32,48] --model.optim.betas [0.9,0.95] --model.optim options.yaml --model model.yaml",
        "--model.num_classes 3",  # the parser says that the data decides it
        "--tracking.tags+=a --tracking.tags [a,b] --tracking.name -- --no_option",
        "--config digits -c cifar10 --print_config=skip_default",
        "--save_every_minutes -1",
    ],
)
def test_what_is_not_known_for_sure_is_left_to_the_parser(args: str) -> None:
    check("fit", re.split(r" (?![^{]*\})", args))


def test_another_version_of_lightning_may_have_other_options(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["--trainer.new_option", "3", "--trainer.max_epochs=few"]
    with pytest.raises(InputError, match=r"Unknown option: --trainer.new_option 3"):
        check("fit", words)
    monkeypatch.setattr("cct_lightning.commands.help.check.version", lambda name: "99.0")
    check("fit", words)
    with pytest.raises(InputError, match=r"Did you mean 'model.pool'"):
        check("fit", [*words, "--model.pol=x"])


@pytest.mark.parametrize("name", ["RANK", "LOCAL_RANK", "SLURM_PROCID"])
def test_one_process_of_several_says_it(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cct_lightning.commands.fit.fit_command", lambda words: None)  # it has its own way to hold back
    monkeypatch.setenv(name, "0")
    with pytest.raises(InputError, match=r"Did you mean 'model.pool'"):
        run(["fit", "--model.pol=x"])
    monkeypatch.setenv(name, "1")
    run(["fit", "--model.pol=x"])


def test_a_recipe_without_its_option() -> None:
    with pytest.raises(InputError, match="Did you mean '--config digits'"):
        check("fit", ["digits", "--seed_everything=1"])
    assert expand_configs(["my_data"]) == ["my_data"]  # any other word is the parser's to refuse


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in ("fit", "validate", "test")])
def test_other_commands(name: str) -> None:
    check(name, ["word", "another"])
    with pytest.raises(InputError, match="Unknown option: --no_such_option"):
        check(name, ["word", "--no-such-option", "3"])


def test_words_of_functions_are_spelled_as_their_parser_takes_them() -> None:
    check("ablate", ["digits", "--dry-run", "--gpus-per-run", "0.5", "--set", "data.root=/data", "model.depth=3"])
    check("convert", ["a.ckpt", "b.pth", "--overwrite", "--allow-import", "my_lab.A", "my_lab.B"])
    with pytest.raises(InputError, match="--cpus_per_run: expected int or null, got many"):
        check("ablate", ["digits", "--cpus-per-run", "many"])
    with pytest.raises(InputError, match="Did you mean 'batch_size'"):
        check("predict", ["a.ckpt", "images", "--bacth_size=4"])

"""One answer to "what run is this?", for every spelling of its options."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from cct_lightning.config.options import NEVER_CHANGE_RESULTS, changes_results, length_of, text
from cct_lightning.config.parser import parse, plain, run_parser
from cct_lightning.config.recipes import options_of
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.errors import InputError
from cct_lightning.runs.folder import RunFolder

OLD = Path(__file__).parents[1] / "survival" / "version_0_1"


def resolve(*words: str) -> ResolvedConfig:
    return ResolvedConfig.resolve(plain(parse("fit", words)))


# Two ways to say the same, on top of the recipe `digits`.
SAME: dict[str, tuple[list[str], list[str]]] = {
    "pool of the name": ([], ["--model.pool=seqpool"]),
    "numbers": (["--model.proj_drop=0"], ["--model.proj_drop=0.0"]),
    "numbers as text": (["--model.optim.lr=3e-3"], ["--model.optim.lr=0.003"]),
    "sizes of the name": ([], ["--model.depth=2", "--model.embed_dim=128", "--model.num_heads=2"]),
    "name with the image size": (["--model.arch=cct_2_3x1"], ["--model.arch=cct_2_3x1_32"]),
    "position of the name": (["--model.arch=cct_2_3x1_sine"], ["--model.position=sine"]),
    "blocks of the name": (["--model.arch=cct_2_3x2"], ["--model.conv_blocks=2"]),
    "family of the parts": (["--model.arch=vit_2_4"], ["--model.arch=cvt_2_4", "--model.pool=class_token"]),
    "rate of Muon": ([], ["--model.optim.muon_lr=0.003"]),
    "size of the data": ([], ["--data.img_size=8"]),
    "size of the data, both sides": (["--data.img_size=8"], ["--data.img_size=[8, 8]"]),
    "mean of the data": ([], ["--data.mean=[0.3046]", "--data.std=[0.3755]"]),
    "augmentation of the data": ([], ["--data.augment=digits"]),
    "augmentation by its parts": (["--data.augment=light"], ["--data.augment={crop_padding: 0.125, hflip: 0.5}"]),
    "global batch": (["--data.batch_size=32"], ["--data.batch_size=8", "--data.global_batch_size=32"]),
    "accumulated batch": (["--data.batch_size=32"], ["--data.batch_size=16", "--trainer.accumulate_grad_batches=2"]),
    "no callbacks": ([], ["--trainer.callbacks=[]"]),
    "precision": (["--trainer.precision=bf16"], ["--trainer.precision=bf16-mixed"]),
    "precision of the default": ([], ["--trainer.precision=32"]),
    "no mixing": ([], ["--data.mixing.prob=0"]),
    "mixing from an epoch on that never was": ([], ["--data.mixing.off_epoch=0", "--data.mixing.switch_prob=0.2"]),
    "AdamW by its path": (["--model.optim.optimizer=adamw"], ["--model.optim.optimizer=torch.optim.AdamW"]),
    "AdamW by its path, with arguments": (
        ["--model.optim.optimizer=adamw", "--model.optim.betas=[0.9, 0.99]"],
        ['--model.optim.optimizer={"class_path": "torch.optim.AdamW", "init_args": {"betas": [0.9, 0.99]}}'],
    ),
    "Muon's options without Muon": (
        ["--model.optim.optimizer=adamw"],
        ["--model.optim.optimizer=adamw", "--model.optim.muon_momentum=0.9", "--model.optim.muon_lr=1e-3"],
    ),
    "a batch size that scales no rate": ([], ["--model.optim.base_batch_size=512"]),
    "the first rate of no warm-up": (
        ["--model.optim.warmup_epochs=0"],
        ["--model.optim.warmup_epochs=0", "--model.optim.warmup_lr=1e-5"],
    ),
    "the last rate of no decay": (
        ["--model.optim.schedule=constant"],
        ["--model.optim.schedule=constant", "--model.optim.min_lr=1e-5"],
    ),
    "batches of all images": ([], ["--data.eval_batch_size=10"]),
    "no arguments": (["--model.pool=mean"], ['--model.pool={"class_path": "mean", "init_args": {}}']),
}


@pytest.mark.parametrize("case", SAME)
def test_the_same_run_in_other_words(case: str) -> None:
    one, other = (resolve("--config=digits", *words) for words in SAME[case])
    assert one.results_key == other.results_key
    assert one.differences(other) == []
    assert one.digest == other.digest
    assert one.name == other.name or case == "family of the parts" or "blocks" in case


DIFFERENT: dict[str, tuple[list[str], str]] = {
    "pool": (["--model.pool=mean"], "model.pool was seqpool and is mean"),
    "a rate": (["--model.optim.lr=1e-3"], "model.optim.lr was 0.003 and is 0.001"),
    "mixing against none": (["--data.mixing.prob=0.5"], "data.mixing was null and is {mixup_alpha: 0.8,"),
    "a policy against its parts": (["--data.augment={hflip: 0.5}"], "data.augment was digits and is {crop_padding: 0,"),
    "a larger global batch": (["--data.batch_size=128"], "data.global_batch_size was 64 and is 128"),
    "another kind of AdamW": (
        ['--model.optim.optimizer={"class_path": "torch.optim.AdamW", "init_args": {"amsgrad": true}}'],
        "model.optim.optimizer was muon and is torch.optim.AdamW(amsgrad=true)",
    ),
    "batches of some images": (
        ["--trainer.limit_val_batches=1", "--data.eval_batch_size=10"],
        "data.eval_batch_size was null and is 10",
    ),
    "a seed": (["--seed_everything=1"], "seed_everything was 0 and is 1"),
    "a model": (["--model.arch=cvt_2_2"], "model.arch was cct_2_3x1 and is cvt_2_2"),
}


@pytest.mark.parametrize("case", DIFFERENT)
def test_another_run_is_said_to_be_one(case: str) -> None:
    words, expected = DIFFERENT[case]
    before, now = resolve("--config=digits"), resolve("--config=digits", *words)
    assert any(line.startswith(expected) for line in before.differences(now)), before.differences(now)
    with pytest.raises(InputError, match="holds a run of another configuration"):
        before.check_same_run(now, Path("run"))
    # The other way round, too: a missing tree against a filled one is a difference.
    assert now.differences(before)


def test_a_time_in_two_forms() -> None:
    trainer = resolve("--config=digits").options["trainer"]
    one, other = (
        ResolvedConfig.resolve({"trainer": {**trainer, "max_time": value}}) for value in ("00:01:00:00", {"hours": 1})
    )
    assert one.results_key == other.results_key
    with pytest.raises(InputError, match="DD:HH:MM:SS"):
        length_of("an hour")


def test_one_batch_is_not_all_batches() -> None:
    one, whole = (resolve("--config=digits", f"--trainer.limit_train_batches={n}") for n in ("1", "1.0"))
    assert one.results_key != whole.results_key


ONE_BATCH = """
from typing import Union
from pytorch_lightning import Trainer

# What Lightning's `Optional[Union[int, float]]` is where another library wrote the other order before.
Trainer.__init__.__annotations__["limit_train_batches"] = Union[float, int, None]

from cct_lightning.config.parser import parse

print(parse("fit", ["--config=digits", "--trainer.limit_train_batches=1"]).trainer.limit_train_batches)
"""


def test_one_batch_is_one_whatever_was_imported_before() -> None:
    found = subprocess.run([sys.executable, "-c", ONE_BATCH], capture_output=True, text=True, check=True)
    assert found.stdout == "1\n"


NEUTRAL = {
    "run_dir": "elsewhere", "save_every_minutes": "3", "tracking.project": "mine", "tracking.mode": "disabled",
    "data.root": "/data", "data.cache_dir": "/cache", "data.num_workers": "1", "model.compile": "true",
    "trainer.accelerator": "cpu", "trainer.logger": "false", "trainer.log_every_n_steps": "1", "test_best": "false",
    "trainer.profiler": "simple", "trainer.deterministic": "true", "data.download": "false", "resume": "never",
}  # fmt: skip


@pytest.mark.parametrize("key", NEUTRAL)
def test_what_never_changes_results_makes_no_other_run(key: str) -> None:
    assert not changes_results(key)
    assert resolve("--config=digits").results_key == resolve("--config=digits", f"--{key}={NEUTRAL[key]}").results_key


def test_the_table_names_options_that_exist() -> None:
    known = {name for name, _ in _leaves(plain(run_parser("fit").get_defaults()))}
    for name in NEVER_CHANGE_RESULTS:
        assert any(key == name or key.startswith(name) for key in known | {"environment."}), name


def _leaves(value: Any, key: str = "") -> list[tuple[str, Any]]:
    if not isinstance(value, dict) or not value:
        return [(key, value)]
    return [leaf for name, item in value.items() for leaf in _leaves(item, f"{key}.{name}" if key else name)]


def test_every_option_of_the_model_is_concrete() -> None:
    model = resolve("--config=digits").options["model"]
    parts = ("tokenizer", "kernel_size", "conv_blocks", "position", "pool", "depth", "embed_dim", "num_heads")
    assert [model[part] for part in parts] == ["conv", 3, 1, "learnable", "seqpool", 2, 128, 2]
    data = resolve("--config=digits").options["data"]
    assert (data["img_size"], data["augment"], data["global_batch_size"]) == ([8, 8], "digits", 64)


def test_resolving_twice_changes_nothing(tmp_path: Path) -> None:
    first = resolve("--config=digits", "--model.pool=mean")
    (tmp_path / "config.yaml").write_text(first.to_yaml())
    again = ResolvedConfig.read(tmp_path / "config.yaml")
    assert again == first
    assert resolve(f"--config={tmp_path / 'config.yaml'}").options == first.options


def test_another_model_on_top_of_a_resolved_config_brings_its_own_parts(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(resolve("--config=digits", "--model.attn_drop=0.2").to_yaml())
    other = resolve(f"--config={path}", "--model.arch=vit_2_4").options["model"]
    assert (other["tokenizer"], other["pool"], other["kernel_size"]) == ("patch", "class_token", 4)
    assert other["attn_drop"] == 0.2, "what the name did not say stays"


@pytest.mark.parametrize(
    ("option", "path", "name"),
    [("pool", "pooling.MeanPool", "mean"), ("position", "position.SinePosition", "sine")],
)
def test_a_built_in_part_by_its_import_path_is_the_part_by_its_name(option: str, path: str, name: str) -> None:
    by_path = resolve("--config=digits", f"--model.{option}=cct_lightning.models.{path}")
    assert by_path == resolve("--config=digits", f"--model.{option}={name}")


PART = """
from cct_lightning.models.pooling import MeanPool


class GemPool(MeanPool):
    def __init__(self, *, embed_dim: int, p: float = 3.0, eps: float = 0.0) -> None:
        super().__init__(embed_dim=embed_dim)
"""


def test_a_class_with_arguments_is_one_option(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("my_lab.py").write_text(PART)
    words = ["--model.pool", "my_lab.GemPool", "--model.pool.p", "4"]
    config = resolve("--config=digits", *words)
    assert config.options["model"]["pool"] == {"class_path": "my_lab.GemPool", "init_args": {"p": 4, "eps": 0.0}}
    assert resolve("--config=digits", *words[2:], *words[:2]) == config, "arguments may come before their class"
    assert config.name == "digits-cct_2_3x1-pool=my_lab.GemPool(p=4, eps=0)"
    Path("mine.yaml").write_text("model:\n  pool: {class_path: my_lab.GemPool, init_args: {p: 3, eps: 1}}\n")
    changed = resolve("--config=digits", "--config=mine.yaml", "--model.pool.p=4.0")
    assert changed.options["model"]["pool"]["init_args"] == {"p": 4.0, "eps": 1}
    was, is_now = "my_lab.GemPool(p=4, eps=0)", "my_lab.GemPool(p=4, eps=1)"
    assert config.differences(changed) == [f"model.pool was {was} and is {is_now}"]


def test_a_run_of_version_0_1_is_completed() -> None:
    stored = RunFolder(OLD).config()
    assert stored is not None
    words = ["--config=digits", "--model.embed_dim=16", "--model.ema_decay=0.9", "--trainer.max_epochs=2"]
    now = resolve(*words, "--model.optim.warmup_epochs=0.5")
    assert stored.differences(now) == []
    assert RunFolder(OLD).is_finished(now)
    longer = resolve(*words, "--model.optim.warmup_epochs=0.5", "--trainer.max_epochs=3")
    assert not RunFolder(OLD).is_finished(longer)
    assert "holds a run of another" in _refusal(stored, resolve(*words))


def _refusal(stored: ResolvedConfig, now: ResolvedConfig) -> str:
    with pytest.raises(InputError) as caught:
        stored.check_same_run(now, OLD)
    return str(caught.value)


def test_options_are_read_without_heavy_imports() -> None:
    code = (
        "import sys; from cct_lightning.config.resolved import ResolvedConfig; from pathlib import Path;"
        "config = ResolvedConfig.read(Path(sys.argv[1])); assert config.name;"
        "print([m for m in ('torch', 'pytorch_lightning', 'numpy') if m in sys.modules])"
    )
    path = Path(__file__).parent / "resolved.yaml"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_the_stored_example_is_what_is_written_today() -> None:
    path = Path(__file__).parent / "resolved.yaml"
    assert yaml.safe_load(path.read_text()) == resolve("--config=digits").options


def test_options_of_a_command_line_without_the_parser() -> None:
    words = ["--model.optim.lr=1e-3", "--config=digits", "--trainer.max_epochs=3"]
    assert ResolvedConfig.resolve(options_of(words)).results_key == resolve(*words).results_key


def test_text() -> None:
    assert [text(v) for v in (0.0, 1e-3, True, None, [0.9, 1.0], "sine")] == [
        "0",
        "0.001",
        "true",
        "null",
        "[0.9, 1]",
        "sine",
    ]

"""The command line: help at once, recipes by name, and bad input in one sentence before anything starts."""

import gc
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from cct_lightning.commands import main
from cct_lightning.commands.help.check import check
from cct_lightning.commands.help.table import command
from cct_lightning.commands.main import COMMANDS, run
from cct_lightning.commands.parser import function_parser
from cct_lightning.commands.predict import predict
from cct_lightning.config.one_sentence import unknown_option
from cct_lightning.config.parser import run_parser
from cct_lightning.config.recipes import expand_configs, layers, recipes
from cct_lightning.errors import InputError, nearest
from cct_lightning.models.arch import PUBLISHED

Cct = Callable[..., tuple[int, str, str]]

LIGHT = """
import sys
from cct_lightning.commands.main import main
sys.argv = ["cct", *sys.argv[1:]]
code = main()
heavy = [m for m in ("torch", "pytorch_lightning", "wandb", "numpy", "pandas", "matplotlib") if m in sys.modules]
print("HEAVY", heavy)
"""


@pytest.mark.parametrize(
    "args",
    [
        "--help", "", "models", "--version", "fit --help", "test --help all", "predict --help", "completion bash",
        "fit --config digits --model.pol x", "fit --config digits --model.optim.lr abc", "fit --config digitz",
        "fit --config typo.yaml", "validate --run_dirr x", "explain --bacth_size 4",
    ],
)  # fmt: skip
def test_light_commands_import_nothing_heavy(args: str, tmp_path: Path) -> None:
    (tmp_path / "typo.yaml").write_text(FILES["typo.yaml"])
    command = [sys.executable, "-c", LIGHT, *args.split()]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.endswith("HEAVY []\n"), done.stdout + done.stderr


def test_training_imports_only_what_it_uses() -> None:
    code = "import sys, cct_lightning.build; print([m for m in ('pandas', 'sklearn', 'wandb') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr


def test_nothing_looks_for_garbage_in_what_is_imported(cct: Cct, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[object] = []
    import_module = importlib.import_module

    def imported(name: str) -> object:
        seen.append(gc.isenabled())
        return import_module(name)

    monkeypatch.setattr(main.importlib, "import_module", imported)
    monkeypatch.setattr(main.atexit, "register", seen.append)
    assert cct("models")[0] == 0
    assert seen == [gc.freeze, False]
    assert gc.isenabled()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_nobody_reads_what_is_printed(unbuffered: str) -> None:
    # As in `cct --help | head -1`: buffered, the output fails at the end, unbuffered, in the middle.
    read, write = os.pipe()
    os.close(read)
    environment = {**os.environ, "PYTHONUNBUFFERED": unbuffered}
    command = [sys.executable, "-m", "cct_lightning", "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, env=environment)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")


def test_a_working_directory_that_is_gone(cct: Cct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    code, _, err = cct("fit", "--config", "digits")
    assert code == 2
    assert err == "cct fit: The working directory has been deleted: change to one that exists.\n"


@pytest.mark.parametrize(
    ("module", "extra", "args"),
    [
        ("ray", "ablate", ["ablate", "digits"]),
        ("timm", "timm", ["benchmark", "--peer", "timm"]),
        ("vit_pytorch", "benchmark", ["benchmark", "--peer", "vit-pytorch"]),
        ("wandb_workspaces", "dashboard", ["dashboard", "nowhere", "--ablation", "none"]),
        ("onnx", "onnx", ["export", "nowhere.ckpt"]),
    ],
)
def test_a_missing_extra_is_said_first(
    module: str, extra: str, args: list[str], cct: Cct, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    code, out, err = cct(*args)
    assert (code, out) == (2, "")
    # Another package of the extra may be missing here as well.
    name = module.replace("_", "-")
    named = rf"needs {name}( and \w+)?, not installed here: pip install 'cct_lightning\[{extra}\]'\."
    assert re.search(named, err), err


def test_help_names_every_command_and_recipe(cct: Cct) -> None:
    code, out, _ = cct("--help")
    assert code == 0
    for word in [*COMMANDS, *recipes()]:
        assert f"  {word} " in out
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.parametrize(
    ("args", "same_as"), [("fit", "fit --help"), ("fit lr", "fit --help lr"), ("new", "new --help"), ("help", "--help")]
)
def test_help_is_a_command_too(args: str, same_as: str, capsys: pytest.CaptureFixture[str]) -> None:
    run(["help", *args.split()])
    said = capsys.readouterr().out
    run(same_as.split())
    assert said == capsys.readouterr().out
    with pytest.raises(InputError, match=r"Unknown command 'fitt'.* Did you mean 'fit'"):
        run(["help", "fitt"])


def test_models_lists_the_published_variants(cct: Cct) -> None:
    code, out, _ = cct("models", "--json")
    assert code == 0
    assert [row["name"] for row in json.loads(out)] == list(PUBLISHED)
    code, out, _ = cct("models")
    assert all(name in out for name in PUBLISHED)


def test_models_takes_any_name_of_the_grammar(cct: Cct) -> None:
    code, out, _ = cct("models", "cct_3_5x2_64_sine", "--json")
    assert code == 0
    assert json.loads(out)[0]["tokens"] == 256
    code, _, err = cct("models", "cct_7_3x")
    assert code == 2
    assert "Did you mean 'cct_7_3x" in err


def test_fit_help_documents_options_from_signatures(cct: Cct) -> None:
    for args in (["--help"], ["--help", "all"]):
        code, out, _ = cct("fit", *args)
        assert code == 0
        words = " ".join(out.split())
        for option in ("--model.arch", "--model.pool", "--model.optim.lr", "--data.name", "--tracking.mode"):
            assert option in words
        assert "Share of the target spread over all classes" in words  # Classifier's docstring
        assert "--model.num_classes" not in words  # the data decides it


@pytest.mark.parametrize("name", recipes())
def test_recipe_is_parsed_and_says_what_it_is(cct: Cct, name: str) -> None:
    text = recipes()[name].read_text()
    header = text.split("model:")[0].split("base:")[0]
    assert f"cct fit --config {name}" in header
    assert "measured" in header
    code, out, err = cct("fit", "--config", name, "--print_config")
    assert code == 0, err
    assert yaml.safe_load(out)["trainer"]["max_epochs"] > 0


def test_recipes_build_on_each_other(tmp_path: Path) -> None:
    assert [Path(path).stem for path in layers("fashion_mnist")] == ["mnist", "fashion_mnist"]
    mine = tmp_path / "mine.yaml"
    mine.write_text("base: cifar100  # timm recipe\nmodel:\n  arch: cct_2_3x2\n")
    assert [path.stem for path in layers(str(mine))] == ["cifar10", "cifar100", "mine"]
    words = expand_configs(["--model.pool=mean", "-c", str(mine)])
    assert [yaml.safe_load(word.removeprefix("--config="))["model"]["arch"] for word in words[:3:2]] == [
        "cct_7_3x1",
        "cct_2_3x2",
    ]
    assert words[3:] == ["--model.pool=mean"]
    mine.write_text(f"base: {mine}\n")
    with pytest.raises(InputError, match="builds on itself"):
        expand_configs([f"--config={mine}"])


def test_later_configs_and_options_win(cct: Cct, tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("trainer:\n  max_epochs: 7\nmodel:\n  label_smoothing: 0.2\n")
    code, out, _ = cct(
        "fit", "--config", "digits", "--config", str(mine), "--trainer.max_epochs", "9", "--print_config"
    )
    assert code == 0
    config = yaml.safe_load(out)
    assert (config["trainer"]["max_epochs"], config["model"]["label_smoothing"]) == (9, 0.2)
    assert config["data"]["name"] == "digits"
    code, out, _ = cct("fit", "--trainer.max_epochs", "9", "--config", "digits", "--print_config")
    assert code == 0
    assert yaml.safe_load(out)["trainer"]["max_epochs"] == 9, "options win wherever they are"


@pytest.mark.parametrize(
    ("name", "words", "expected"),
    [
        ("fit", ["--trainer.max_epochs", ""], "--trainer.max_epochs: expected int or null, got ''."),
        ("fit", ["--trainer.max_epochs", "a"], "--trainer.max_epochs: expected int or null, got a."),
        ("fit", ["--data.batch_size", "null"], "--data.batch_size: expected int, got null."),
        ("fit", ["--data.batch_size", ""], "--data.batch_size: expected int, got ''."),
        ("fit", ["--data.mean", "a"], "--data.mean: expected a list such as [0.5,0.5] or null, got a."),
        ("fit", ["--data.img_size", "a"], "--data.img_size: expected int, a list such as [1,2] or null, got a."),
        ("fit", ["--data.mixing", "3"], "--data.mixing: expected options of MixingPolicy or null, got 3."),
        (
            "fit",
            ["--model.optim", "3"],
            "--model.optim is a group of options: give one of them, such as --model.optim.optimizer, or a YAML file; "
            "'3' is neither.",
        ),
        (
            "fit",
            ["--model.classes", "a"],
            "--model.classes is taken from data.classes: it cannot be given. Leave it out.",
        ),
        ("fit", ["--tracking.tags", "a"], "--tracking.tags: expected a list such as [a,b], got a."),
        ("predict", ["x", "y", "--classes", "a", "b"], "--classes: expected a list such as [a,b] or null, got a."),
        ("predict", ["x", "y", "--mean", "1", "1"], "--mean: expected a list such as [0.5,0.5] or null, got 1."),
    ],
)
def test_a_wrong_value_is_said_in_the_form_that_is_wanted(name: str, words: list[str], expected: str) -> None:
    parser = run_parser(name) if name == "fit" else function_parser(predict, prog="cct predict")
    with pytest.raises(InputError) as refused:
        parser.parse_args(words)
    assert str(refused.value) == expected


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("--lr 0.1", "model.optim.lr"),
        ("--optim.lr 0.1", "model.optim.lr"),
        ("--pool mean", "model.pool"),
        ("--epochs 3", "trainer.max_epochs"),
        ("--trainer.max_ep 3", "trainer.max_epochs"),
        ("--Model.optim.LR 3", "model.optim.lr"),
        ("--batchsize 3", "data.batch_size"),
        ("--run_di x", "run_dir"),
        ("--data.sead 3", "data.std"),  # data.seed is linked
        ("--model.classes a", "model.loss"),
    ],
)
def test_the_hint_is_an_option_that_can_be_set(given: str, expected: str) -> None:
    sentence = unknown_option(given, command("fit").names)
    assert sentence == f"Unknown option: {given}. Did you mean {expected!r}?"


@pytest.mark.parametrize(
    ("word", "hint"), [("max", "maximum"), ("ABC", "abc"), ("abcd", "abc"), ("same", None), ("x", None)]
)
def test_the_nearest_word(word: str, hint: str | None) -> None:
    assert nearest(word, ["tax", "maximum", "abc", "same"]) == (f" Did you mean {hint!r}?" if hint else "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("trainer: 3", "trainer in mine.yaml is 3: give its options by name, such as trainer: {max_epochs: 3}."),
        ("model: [1]", "model in mine.yaml is [1]:"),
        ("data: mnist", "data in mine.yaml is mnist: give its options by name, such as data: {name: digits}."),
        ("tracking: off", "tracking in mine.yaml is false:"),
        ("model: {optim: muon}", "model.optim in mine.yaml is muon:"),
        ("model: {finetune: 3}", "model.finetune in mine.yaml is 3:"),
        ("data: {seed: 3}", "data.seed in mine.yaml cannot be set: give seed_everything."),
        ("model: {classes: [a]}", "model.classes in mine.yaml cannot be set: the data decides it"),
        ("config: digits", "a recipe builds on another by `base: digits`"),
    ],
)
def test_a_group_holds_options_that_can_be_set(
    text: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=re.escape(expected)):
        expand_configs(["--config", "mine.yaml"])


def test_an_empty_group_sets_nothing(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("trainer:\nmodel:\n  optim:\n")
    (word,) = expand_configs(["--config", str(tmp_path / "mine.yaml")])
    assert yaml.safe_load(word.partition("=")[2]) == {"model": {}}


def test_a_recipe_adds_to_a_list(tmp_path: Path) -> None:
    """`callbacks+` is what the command line calls it, too; it may have options below it."""
    timer = "class_path: pytorch_lightning.callbacks.Timer"
    for number, text in enumerate((f"{{callbacks+: {{{timer}}}}}", f"{{callbacks+: [{{{timer}}}]}}")):
        (tmp_path / f"{number}.yaml").write_text(f"trainer: {text}")
        check("fit", ["--config", str(tmp_path / f"{number}.yaml")])
    (tmp_path / "typo.yaml").write_text(f"trainer: {{calbacks+: {{{timer}}}}}")
    with pytest.raises(InputError, match=r"Did you mean 'trainer\.callbacks'"):
        check("fit", ["--config", str(tmp_path / "typo.yaml")])


def _folder_with_broken_image(root: Path) -> None:
    from PIL import Image

    for split in ("train", "test"):
        for name in ("cat", "dog"):
            (root / split / name).mkdir(parents=True)
            for i in range(4):
                Image.new("RGB", (8, 8), (i, 0, 0)).save(root / split / name / f"{i}.png")
    whole = (root / "train" / "dog" / "2.png").read_bytes()
    (root / "train" / "dog" / "2.png").write_bytes(whole[: len(whole) // 2])


FILES = {
    "typo.yaml": "model:\n  arc: cct_7_3x1\n",
    "open.yaml": "model: [\n",
    "object.yaml": "model: !!python/object/apply:os.system ['touch stolen']\n",
    "tag.yaml": "data:\n  name: !!python/name:os.system\n",
    "string.yaml": "just words\n",
    "class.yaml": "trainer:\n  callbacks:\n  - class_path: subprocess.Popen\n    init_args: {args: [touch, stolen]}\n",
}

NO_DATA = "--data.name cifar10 --data.root empty --data.download false"

# Arguments after `cct fit`, and what the one sentence must say.
BAD: dict[str, tuple[str, str]] = {
    "mistyped option": ("--model.pol seqpool", "Did you mean 'model.pool'"),
    "mistyped nested option": ("--model.optim.lrr 1", "Did you mean 'model.optim.lr'"),
    "abbreviated option": ("--model.optim.warm 1", "Unknown option"),
    "wrong type": ("--model.optim.lr abc", "--model.optim.lr: expected float, got abc"),
    "unknown choice": ("--tracking.mode sometimes", "'offline'"),
    "unknown recipe": ("--config digitz", "Did you mean 'digits'"),
    "missing config": ("--config nowhere/x.yaml", "No config file nowhere/x.yaml"),
    "typo in config": ("--config typo.yaml", "Did you mean 'model.arch'"),
    "malformed config": ("--config open.yaml", "open.yaml is no YAML in line"),
    "object in config": ("--config object.yaml", "python/object"),
    "config without keys": ("--config string.yaml", "Unexpected config"),
    "foreign class in config": ("--config class.yaml", "subprocess.Popen"),
    "unknown model": ("--model.arch cct_7", "Unknown model 'cct_7'"),
    "unknown pool": ("--model.pool seqpol", "Did you mean 'seqpool'"),
    "heads": ("--model.num_heads 3", "3 attention heads do not divide"),
    "blocks": ("--model.conv_blocks 5 --model.kernel_size 7", "to a single token"),
    "patch": ("--data.img_size 9 --model.arch vit_2_4", "does not divide an image of 9x9"),
    "batch size": ("--data.batch_size 0", "batch_size must be at least 1"),
    "large batch": ("--data.batch_size 5000", "larger than the training set"),
    "learning rate": ("--model.optim.lr 0", "optim.lr is 0"),
    "warm-up": ("--trainer.max_epochs 2 --model.optim.warmup_epochs 5", "warm-up"),
    # Before data are downloaded or decoded, whose own faults would be reported first.
    "warm-up, early": (f"{NO_DATA} --trainer.max_epochs 2 --model.optim.warmup_epochs 5", "warm-up"),
    "learning rate, early": ("--data.name folder --data.root broken --model.optim.lr 0", "optim.lr is 0"),
    "no length, early": (f"{NO_DATA} --trainer.max_epochs null", "give --trainer.max_epochs"),
    "precision, early": (f"{NO_DATA} --trainer.accelerator cpu --trainer.precision 16-mixed", "in place of 16-mixed"),
    "accumulation, early": (f"{NO_DATA} --trainer.accumulate_grad_batches 0", "accumulate_grad_batches is 0"),
    "more devices, early": (f"{NO_DATA} --trainer.accelerator cpu --trainer.devices 4096", "4096 devices are asked"),
    "no devices, early": (f"{NO_DATA} --trainer.devices 0", "trainer.devices must be at least 1"),
    "divided batch, early": (f"{NO_DATA} --data.global_batch_size 99 --trainer.num_nodes 2", "divided by 2 devices"),
    "validation, early": (f"{NO_DATA} --trainer.val_check_interval 0", "val_check_interval is 0"),
    "untested run, early": (f"{NO_DATA} --trainer.enable_checkpointing false", "add --test_best false"),
    "seed": ("--seed_everything -1", "seed_everything is a whole number from 0"),
    "interval of validation": ("--trainer.val_check_interval 3", "an epoch has 1 batches"),
    "share of the test": ("--trainer.limit_test_batches 0.001", "limit_test_batches 0.001 of 6 batches is less than"),
    "no attention left": ("--model.attn_drop 1", "attn_drop is 1.0: it must be between 0 and 0.999"),
    "device list": ("--trainer.accelerator cpu --trainer.devices [0,1]", "should be an int > 0"),
    "plugin": ("--trainer.plugins+=lightning_fabric.plugins.TorchCheckpointIO", "leave TorchCheckpointIO out"),
    "argument of a class": ("--trainer.callbacks+=EarlyStopping", "EarlyStopping: the following arguments are"),
    "no epochs": ("--trainer.max_epochs 0", "max_epochs"),
    "data root missing": ("--data.name mnist --data.root nowhere", "nowhere"),
    "data root empty": ("--data.name mnist --data.root empty --data.download false", "empty"),
    "data half unpacked": ("--data.name mnist --data.root half --data.download false", "t10k-labels-idx1-ubyte"),
    "folder missing": ("--data.name folder --data.root nowhere", "nowhere"),
    "broken image": ("--data.name folder --data.root broken", "2.png"),
    "more devices": ("--trainer.accelerator cpu --trainer.devices 4096", "4096 devices are asked for"),
    "strategy of GPUs": ("--trainer.accelerator cpu --trainer.strategy fsdp", "requires a GPU"),
    "no devices": ("--trainer.accelerator cpu --trainer.devices 0", "devices"),
    "divided batch": ("--data.global_batch_size 99 --trainer.accumulate_grad_batches 2", "cannot be divided"),
    "foreign class as tokenizer": ("--model.tokenizer subprocess.Popen", "not a subclass of"),
    "foreign class as pool": ("--model.pool os.system", "os.system"),
    "foreign class as model": ("--model.arch subprocess.Popen", "subprocess.Popen"),
    "foreign class as logger": ("--trainer.logger subprocess.Popen", "subprocess.Popen"),
    "module of a class missing": ("--trainer.callbacks+=nowhere.Callback", "nowhere.Callback"),
    "tag in config": ("--config tag.yaml", "python/name"),
    "minutes between saves": ("--save_every_minutes -1", "save_every_minutes"),
    "folder that cannot be made": ("--run_dir /proc/nowhere/run", "/proc/nowhere/run"),
    "no gpu": ("--trainer.accelerator gpu", "gpu"),
    "checkpoint missing": ("--resume nowhere.ckpt", "No checkpoint at nowhere.ckpt"),
    "run folder is a file": ("--run_dir typo.yaml/run", "run_dir"),
    "unknown command": ("", "Did you mean 'fit'"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_sentence(case: str, cct: Cct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CCT_DATA", str(tmp_path / "cache"))
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "empty").mkdir()
    (tmp_path / "half" / "MNIST" / "raw").mkdir(parents=True)
    for stem in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3"):
        (tmp_path / "half" / "MNIST" / "raw" / f"{stem}-ubyte").write_bytes(b"")
    _folder_with_broken_image(tmp_path / "broken")
    args, expected = BAD[case]
    command = "fitt" if case == "unknown command" else "fit"
    # What is not refused trains one batch, and so fails here without keeping anybody waiting.
    short = "--config digits --trainer.limit_train_batches 1 --trainer.limit_val_batches 1"
    code, out, err = cct(command, *short.split(), *args.split())
    lines = [line for line in err.splitlines() if line.startswith("cct")]
    assert code == 2, out + err
    assert len(lines) == 1, err
    assert expected in lines[0]
    assert "Traceback" not in out + err
    assert not (tmp_path / "runs").exists(), "something was written before the input was known to be good"
    assert not (tmp_path / "stolen").exists()


@pytest.mark.parametrize(
    "args",
    [
        "fit --config digits --run_dir s3://bucket/run",
        "fit --config digits --resume gs://bucket/last.ckpt",
        "fit --config digits --data.root hdfs:///data",
        "fit --config digits --data.cache_dir s3://bucket/cache",
        "fit --config digits --model.pretrained https://example.org/cct.pth",
        "fit --config digits --trainer.default_root_dir s3://bucket/run",
        "test --run_dir s3://bucket/run",
        "test --ckpt_path s3://bucket/best.ckpt",
        "predict x.ckpt s3://bucket/images",
        "explain x.ckpt file:///images",
        "convert x.ckpt s3://bucket/x.pth",
        "export x.ckpt --out s3://bucket/x.onnx",
        "ablate tokenizer_x_pool --out s3://bucket/runs",
        "compare runs --out s3://bucket/table.csv",
        "report runs --out s3://bucket/report.html",
        "benchmark --json s3://bucket/speed.json",
    ],
)
def test_an_address_is_not_taken_for_a_folder(
    args: str, cct: Cct, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if args.startswith("ablate"):
        pytest.importorskip("ray")  # which it asks for first
    monkeypatch.chdir(tmp_path)
    code, out, err = cct(*args.split())
    assert code == 2, out + err
    assert "is an address: give a file or folder of this machine" in err
    assert re.search(r"\w+://\w*", err)
    assert list(tmp_path.iterdir()) == []


def test_evaluation_needs_a_checkpoint(cct: Cct, tmp_path: Path) -> None:
    for args, expected in (
        (["test"], "needs a trained model"),
        (["test", "--ckpt_path", str(tmp_path / "x.ckpt")], "No checkpoint"),
        (["validate", "--run_dir", str(tmp_path)], "No checkpoint in"),
    ):
        code, _, err = cct(*args)
        assert code == 2
        assert expected in err
    (tmp_path / "x.ckpt").write_bytes(b"not a checkpoint")
    code, _, err = cct("test", "--ckpt_path", str(tmp_path / "x.ckpt"))
    assert code == 2
    assert "cannot be read safely" in err

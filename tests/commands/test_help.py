"""Help is a page that a person reads: short, by topic, with defaults, and the rest on request."""

from collections.abc import Callable

import pytest

from cct_lightning.commands.help.pages import asked, beginning, page
from cct_lightning.commands.help.table import RUN_COMMANDS, command
from cct_lightning.commands.main import COMMANDS
from cct_lightning.errors import InputError


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_fits_a_terminal(name: str) -> None:
    lines = page(name).splitlines()
    assert len(lines) <= 100
    assert max(map(len, lines)) <= 80
    assert lines[0].startswith(f"usage: cct {name}")
    # The first sentence of an option says what it is in the room that there is.
    assert not [line for line in lines if line.endswith("...") and name in RUN_COMMANDS]
    if name not in RUN_COMMANDS:
        assert all(option.name in page(name) for option in command(name).options)


def test_own_options_are_there_by_topic_with_their_defaults() -> None:
    lines = page("fit").splitlines()
    topics = [line for line in lines if line.endswith(":")]
    assert topics == [
        "Run:", "Data:", "Augmentation:", "Model:", "Optimizer and schedule:", "Training:", "Tracking:",
    ]  # fmt: skip
    heads = [" ".join(line.split()[:2]) for line in lines if line.startswith("  --")]
    assert len(heads) == len({head.split()[0] for head in heads})
    for head in ("--model.arch cct_7_3x1", "--model.optim.lr 0.0005", "--data.val_fraction 0.1", "--test_best true"):
        assert head in heads
    own = {f"--{option.name}" for option in command("fit").options if not option.name.startswith("trainer.")}
    assert len(own - {head.split()[0] for head in heads}) <= 5


@pytest.mark.parametrize("topic", ["trainer", "model", "optim", "data", "tracking", "run"])
def test_all_about_a_topic(topic: str) -> None:
    text = page("fit", topic)
    for option in command("fit").options:
        here = f".{topic}." in f".{option.name}." or (topic == "run" and "." not in option.name)
        assert (f"  --{option.name}" in text) or not here
    assert page("fit", "all").count("\n  --") == len(command("fit").options) - 1


def test_an_option_alone_and_a_topic_that_is_none() -> None:
    expected = "  --model.optim.schedule {cosine, linear, constant}, default cosine\n"
    assert page("fit", "schedule").startswith(expected)
    assert page("fit", "--model.optim.schedule").startswith(expected)
    assert "--trainer.callbacks.help CLASS" in page("fit", "callbacks")
    with pytest.raises(InputError, match=r"No help on 'trianer': give run, .* Did you mean 'trainer'"):
        page("fit", "trianer")


def test_an_evaluation_is_about_its_checkpoint() -> None:
    lines = page("test").splitlines()
    assert lines[4:6] == ["Checkpoint:", "  --run_dir       Folder of the run; a fresh one under runs/ when null"]
    assert "--model.optim.lr" not in page("test")
    assert "--ckpt_path" in page("test", "run")
    assert "--model.optim.lr" in page("test", "all")


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ("--help", "usage"), ("-h", "usage"), ("--config digits --help", "usage"), ("--help --config digits", "usage"),
        ("--help=lr", "  --model.optim.lr"), ("--help lr", "  --model.optim.lr"),
        ("--help --lr", "  --model.optim.lr"), ("--help --model.optim.lr", "  --model.optim.lr"),
        ("--help -x", "usage"), ("--config digits", None),
        ("--trainer.callbacks.help EarlyStopping", None), ("-- --help", None),
    ],
)  # fmt: skip
def test_where_help_is_asked_for(args: str, expected: str | None) -> None:
    found = asked("fit", args.split())
    assert (found is None) if expected is None else (found is not None and found.startswith(expected))


def test_a_class_is_documented_by_the_parser(cct: Callable[..., tuple[int, str, str]]) -> None:
    code, out, err = cct("fit", "--data.mixing.help")
    assert code == 0, err
    assert "--data.mixing.mixup_alpha" in out


def test_the_beginning_of_a_documentation() -> None:
    assert beginning("Peak rate, for a batch. More.", 40) == "Peak rate, for a batch"
    assert beginning("Peak rate, for a batch of images", 20) == "Peak rate"
    assert beginning("Log to W&B: `a`, `b` or `c` of all", 20) == "Log to W&B"
    assert beginning("A sentence that is too long", 20) == "A sentence that..."

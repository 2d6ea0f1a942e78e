"""The pages of help: of `fit`, `validate` and `test` a short one by topic, and all about a group; of others the whole.

    cct fit --help             at most 100 lines
    cct fit --help trainer     all about a group, an option (`lr` or `--lr`), or `all`
"""  # fmt: skip

import re
import textwrap
from collections.abc import Iterable, Sequence

from cct_lightning.commands.help.table import CHOICE, RUN_COMMANDS, Command, Option, command
from cct_lightning.config.options import text
from cct_lightning.errors import InputError, nearest

_WIDTH = 80
_HELP = ("-h", "--help")

# What the short page has of Lightning's Trainer, in this order and these words.
_TRAINER = {
    "trainer.max_epochs": "Epochs to train",
    "trainer.max_steps": "Optimizer steps to train at most",
    "trainer.max_time": "Time to train at most, as DD:HH:MM:SS",
    "trainer.precision": "32-true, bf16-mixed or 16-mixed",
    "trainer.accelerator": "auto, cpu, gpu or mps",
    "trainer.devices": "How many devices, or which",
    "trainer.num_nodes": "Machines",
    "trainer.strategy": "Of several devices, such as ddp or fsdp",
    "trainer.accumulate_grad_batches": "Batches per optimizer step",
    "trainer.gradient_clip_val": "Largest norm of the gradients",
    "trainer.callbacks": "Lightning's callbacks, or yours",
    "trainer.fast_dev_run": "Run one batch of everything, to try",
}

# Topic of the short page -> its options; a dot at the end stands for all below that are under no topic before.
_TOPICS: dict[str, tuple[str, ...]] = {
    "Run": ("config", "seed_everything", "run_dir", "resume", "save_every_minutes", "test_best", "print_config"),
    "Augmentation": ("data.augment", "data.mixing"),
    "Data": ("data.",),
    "Optimizer and schedule": ("model.optim.", "model.finetune."),
    "Model": ("model.",),
    "Training": tuple(_TRAINER),
    "Tracking": ("tracking.",),
}
_ORDER = ("Run", "Data", "Augmentation", "Model", "Optimizer and schedule", "Training", "Tracking")
# What an evaluation needs: the rest is the checkpoint's.
_EVALUATION: dict[str, tuple[str, ...]] = {
    "Checkpoint": ("run_dir", "ckpt_path", "allow_import"),
    "Data": ("data.name", "data.root", "data.cache_dir", "data.download", "data.batch_size", "data.num_workers"),
    "Device": ("trainer.precision", "trainer.accelerator", "trainer.devices"),
    "Tracking": ("tracking.mode", "tracking.project", "tracking.entity"),
}
# Left to `--help all`.
_RARE = ("tracking.pictures", "tracking.save_code", "tracking.metadata", "model.optim.eps", "model.optim.muon_momentum")


def asked(name: str, args: Sequence[str]) -> str | None:
    """Return the page that the words after a command ask for; None where they ask for none.

    Raises:
        InputError: No such topic.
    """
    for i, (word, following) in enumerate(zip(args, [*args[1:], ""], strict=False)):
        if word == "--":
            return None
        if word in _HELP or word.startswith("--help="):
            # The last word may be an option without its value, `--help --lr`; others belong to the command.
            is_topic = not following.startswith("-") or (i == len(args) - 2 and following.startswith("--"))
            topic = word.partition("=")[2] or (following if is_topic else "")
            return page(name, topic)
    return None


def page(name: str, topic: str = "") -> str:
    """Return a page of help.

    Args:
        name: The command.
        topic: Of the commands of a run: `trainer`, `model`, `optim`, ... or an option, `all`; empty: the short page.

    Raises:
        InputError: No such topic.
    """
    found = command(name)
    if name not in RUN_COMMANDS:
        note = ["", _wrapped(found.note)] if found.note else []
        return "\n".join([*_head(name, found), *_whole(found.options), *note])
    if not topic:
        return "\n".join([*_head(name, found), *_short(name, found.options)])
    topic = topic.removeprefix("--")
    if topic == "all":
        return "\n".join(_whole(found.options))
    if topic == "run":
        return "\n".join(_whole(option for option in found.options if "." not in option.name))
    about = [option for option in found.options if f".{topic}." in f".{option.name}."]
    if not about:
        topics = topics_of(name)
        raise InputError(f"No help on {topic!r}: give {', '.join(topics)} or an option.{nearest(topic, found.names)}")
    return "\n".join(_whole(about))


def topics_of(name: str) -> list[str]:
    """Return what `--help` takes of a command, beside the names of options."""
    if name not in RUN_COMMANDS:
        return []
    groups = (group for option in command(name).options for group in option.name.split(".")[:-1])
    return ["run", *dict.fromkeys(groups), "all"]


def _head(name: str, found: Command) -> list[str]:
    words = [f" {option.name}{'...' if option.several else ''}" for option in found.options if option.positional]
    summary = found.summary[:1].upper() + found.summary[1:].rstrip(".") + "."
    return [f"usage: cct {name}{''.join(words)} [--OPTION VALUE ...]", "", _wrapped(summary), ""]


def _wrapped(words: str, indent: str = "", hanging: str | None = None) -> str:
    later = indent if hanging is None else hanging
    return textwrap.fill(
        words, _WIDTH, initial_indent=indent, subsequent_indent=later, break_on_hyphens=False, break_long_words=False
    )


def _short(name: str, options: Sequence[Option]) -> list[str]:
    topics = _TOPICS if name == "fit" else _EVALUATION
    shown: dict[str, list[Option]] = {topic: [] for topic in (_ORDER if name == "fit" else topics)}
    for topic, names in topics.items():
        for wanted in names:
            shown[topic] += [
                option
                for option in options
                if (option.name == wanted or (wanted[-1] == "." and option.name.startswith(wanted)))
                and option.name not in _RARE
                and not any(option in before for before in shown.values())
            ]
    lines = []
    for topic, group in shown.items():
        lines += [f"{topic}:", *_lines(group)]
    return [*lines, "", *_closing(name)]


def _closing(name: str) -> list[str]:
    topics = ", ".join(topics_of(name))
    evaluation = [] if name == "fit" else ["All other options are the checkpoint's; what is given here wins."]
    return [
        *evaluation,
        "Beside an option is its default, where it has one.",
        _wrapped(f"More: cct {name} --help TOPIC, which is {topics}, or an option such as lr."),
    ]


def _lines(options: Sequence[Option]) -> list[str]:
    """Return one line for each option: name, default, the beginning of its documentation."""
    heads = [f"  --{option.name}{'' if option.default is None else f' {text(option.default)}'}" for option in options]
    width = max(map(len, heads)) + 2
    lines = []
    for head, option in zip(heads, options, strict=True):
        lines.append(f"{head:{width}}{_TRAINER.get(option.name) or beginning(option.help, _WIDTH - width)}")
    return lines


def beginning(documentation: str, width: int) -> str:
    """Return as much of the first sentence as fits, cut where a clause ends."""
    sentence = re.split(r"\. |\.$", documentation.replace("`", ""))[0]
    if len(sentence) <= width:
        return sentence
    for boundary in (r"[:;] | \(", ", "):
        if ends := [found.start() for found in re.finditer(boundary, sentence) if found.start() <= width]:
            return sentence[: ends[-1]]
    return textwrap.shorten(sentence, width, placeholder="...")


def _whole(options: Iterable[Option]) -> list[str]:
    """Return all about options, the positional ones first."""
    lines = []
    for option in sorted(options, key=lambda option: not option.positional):
        head = option.name if option.positional else f"--{option.name}"
        lines.append(_wrapped(head + _value(option), "  ", "          "))
        if option.help:
            lines.append(_wrapped(option.help, "      "))
    return lines


def _value(option: Option) -> str:
    choices = "{" + ", ".join(dict.fromkeys(map(str, option.choices))) + "}"
    names = [{CHOICE: choices, "NonNegativeFloat": "float", "Path": "path"}.get(name, name) for name in option.types]
    kind = f" {' or '.join(names)}{' ...' if option.several else ''}" if names else ""
    return kind + ("" if option.default is None else f", default {text(option.default)}")

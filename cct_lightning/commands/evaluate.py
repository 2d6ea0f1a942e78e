"""`cct validate` and `cct test` take their options from the checkpoint: its run's model and data."""

from pathlib import Path
from typing import Any

import torch
import yaml

from cct_lightning.errors import InputError
from cct_lightning.models.weights.reader import check_size

# What the data decides and the model needs: linked, never typed twice.
LINKS = ("img_size", "in_chans", "num_classes", "classes", "mean", "std")


def with_checkpoint_options(args: list[str]) -> list[str]:
    """Give `validate` and `test` the options of the run that a checkpoint comes from.

    `--run_dir DIR` stands for its best checkpoint. The run's model and data come first, so that the options
    of the command line win.
    """
    command, *rest = args
    options: dict[str, str | None] = {"--ckpt_path": None, "--run_dir": None}
    for word, value in zip(rest, [*rest[1:], ""], strict=False):
        option, equals, inline = word.partition("=")
        if option in options:
            options[option] = inline if equals else value
    path, run_dir = options["--ckpt_path"], options["--run_dir"]
    if path is None and run_dir is not None:
        folder = Path(run_dir)
        found = [folder / name for name in ("best.ckpt", "last.ckpt") if (folder / name).is_file()]
        if not found:
            raise InputError(f"No checkpoint in {folder}: --run_dir takes the folder of a run of `cct fit`.")
        path = str(found[0])
        rest.append(f"--ckpt_path={path}")
    if path is None:
        if {"--help", "-h", "--print_config"} & {word.partition("=")[0] for word in rest}:
            return args
        raise InputError(f"`cct {command}` needs a trained model: give --run_dir RUN_FOLDER or --ckpt_path FILE.")
    checkpoint = read_checkpoint(Path(path))
    hparams = checkpoint["hyper_parameters"]
    # A converted checkpoint tells its model alone; the data comes from the command line.
    config = checkpoint.get("config") or {"model": {k: v for k, v in hparams.items() if k not in LINKS}}
    kept = {key: config[key] for key in ("model", "data", "seed_everything", "tracking") if key in config}
    # The weights are in the checkpoint, and with them the position embedding that they hold.
    if kept.get("model", {}).pop("pretrained", None) and "position" in hparams:
        kept["model"]["position"] = hparams["position"]
    return [command, f"--config={yaml.safe_dump(kept)}", *rest]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint without running any code that it may hold.

    Raises:
        InputError: No file, a zip bomb, or none that PyTorch's safe loader accepts.
    """
    check_size(path)
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        raise InputError(f"No checkpoint at {path}.") from None
    except Exception as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"{path} cannot be read safely as a checkpoint ({reason}).") from error
    if not isinstance(checkpoint, dict) or "hyper_parameters" not in checkpoint:
        raise InputError(f"{path} is no checkpoint of `cct fit`: make one of other weights with `cct convert`.")
    return checkpoint

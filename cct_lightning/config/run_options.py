"""Options of a run beside those of model, data and Trainer: seed, run folder, resuming, tracking, links."""

from jsonargparse.typing import NonNegativeFloat
from pytorch_lightning.cli import LightningArgumentParser

from cct_lightning.commands.evaluate import LINKS
from cct_lightning.tracking.wandb_logger import Tracking


def add_seed(parser: LightningArgumentParser) -> None:
    """Add the seed, an int, so that every run can be repeated."""
    parser.add_argument(
        "--seed_everything",
        type=int,
        default=0,
        help="Seed of the weights, the order of the images, augmentation and dropout.",
    )


def add_run_options(parser: LightningArgumentParser) -> None:
    """Add the run folder and tracking, and link the model to the data."""
    parser.add_argument("--base", type=str | None, default=None, help="Recipe that a configuration file builds on.")
    parser.add_argument(
        "--run_dir", type=str | None, default=None, help="Folder of the run; a fresh one under runs/ when null."
    )
    parser.add_argument(
        "--resume",
        type=str,
        default="auto",
        help="`auto` continues from last.ckpt where the run folder has one, `never` refuses such a folder, "
        "or the path of the checkpoint to continue from.",
    )
    parser.add_argument(
        "--save_every_minutes",
        type=NonNegativeFloat,
        default=10.0,
        help="Minutes between two saves of last.ckpt within an epoch; the end of an epoch always saves.",
    )
    parser.add_argument(
        "--test_best",
        type=bool,
        default=True,
        help="Test the best epoch once, at the end of fit, where the data has a test split.",
    )
    parser.add_class_arguments(Tracking, "tracking")
    parser.link_arguments("seed_everything", "data.seed")
    for name in LINKS:
        parser.link_arguments(f"data.{name}", f"model.{name}", apply_on="instantiate")

"""Options of Weights & Biases. wandb's own environment variables say what an option leaves open."""

from dataclasses import dataclass, field
from typing import Literal

from cct_lightning.errors import InputError


@dataclass(frozen=True)
class Tracking:
    """Weights & Biases.

    Args:
        mode: `auto` is online when logged in and the server answers, else offline; `disabled` writes the CSV alone.
        project: W&B project; when None, WANDB_PROJECT or else cct_lightning.
        entity: W&B user or team; when None, WANDB_ENTITY or else your default one.
        group: Name that the runs of one ablation share; when None, WANDB_RUN_GROUP.
        tags: Tags beside those of model and data set; when empty, WANDB_TAGS.
        name: Display name; when None, WANDB_NAME or else model and data set.
        media_every_n_epochs: Epochs between tables of mistakes, confusion matrices and SeqPool maps; 0 for none.
        pictures: Import paths of your own pictures, functions registered by `cct_lightning.analysis.picture`.
        artifacts: Log best.ckpt and last.ckpt as an artifact; when None, only online.
    """

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    name: str | None = None
    media_every_n_epochs: int = 25
    pictures: list[str] = field(default_factory=list)
    artifacts: bool | None = None

    def __post_init__(self) -> None:
        if self.media_every_n_epochs < 0:
            raise InputError(f"media_every_n_epochs is {self.media_every_n_epochs}: give 0 for none, or more.")

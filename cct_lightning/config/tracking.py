"""Options of Weights & Biases."""

from dataclasses import dataclass, field
from typing import Literal

from cct_lightning.errors import InputError


@dataclass(frozen=True)
class Tracking:
    """Weights & Biases.

    Args:
        mode: `auto` is online when logged in and the server answers, else offline; `disabled` writes the CSV alone.
        project: W&B project.
        entity: W&B user or team; your default one when None.
        group: Name that the runs of one ablation share.
        tags: Tags beside those of model and data set.
        name: Display name; model and data set when None.
        media_every_n_epochs: Epochs between tables of mistakes, confusion matrices and SeqPool maps; 0 for none.
        pictures: Import paths of your own pictures, functions registered by `cct_lightning.analysis.picture`.
        artifacts: Log best.ckpt and last.ckpt as an artifact; when None, only online.
    """

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "cct_lightning"
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

"""Options of W&B and other loggers. wandb's own environment variables say what an option leaves open."""

import re
from dataclasses import dataclass, field
from typing import Literal

from cct_lightning.errors import InputError

LoggerName = Literal["wandb", "tensorboard", "mlflow", "csv"]


@dataclass(frozen=True)
class Tracking:
    """Weights & Biases, and other loggers.

    Args:
        logger: `wandb`, `tensorboard`, `mlflow`, or several as a list; `csv` is metrics.csv alone, which is always
            written.
        mode: Of W&B: `auto`, `online`, `offline`, `disabled`. `auto` is online when logged in and the server answers,
            else offline; `disabled` leaves W&B out.
        project: W&B project, MLflow's experiment; WANDB_PROJECT or else cct_lightning when None.
        entity: W&B user or team; WANDB_ENTITY or else your default one when None.
        group: Name that the runs of one ablation share; WANDB_RUN_GROUP when None.
        tags: Tags beside those of model and data set; WANDB_TAGS when empty.
        name: Display name; WANDB_NAME or else model and data set when None.
        media_every_n_epochs: Epochs between pictures: tables of mistakes, confusion matrices, SeqPool maps; 0 for none.
        pictures: Import paths of your own pictures, functions registered by `cct_lightning.analysis.picture`.
        artifacts: Log best.ckpt and last.ckpt as an artifact; only online when None.
        watch: Log histograms to W&B: of `gradients`, `parameters` or `all`, at every step that is logged.
        save_code: Log the Python files below the working directory to W&B.
        metadata: Let W&B keep its own record of the machine and of git: host name, paths, remote, changed lines.
    """

    logger: LoggerName | list[LoggerName] = "wandb"
    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str | None = None
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    name: str | None = None
    media_every_n_epochs: int = 25
    pictures: list[str] = field(default_factory=list)
    artifacts: bool | None = None
    watch: Literal["gradients", "parameters", "all"] | None = None
    save_code: bool = False
    metadata: bool = False

    @property
    def loggers(self) -> list[LoggerName]:
        """The loggers by name, each once."""
        return list(dict.fromkeys(self.logger if isinstance(self.logger, list) else [self.logger]))

    def __post_init__(self) -> None:
        if found := re.search(r"[/\\#?%:]", self.project or ""):
            raise InputError(
                f"tracking.project is {self.project!r}: W&B takes no {found[0]!r} in the name of a project."
            )
        if self.media_every_n_epochs < 0:
            raise InputError(f"media_every_n_epochs is {self.media_every_n_epochs}: give 0 for none, or more.")

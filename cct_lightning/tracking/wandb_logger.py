"""Where metrics go: a CSV in the run folder, and Weights & Biases, offline by itself where nothing is logged in."""

import logging
import netrc
import os
import secrets
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

import wandb
from pytorch_lightning.loggers import WandbLogger

from cct_lightning.errors import InputError
from cct_lightning.system.atomic import write_text
from cct_lightning.tracking.shield import ShieldedWandbLogger


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
        artifacts: Log best.ckpt and last.ckpt as an artifact; when None, only online.
    """

    mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    project: str = "cct_lightning"
    entity: str | None = None
    group: str | None = None
    tags: list[str] = field(default_factory=list)
    name: str | None = None
    media_every_n_epochs: int = 25
    artifacts: bool | None = None

    def __post_init__(self) -> None:
        if self.media_every_n_epochs < 0:
            raise InputError(f"media_every_n_epochs is {self.media_every_n_epochs}: give 0 for none, or more.")


_DATA_DIR_GIVEN = "WANDB_DATA_DIR" in os.environ


def _without_home(record: logging.LogRecord) -> bool:
    # wandb writes the path of the run folder into debug.log.
    home = os.path.expanduser("~")
    if len(home) > 1:
        record.msg, record.args = record.getMessage().replace(home + os.sep, "~" + os.sep), ()
    return True


def logged_in() -> bool:
    """Say whether wandb finds credentials, without asking the user for any."""
    if os.environ.get("WANDB_API_KEY") or os.environ.get("WANDB_IDENTITY_TOKEN_FILE"):
        return True
    host = urlsplit(_server()).hostname or ""
    candidates = [os.environ["NETRC"]] if os.environ.get("NETRC") else ["~/.netrc", "~/_netrc"]
    for name in candidates:
        try:
            if netrc.netrc(os.path.expanduser(name)).authenticators(host):
                return True
        except (OSError, netrc.NetrcParseError):
            continue
    return False


def _server() -> str:
    return os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai")


def _reachable(timeout: float = 3.0) -> bool:
    parts = urlsplit(_server())
    try:
        with socket.create_connection((parts.hostname or "", parts.port or 443), timeout=timeout):
            return True
    except OSError:
        return False


def wandb_mode(mode: Literal["auto", "online", "offline", "disabled"]) -> tuple[str, str]:
    """Decide how W&B runs.

    Args:
        mode: What the user asked for; `auto` also heeds the environment variable WANDB_MODE.

    Returns:
        `online`, `offline` or `disabled`, and one line for the user (empty when online).
    """
    chosen: str = mode
    if mode == "auto":
        chosen = {"dryrun": "offline"}.get(os.environ.get("WANDB_MODE", ""), os.environ.get("WANDB_MODE", ""))
    why = ""
    if chosen not in ("online", "offline", "disabled"):
        chosen, why = "online", ""
        if not logged_in():
            chosen, why = "offline", "no login"
        elif not _reachable():
            chosen, why = "offline", "its server does not answer"
    if chosen == "offline":
        return (
            chosen,
            f"W&B is offline{f' ({why})' if why else ''}: sync later with `wandb sync RUN_DIR/wandb/offline-run-*`",
        )
    return chosen, "W&B is disabled: metrics go to metrics.csv alone" if chosen == "disabled" else ""


def wandb_logger(
    run_dir: Path, tracking: Tracking, *, mode: str, name: str, tags: list[str], job_type: str
) -> WandbLogger:
    """Return the W&B logger of a run; the run itself begins with the first value logged.

    Args:
        run_dir: Run folder.
        tracking: The user's options.
        mode: `online` or `offline`.
        name: Display name when the user gave none.
        tags: Tags of model and data set.
        job_type: `fit` or `test`.
    """
    # The run file is flushed every second, not every fifteen: a killed run loses little.
    os.environ.setdefault("WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL", "1")
    if not _DATA_DIR_GIVEN:
        # Tables wait for their upload here; wandb's own place for them is below the home folder.
        os.environ["WANDB_DATA_DIR"] = str(run_dir / "wandb")
    logging.getLogger("wandb").addFilter(_without_home)
    logger = ShieldedWandbLogger(
        project=tracking.project,
        entity=tracking.entity,
        group=tracking.group,
        name=tracking.name or name,
        tags=[*tags, *tracking.tags],
        job_type=job_type,
        save_dir=str(run_dir),
        offline=mode == "offline",
        # The environment stands in the run's config; wandb's own record of it holds paths below the home folder.
        settings=wandb.Settings(
            silent=True, x_disable_meta=True, disable_git=True, save_code=False, x_log_level=logging.ERROR
        ),
    )
    # Lightning always passes this one, and wandb warns that it has no effect.
    logger._wandb_init.pop("anonymous", None)
    return logger


def claim_run_id(logger: WandbLogger, run_dir: Path) -> None:
    """Give a W&B run the id that its folder keeps, so that a continued run stays one run.

    Under `wandb agent` the sweep has given the id already.

    Args:
        logger: A logger whose run has not begun.
        run_dir: An existing run folder; the id is drawn when it has none yet.
    """
    if os.environ.get("WANDB_SWEEP_ID"):
        return
    path = run_dir / "wandb" / "run_id"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        write_text(path, secrets.token_hex(4) + "\n")
    logger._wandb_init["id"] = path.read_text().strip()

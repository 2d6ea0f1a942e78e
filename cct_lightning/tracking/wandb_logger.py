"""The logger of Weights & Biases: offline where nobody is logged in, and one W&B run however often a run continues."""

import contextlib
import logging
import netrc
import os
import secrets
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import SplitResult, urlsplit

import wandb
from pytorch_lightning.loggers import Logger, WandbLogger

from cct_lightning.compat import wandb_init_options
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.config.tracking import Tracking
from cct_lightning.runs.folder import RunFolder
from cct_lightning.system.atomic import write_text
from cct_lightning.tracking.shield import ShieldedWandbLogger

_QUIET: dict[str, Any] = {"silent": True, "disable_git": True, "save_code": False}
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
    given = os.environ.get("NETRC")
    for name in [given] if given else ["~/.netrc", "~/_netrc"]:
        with contextlib.suppress(OSError, netrc.NetrcParseError):
            if netrc.netrc(os.path.expanduser(name)).authenticators(_server().hostname or ""):
                return True
    return False


def _server() -> SplitResult:
    return urlsplit(os.environ.get("WANDB_BASE_URL", "https://api.wandb.ai"))


def _reachable() -> bool:
    address = (_server().hostname or "", _server().port or 443)
    with contextlib.suppress(OSError), socket.create_connection(address, timeout=3.0):
        return True
    return False


def wandb_mode(mode: Literal["auto", "online", "offline", "disabled"]) -> tuple[str, str]:
    """Decide how W&B runs.

    Args:
        mode: What the user asked for; `auto` also follows the environment variable WANDB_MODE.

    Returns:
        `online`, `offline` or `disabled`, and one line for the user (empty when online).
    """
    chosen = (os.environ.get("WANDB_MODE", "") if mode == "auto" else mode).replace("dryrun", "offline")
    why = ""
    if chosen not in ("online", "offline", "disabled"):
        why = " (no login)" if not logged_in() else "" if _reachable() else " (its server does not answer)"
        chosen = "offline" if why else "online"
    notes = {
        "offline": f"W&B is offline{why}: sync later with `wandb sync RUN_DIR/wandb/offline-run-*`",
        "disabled": "W&B is disabled: metrics are in metrics.csv only",
    }
    return chosen, notes.get(chosen, "")


def wandb_logger(run_dir: Path, tracking: Tracking, *, mode: str, config: ResolvedConfig, job_type: str) -> WandbLogger:
    """Return the W&B logger of a run; the run itself begins with the first value logged.

    `mode` is `online` or `offline`, `job_type` is `fit` or `test`; the configuration gives the run a name and tags.
    Options win over wandb's environment variables, and these over what we set of ourselves.
    """
    given = {key: value for key, value in os.environ.items() if value}
    # The run file is flushed every second, not every fifteen: a killed run loses little.
    os.environ.setdefault("WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL", "1")
    if not _DATA_DIR_GIVEN:
        # Tables wait for their upload here; wandb's own place for them is below the home folder.
        os.environ["WANDB_DATA_DIR"] = str(run_dir / "wandb")
    logging.getLogger("wandb").addFilter(_without_home)
    logger = ShieldedWandbLogger(
        project=tracking.project or given.get("WANDB_PROJECT", "cct_lightning"),
        entity=tracking.entity,
        group=tracking.group,
        name=tracking.name or given.get("WANDB_NAME", config.name),
        tags=[*config.tags, *(tracking.tags or filter(None, given.get("WANDB_TAGS", "").split(",")))],
        job_type=given.get("WANDB_JOB_TYPE", job_type),
        save_dir=str(run_dir),
        offline=mode == "offline",
        # The environment is in the run's config; wandb's own record of it holds paths below the home folder.
        settings=wandb.Settings(
            x_disable_meta=True,
            x_log_level=logging.ERROR,
            **{key: value for key, value in _QUIET.items() if f"WANDB_{key.upper()}" not in given},
        ),
    )
    wandb_init_options(logger).pop("anonymous", None)
    return logger


def claim_run_id(logger: WandbLogger, run_dir: Path) -> None:
    """Give a W&B run the id that its folder keeps, so that a continued run stays one run.

    WANDB_RUN_ID, which `wandb agent` sets, has given the id already. The run must not have begun; the folder exists,
    and the id is drawn when it has none yet.
    """
    if os.environ.get("WANDB_RUN_ID") or os.environ.get("WANDB_SWEEP_ID"):
        return
    path = run_dir / "wandb" / "run_id"
    if not path.is_file():
        path.parent.mkdir(exist_ok=True)
        write_text(path, secrets.token_hex(4) + "\n")
    wandb_init_options(logger)["id"] = path.read_text(encoding="utf-8").strip()


def finish_wandb(loggers: Sequence[Logger]) -> None:
    """End the W&B runs of some loggers, so that the next run of this process is a run of its own."""
    for logger in loggers:
        if isinstance(logger, WandbLogger):
            logger.experiment.finish()


def upload(loggers: Sequence[Logger], folder: RunFolder, tracking: Tracking, summary: dict[str, Any]) -> None:
    """Log best.ckpt and last.ckpt as versions of one artifact, with the aliases `best` and `last`, and say so.

    By default only where W&B is online, since offline they would be copied. The summary (scores, costs) is kept with
    them. The run of the loggers must not have ended.
    """
    for logger in loggers:
        if not isinstance(logger, ShieldedWandbLogger) or logger.lost:
            continue
        if not (logger.is_online if tracking.artifacts is None else tracking.artifacts):
            continue
        run, parts = logger.experiment, []
        for alias, path in (("last", folder / folder.LAST), ("best", folder / folder.BEST)):
            if path.is_file():
                artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata={**summary, "checkpoint": alias})
                # Not to be copied: nothing writes the file any more.
                artifact.add_file(str(path), name=path.name, policy="immutable")
                run.log_artifact(artifact, aliases=[alias])
                parts.append(f"{path.name} ({path.stat().st_size / 1e6:,.1f} MB)")
        print(f"W&B artifact model-{run.id}: {', '.join(parts)}")

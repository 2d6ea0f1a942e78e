"""The logger of Weights & Biases: how it is set up, and one W&B run however often a run continues."""

import logging
import os
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger, WandbLogger

from cct_lightning.compat import wandb_init_options, wandb_lost_errors
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.config.tracking import Tracking
from cct_lightning.runs.folder import RunFolder
from cct_lightning.system.atomic import write_text
from cct_lightning.tracking.shield import ShieldedWandbLogger, first_line

_FINISH_SECONDS = 300.0  # that a run waits at its end for the last upload, unless WANDB_FINISH_TIMEOUT says otherwise
_DATA_DIR_GIVEN = "WANDB_DATA_DIR" in os.environ


def _without_home(record: logging.LogRecord) -> bool:
    # wandb writes the path of the run folder into debug.log.
    home = os.path.expanduser("~")
    if len(home) > 1:
        record.msg, record.args = record.getMessage().replace(home + os.sep, "~" + os.sep), ()
    return True


def wandb_logger(
    run_dir: Path, tracking: Tracking, *, mode: str, why_offline: str = "", config: ResolvedConfig, job_type: str
) -> ShieldedWandbLogger:
    """Return the W&B logger of a run; the run itself begins with the first value logged.

    `mode` and `why_offline` are what `wandb_mode` returned, `job_type` is `fit` or `test`; the configuration gives the
    run a name and tags. Options win over wandb's environment variables, and these over what we set of ourselves.
    """
    import wandb

    for key in [name for name, value in os.environ.items() if name.startswith("WANDB_") and not value]:
        del os.environ[key]  # wandb refuses a variable that is set to nothing
    given = dict(os.environ)
    # The run file is flushed every second, not every fifteen: a killed run loses little.
    os.environ.setdefault("WANDB_X_TRANSACTION_LOG_FLUSH_INTERVAL", "1")
    if not _DATA_DIR_GIVEN:
        # Tables wait for their upload here; wandb's own place for them is below the home folder.
        os.environ["WANDB_DATA_DIR"] = str(run_dir / "wandb")
    # Of the program wandb would keep `cct` alone; `save_code` keeps the user's files.
    quiet: dict[str, Any] = {"silent": True, "save_code": False, "disable_git": not tracking.metadata}
    quiet["finish_timeout"] = _FINISH_SECONDS
    logging.getLogger("wandb").addFilter(_without_home)
    logger = ShieldedWandbLogger(
        why_offline=why_offline,
        code=Path.cwd() if tracking.save_code else None,
        project=tracking.project or given.get("WANDB_PROJECT", "cct_lightning"),
        entity=tracking.entity,
        group=tracking.group,
        name=tracking.name or given.get("WANDB_NAME", config.name),
        tags=[*config.tags, *(tracking.tags or filter(None, given.get("WANDB_TAGS", "").split(",")))],
        job_type=given.get("WANDB_JOB_TYPE", job_type),
        save_dir=str(run_dir),
        offline=mode == "offline",
        # The environment is in the run's config; wandb's own record of it holds the host's name and paths.
        settings=wandb.Settings(
            x_disable_meta=not tracking.metadata,
            x_log_level=logging.ERROR,
            finish_timeout_raises=True,
            **{key: value for key, value in quiet.items() if f"WANDB_{key.upper()}" not in given},
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


def finish_wandb(loggers: Sequence[Logger], *, exit_code: int = 0) -> list[tuple[str, str]]:
    """End the W&B runs of some loggers that have begun; return where they are, each with its title."""
    found = []
    for logger in loggers:
        if isinstance(logger, ShieldedWandbLogger) and logger.announced:
            found.append(logger.finish(exit_code))
        elif isinstance(logger, WandbLogger) and logger.version is not None:
            logger.experiment.finish(exit_code=exit_code)
    return [line for line in found if line is not None]


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
        import wandb

        run, parts = logger.experiment, []
        for alias, path in (("last", folder / folder.LAST), ("best", folder / folder.BEST)):
            if path.is_file():
                artifact = wandb.Artifact(f"model-{run.id}", type="model", metadata={**summary, "checkpoint": alias})
                # Not to be copied: nothing writes the file any more.
                artifact.add_file(str(path), name=path.name, policy="immutable")
                try:
                    run.unshielded.log_artifact(artifact, aliases=[alias])
                except wandb_lost_errors() as error:
                    if not isinstance(error, wandb.errors.CommError):  # of the server, without which the run goes on
                        logger.lose(error)
                    print(f"W&B did not take {path.name} ({first_line(error)}): it stays in the run folder.")
                    break
                parts.append(f"{path.name} ({path.stat().st_size / 1e6:,.1f} MB)")
        if parts:
            print(f"W&B artifact model-{run.id}: {', '.join(parts)}")

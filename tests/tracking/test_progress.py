"""The lines of a batch job's log, and what stands beside the bar of a terminal."""

import re
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import Callback, LambdaCallback, RichProgressBar, Timer
from pytorch_lightning.demos.boring_classes import BoringModel

from cct_lightning.commands import main as command
from cct_lightning.commands.evaluate import evaluate
from cct_lightning.runs.checkpoints import checkpoints
from cct_lightning.tracking import progress
from cct_lightning.tracking.progress import EpochLines, Progress, RunClock

OLD = Path(__file__).parents[1] / "survival" / "version_0_1.ckpt"


def test_time_left_of_a_run_that_goes_on_in_mid_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def trainer(*more: Callback) -> pl.Trainer:
        return pl.Trainer(
            max_epochs=3,
            limit_train_batches=4,
            limit_val_batches=0,
            callbacks=[EpochLines(), *more],
            default_root_dir=tmp_path,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    def save(trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == 6:
            trainer.save_checkpoint(tmp_path / "half.ckpt")

    trainer(LambdaCallback(on_train_batch_end=save)).fit(BoringModel())
    capsys.readouterr()
    rest = trainer()
    monkeypatch.setattr(time, "perf_counter", lambda: 10.0 * rest.global_step)  # a step takes ten seconds
    rest.fit(BoringModel(), ckpt_path=tmp_path / "half.ckpt")
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert lines == ["epoch 2/3 left 0:00:40", "epoch 3/3 left 0:00:00"]


def test_metrics_beside_the_bar_are_not_read_at_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    reads = []

    def read(self: RichProgressBar, trainer: pl.Trainer, pl_module: pl.LightningModule) -> dict[str, Any]:
        reads.append(1)
        return {"v_num": 1, "train/loss_step": float(len(reads)), "val/acc": 0.5}

    monkeypatch.setattr(RichProgressBar, "get_metrics", read)
    bar, trainer, model = Progress(), pl.Trainer(accelerator="cpu", logger=False), BoringModel()
    bar.get_metrics(trainer, model)
    assert not reads, "nothing is shown before the training"
    bar.clock = RunClock(trainer)
    monkeypatch.setattr(progress, "_SECONDS_SHOWN", 3600)
    for _ in range(3):
        bar.get_metrics(trainer, model)
    assert bar.beside == "left unknown loss 1.000 val/acc 0.500"
    monkeypatch.setattr(progress, "_SECONDS_SHOWN", 0)
    bar.get_metrics(trainer, model)
    assert bar.beside == "left unknown loss 2.000 val/acc 0.500"
    assert bar.refresh_rate <= 10, "times a second that a thread draws, while no kernel is launched"


@pytest.mark.parametrize("width", [80, 120])
def test_the_bar_is_one_line(width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The widest of a usual run: 300 epochs of 1563 batches, hours left."""
    shown: list[list[str]] = []

    def look(trainer: pl.Trainer, *_: Any) -> None:
        assert bar.progress is not None
        bar.beside = bar.beside.replace("0:00:", "12:00:")
        bar.progress.update(bar.progress.task_ids[0], total=1563, completed=1500)
        console = bar.progress.console
        lines = console.render_lines(bar.progress.get_renderable(), console.options.update(width=width))
        shown.append(["".join(segment.text for segment in line).rstrip() for line in lines])

    class Model(BoringModel):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("train/loss_step", torch.tensor(2.0), prog_bar=True)
            self.log("val/acc", torch.tensor(0.5), prog_bar=True)
            return super().training_step(batch, batch_idx)

    monkeypatch.setattr(progress, "_SECONDS_SHOWN", 0)
    bar = Progress()
    trainer = pl.Trainer(
        max_epochs=300,
        limit_train_batches=2,
        limit_val_batches=0,
        max_steps=4,
        callbacks=[bar, LambdaCallback(on_train_batch_end=look)],
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Model())
    assert [len(lines) for lines in shown] == [1] * 4
    last = shown[-1][0]
    assert len(last) <= width
    assert re.fullmatch(r"Epoch 2/300 +[━╸╺]{8,} +1500/1563 left \d+:\d\d:\d\d loss 2\.000 val/acc 0\.500", last), last


def test_the_time_left_is_that_of_the_limit_which_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = []

    def look(trainer: pl.Trainer, *_: Any) -> None:
        monkeypatch.setattr(time, "perf_counter", lambda: 10.0 * trainer.global_step)
        seconds.append(clock(trainer).left(trainer))

    def clock(trainer: pl.Trainer) -> RunClock:
        found = RunClock(trainer)
        found.began = found.first = 0
        return found

    for limit, expected in (({"hours": 9}, 10.0), ({"seconds": 5}, 5.0)):
        timer = Timer(duration=limit)
        monkeypatch.setattr(timer, "time_elapsed", lambda stage="train": 0.0)
        trainer = pl.Trainer(
            max_epochs=1,
            limit_train_batches=2,
            limit_val_batches=0,
            callbacks=[timer, LambdaCallback(on_train_batch_end=look)],
            default_root_dir=tmp_path,
            accelerator="cpu",
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )
        trainer.fit(BoringModel())
        assert seconds[-2] == expected
    assert seconds[-1] == 0


def test_a_line_of_an_epoch_without_validation_has_none_of_an_earlier_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Model(BoringModel):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val/acc", torch.tensor(0.5))

    pl.Trainer(
        max_epochs=3,
        limit_train_batches=1,
        limit_val_batches=1,
        check_val_every_n_epoch=2,
        callbacks=[EpochLines()],
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Model())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert [re.findall(r"acc \S+", line) for line in lines] == [[], ["acc 0.5000"], []]


def test_the_best_epoch_has_a_star_and_a_long_line_fits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accuracies = iter([0.25, 0.5, 0.375, 0.5])

    class Model(BoringModel):
        def on_validation_epoch_end(self) -> None:
            self.log("val/acc", next(accuracies))
            self.log("val/loss", 2.3021)

        def on_train_epoch_end(self) -> None:
            self.log_dict({"train/loss": 2.2826, "lr": 0.00051, "train/images_per_s": 12345.6})

    monkeypatch.setattr(progress.RunClock, "left", lambda *_: 4_923.0)
    pl.Trainer(
        max_epochs=4,
        limit_train_batches=1,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        callbacks=[EpochLines(), checkpoints(tmp_path, monitor="val/acc", every_minutes=10)[0]],
        default_root_dir=tmp_path,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(Model())
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert lines[1] == "epoch 2/4 train 2.283 val 2.302 acc 0.5000* lr 0.00051 12,346/s left 1:22:03"
    assert len(lines[1].replace("2/4", "300/300")) <= 80
    # The later of two that are equally good is kept, see RunCheckpoint.
    assert ["*" in line for line in lines] == [True, True, False, True]


def test_a_bar_where_there_is_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    def shown(callbacks: Any = None, wanted: bool | None = None) -> tuple[list[str], bool]:
        options = progress.with_progress(callbacks, wanted=wanted)
        return [type(callback).__name__ for callback in options["callbacks"]], options["enable_progress_bar"]

    timer = Timer(duration={"hours": 1})
    monkeypatch.setattr(sys.stdout, "isatty", lambda: False)
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    assert shown(timer) == (["Timer", "EpochLines"], False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert shown([timer]) == (["Timer", "EpochLines", "Progress"], True)
    assert shown([RichProgressBar()]) == (["RichProgressBar"], True)
    assert shown(wanted=False) == ([], False)
    monkeypatch.setenv("JPY_PARENT_PID", "1")  # `!cct fit` in a notebook
    assert shown() == (["EpochLines"], False)


def test_a_dry_run_and_a_test_have_no_bar_in_a_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    command.run(["fit", "--config", "digits", "--trainer.fast_dev_run", "true"])
    out = capsys.readouterr().out
    assert "epoch 1/1 train" in out
    assert "━" not in out
    evaluate("test", ["--ckpt_path", str(OLD), "--trainer.limit_test_batches", "1", "--tracking.mode", "disabled"])
    out = capsys.readouterr().out
    assert "test/acc" in out
    assert "Testing" not in out

"""What a run leaves: predictions in its folder, tables and pictures in W&B's file, and nothing secret anywhere."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from warm import python, run_cct

from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.data.datamodule import ImageDataModule
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.record import RunRecord
from cct_lightning.training.module import Classifier

KEY = "feedbeeffeedbeeffeedbeeffeedbeeffeedbeef"
TOKEN = "marked-secret-variable"
FIT = [
    "fit", "--config=digits", "--trainer.max_epochs=2", "--model.optim.warmup_epochs=1",
    "--trainer.limit_train_batches=8", "--tracking.media_every_n_epochs=1", "--tracking.group=my-ablation",
    "--tracking.tags=[mine]", "--model.pool=seqpool", "--tracking.artifacts=true", "--tracking.name=my-run",
]  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("marked-home")


@pytest.fixture(scope="module")
def run_dir(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a real run with everything on, started with secrets in the environment, then tested again."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    data = home / "data"
    data.mkdir()
    variables = {
        **os.environ, "HOME": str(home), "WANDB_API_KEY": KEY, "AWS_SECRET_ACCESS_KEY": TOKEN, "WANDB_MODE": "offline",
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    for words in ([*FIT, f"--run_dir={folder}", f"--data.root={data}"], ["test", f"--run_dir={folder}"]):
        done = run_cct(*words, environment=variables, cwd=home)
        assert done.returncode == 0, done.stdout + done.stderr
    return folder


def inspected(log: Path) -> list[dict[str, Any]]:
    """The records of a .wandb file, by wandb's own reader."""
    command = [python(), "-m", "wandb", "leet", "inspect", "--json", str(log)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def logs(run_dir: Path) -> tuple[Path, Path]:
    """The files of the run and of its later test."""
    ident = (run_dir / "wandb" / "run_id").read_text().strip()
    found = list(run_dir.glob("wandb/offline-run-*/run-*.wandb"))
    [fit] = [path for path in found if path.name == f"run-{ident}.wandb"]
    [test] = [path for path in found if path != fit]
    return fit, test


def test_the_predictions_are_the_models(run_dir: Path) -> None:
    with np.load(run_dir / RunFolder.PREDICTIONS, allow_pickle=False) as file:
        kept = dict(file)
    data = ImageDataModule(name="digits")
    model = Classifier.load(run_dir / "best.ckpt")
    batches = [data.on_after_batch_transfer(batch) for batch in data.test_dataloader()]
    with torch.no_grad():
        prob = torch.cat([model(batch.image).softmax(-1) for batch in batches])
    label, index = torch.cat([b.label for b in batches]), torch.cat([b.index for b in batches])
    assert (kept["label"] == label.numpy()).all()
    assert (kept["index"] == index.numpy()).all()
    best = prob.topk(5)
    assert np.abs(kept["prob"].astype(np.float32) - best.values.numpy()).max() < 1e-3
    assert (kept["top"][:, 0] == best.indices[:, 0].numpy()).mean() > 0.99
    summary = json.loads((run_dir / "summary.json").read_text())
    assert (kept["top"][:, 0] == kept["label"]).mean() == pytest.approx(summary["test/acc"])
    assert kept["classes"].tolist() == [str(k) for k in range(10)]
    # The samples: pixels as they were, the first ones and the surest mistakes, and weights that sum to one.
    raw = data.stored.dataset(torch.from_numpy(kept["index"][kept["row"]]).long()).__getitems__(range(len(kept["row"])))
    assert (kept["image"] == raw.image.numpy()).all()
    assert kept["row"][:12].tolist() == list(range(12))
    wrong = kept["label"] != kept["top"][:, 0]
    wrong[:12] = False
    surest = sorted(np.flatnonzero(wrong), key=lambda row: -prob[row].max())[:12]
    assert set(kept["row"][12:].tolist()) == set(surest)
    assert kept["weight"].shape == (24, 4, 4)
    assert np.abs(kept["weight"].astype(np.float32).sum((1, 2)) - 1).max() < 1e-2
    assert (run_dir / RunFolder.PREDICTIONS).stat().st_size < 50_000


def test_wandb_has_the_run(run_dir: Path) -> None:
    records = inspected(logs(run_dir)[0])
    [run] = [r["run"] for r in records if r["type"] == "run"]
    assert (run["display_name"], run["run_group"], run["job_type"]) == ("my-run", "my-ablation", "fit")
    assert set(run["tags"]) == {"digits", "cct_2_3x1", "conv", "seqpool", "position-learnable", "mine"}
    config = {key: value for r in records if r["type"] == "config" for key, value in r["config"]["update"].items()}
    assert config["model"]["pool"] == "seqpool"
    assert config["trainer"]["max_epochs"] == 2
    assert config["environment"]["torch"] == torch.__version__.partition("+")[0]
    summary = {key: value for r in records if r["type"] == "summary" for key, value in r["summary"]["update"].items()}
    ours = json.loads((run_dir / "summary.json").read_text())
    assert {key: summary[key] for key in ours} == ours


def test_metrics_have_their_best_values_and_three_axes(run_dir: Path) -> None:
    records = inspected(logs(run_dir)[0])
    metrics = {r["metric"]["name"]: r["metric"] for r in records if r["type"] == "metric" and "name" in r["metric"]}
    assert metrics["val/acc"]["summary"] == {"max": True}
    assert metrics["val/loss"]["summary"] == {"min": True}
    assert {"epoch", "train/images_seen", "trainer/global_step"} <= set(metrics)
    rows = [r["history"]["item"] for r in records if r["type"] == "history"]
    for key in ("val/acc", "val/loss", "train/loss", "train/acc", "train/images_per_s", "train/memory_gb"):
        found = [row for row in rows if key in row]
        assert [row["train/images_seen"] for row in found] == [512, 1024], key
        assert [row["epoch"] for row in found] == [1, 2], key
    assert [row["epoch"] for row in rows if "val/reliability._type" in row] == [1, 2]
    [lr] = [row["lr"] for row in rows if "lr" in row]  # of the tenth step
    assert 0 < lr <= 3e-3
    assert not [key for row in rows for key in row if key.startswith("lr") and key != "lr"]


def test_wandb_has_the_pictures(run_dir: Path) -> None:
    log, _ = logs(run_dir)
    rows = [r["history"]["item"] for r in inspected(log) if r["type"] == "history"]
    logged = {key.partition(".")[0] for row in rows for key in row if "._type" in key or "._latest" in key}
    kinds = ("misclassified", "pool_weights", "rollout", "saliency", "reliability")
    wanted = {f"{stage}/{kind}" for stage in ("val", "test") for kind in kinds}
    assert wanted | {"tokenizer/filters", "position/similarity"} <= logged
    assert {"val/confusion_table", "test/confusion_table"} <= logged
    media = log.parent / "files" / "media"
    for kind in ("pool_weights", "rollout", "saliency"):
        assert len(list(media.glob(f"images/val/{kind}_*.png"))) == 2 * 12
    [path] = media.glob("table/test/misclassified_*.table.json")
    table = json.loads(path.read_text())
    assert table["columns"] == ["image", "label", "predicted", "probability", "index"]
    assert len(table["data"]) == 32
    with np.load(run_dir / RunFolder.PREDICTIONS) as file:
        predicted = dict(zip(file["index"].tolist(), file["top"][:, 0].tolist(), strict=True))
        label = dict(zip(file["index"].tolist(), file["label"].tolist(), strict=True))
    for _, true, wrong, _, index in table["data"]:
        assert (int(true), int(wrong)) == (label[index], predicted[index])
        assert true != wrong


def test_checkpoints_are_artifacts_with_aliases(run_dir: Path) -> None:
    records = inspected(logs(run_dir)[0])
    ident = (run_dir / "wandb" / "run_id").read_text().strip()
    found = [r["artifact"] for r in records if r["type"] == "artifact" and r["artifact"]["name"] == f"model-{ident}"]
    assert [set(artifact["aliases"]) - {"latest"} for artifact in found] == [{"last"}, {"best"}]
    metadata = json.loads(found[1]["metadata"])
    summary = json.loads((run_dir / "summary.json").read_text())
    assert metadata == {**summary, "checkpoint": "best"}


def test_cct_test_is_a_run_of_its_own(run_dir: Path) -> None:
    records = inspected(logs(run_dir)[1])
    [run] = [r["run"] for r in records if r["type"] == "run"]
    assert (run["job_type"], run["run_group"]) == ("test", "my-ablation")
    rows = [r["history"]["item"] for r in records if r["type"] == "history"]
    assert rows[0]["test/acc"] == json.loads((run_dir / "summary.json").read_text())["test/acc"]


def test_nothing_secret_is_written(run_dir: Path, home: Path) -> None:
    files = [path for path in run_dir.rglob("*") if path.is_file()]
    assert len(files) > 20
    for path in files:
        content = path.read_bytes()
        for secret in (KEY, TOKEN, str(home)):
            assert secret.encode() not in content, f"{secret} in {path}"
    assert "root: ~/data" in (run_dir / "config.yaml").read_text()


def test_the_test_does_not_count_the_training_twice(tmp_path: Path) -> None:
    record = RunRecord(folder=RunFolder(tmp_path), config=ResolvedConfig({}), costs={})
    record.load_state_dict({**record.state_dict(), "elapsed": 1000.0})  # a run that is continued
    assert 1000 <= record.elapsed < 1500
    record.summary["status"] = "trained"
    record.load_state_dict({**record.state_dict(), "elapsed": 2000.0})  # its best epoch, to be tested
    assert 1000 <= record.elapsed < 1500


def test_a_run_continued_elsewhere_counts_on(run_dir: Path, tmp_path: Path) -> None:
    """The folder is moved, and the run goes on where it was: clocks, best epoch, W&B id."""
    moved = shutil.copytree(run_dir, tmp_path / "moved", symlinks=True)
    before = json.loads((moved / "summary.json").read_text())
    ident = (moved / "wandb" / "run_id").read_text()
    words = [*FIT, f"--run_dir={moved}", "--trainer.max_epochs=3", "--tracking.media_every_n_epochs=0"]
    variables = {**os.environ, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    done = run_cct(*words, environment=variables, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    after = json.loads((moved / "summary.json").read_text())
    assert after["epochs"] == 3
    assert after["train_seconds"] > before["train_seconds"]
    assert after["best_val/acc"] >= before["best_val/acc"]
    assert "epoch 1/3" not in done.stdout
    assert (moved / "wandb" / "run_id").read_text() == ident
    seen = [line.split(",") for line in (moved / "metrics.csv").read_text().splitlines()]
    place = seen[0].index("train/images_seen")
    assert float([row[place] for row in seen[1:] if row[place]][-1]) == 3 * 8 * 64

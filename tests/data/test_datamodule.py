"""Splits, loaders and the batch hook; what is said of several processes and of a resume is run as such."""

import itertools
import json
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor

from cct_lightning.data import Batch, ImageDataModule
from cct_lightning.data.augment.mixup import MixingPolicy
from cct_lightning.errors import InputError


class Recorder(pl.LightningModule):
    """A linear model that notes which images it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.LazyLinear(10)
        self.layer(torch.zeros(1, 64))
        self.seen: dict[str, list[list[int]]] = {"train": [], "val": [], "test": []}
        self.batch: Batch | None = None

    def training_step(self, batch: Batch) -> Tensor:
        self.batch = batch
        self.seen["train"].append(batch.index.tolist())
        return self.layer(batch.image.flatten(1)).logsumexp(1).mean()

    def validation_step(self, batch: Batch) -> None:
        self.seen["val"].append(batch.index.tolist())

    def test_step(self, batch: Batch) -> None:
        self.seen["test"].append(batch.index.tolist())

    def predict_step(self, batch: Batch) -> Tensor:
        return batch.index

    def configure_optimizers(self) -> torch.optim.Optimizer:
        # Builds the loaders before Lightning restores its progress, as a schedule in optimizer steps does.
        assert self.trainer.estimated_stepping_batches > 0
        return torch.optim.SGD(self.parameters(), lr=0.1)


def quiet_trainer(where: Path, **options: object) -> pl.Trainer:
    return pl.Trainer(
        accelerator="cpu",
        default_root_dir=where,
        logger=False,
        enable_checkpointing=bool(options.pop("checkpoint", False)),
        enable_progress_bar=False,
        enable_model_summary=False,
        **options,  # type: ignore[arg-type]
    )


def flat(batches: list[list[int]]) -> list[int]:
    return [i for batch in batches for i in batch]


def test_what_the_model_needs_is_known_right_after_construction(mnist_root: Path, make_tree, cifar_root: Path) -> None:
    digits = ImageDataModule()
    assert (digits.num_classes, digits.in_chans, digits.img_size) == (10, 1, (8, 8))
    assert digits.classes == list("0123456789")
    cifar100 = ImageDataModule(name="cifar100", root="/nowhere", img_size=64)
    assert (cifar100.num_classes, cifar100.in_chans, cifar100.img_size) == (100, 3, (64, 64))
    tree = ImageDataModule(name="folder", root=str(make_tree(classes=("x", "y", "z"))))
    assert (tree.num_classes, tree.in_chans, tree.img_size, tree.classes) == (3, 1, (8, 8), ["x", "y", "z"])


@pytest.mark.parametrize("name", ["mnist", "cifar10", "cifar100"])
def test_the_published_layouts_load(name: str, mnist_root: Path, cifar_root: Path) -> None:
    data = ImageDataModule(name=name, root=str(mnist_root if name == "mnist" else cifar_root), batch_size=8)
    data.prepare()
    batch = next(iter(data.train_dataloader()))
    assert batch.image.dtype == torch.uint8
    assert batch.image.shape == (8, data.in_chans, *data.img_size)
    assert batch.label.dtype == batch.index.dtype == torch.int64


def test_splits_are_disjoint_stratified_and_drawn_by_seed() -> None:
    data = ImageDataModule(split_seed=3)
    label = data.stored.label
    train, val, test = (set(data.index[split].tolist()) for split in ("train", "val", "test"))
    assert len(train) + len(val) + len(test) == len(train | val | test) == 1797
    assert len(val) == 144
    share = torch.bincount(label[data.index["val"]]) / torch.bincount(label[sorted(train | val)])
    assert (share - 0.1).abs().max() < 0.01
    assert set(ImageDataModule(split_seed=3, seed=1).index["val"].tolist()) == val
    assert set(ImageDataModule(split_seed=4).index["val"].tolist()) != val


def test_subsets_are_nested_and_share_the_validation_split() -> None:
    whole = ImageDataModule()
    parts = [ImageDataModule(fraction=f) for f in (0.1, 0.2, 0.55, 1.0)]
    sizes = [len(part.index["train"]) for part in parts]
    assert sizes == [129, 259, 712, 1294]
    for smaller, larger in itertools.pairwise(parts):
        assert set(smaller.index["train"].tolist()) < set(larger.index["train"].tolist())
    few, more = (ImageDataModule(samples_per_class=n) for n in (5, 20))
    label = whole.stored.label
    assert torch.bincount(label[few.index["train"]]).tolist() == [5] * 10
    assert set(few.index["train"].tolist()) < set(more.index["train"].tolist()) < set(whole.index["train"].tolist())
    for part in (*parts, few, more):
        assert torch.equal(part.index["val"], whole.index["val"])


def test_a_batch_is_the_images_of_its_index() -> None:
    data = ImageDataModule(batch_size=32)
    pool = data.stored
    for batch in data.train_dataloader():
        assert torch.equal(batch.image, pool.image[batch.index])
        assert torch.equal(batch.label, pool.label[batch.index])
    one = data.train_dataloader().dataset[5]
    assert one.image.shape == (1, 8, 8)
    assert int(one.index) == int(data.index["train"][5])


def test_order_changes_with_epoch_and_seed_and_leaves_the_global_stream_alone() -> None:
    state = torch.get_rng_state()

    def order(seed: int, epoch: int, workers: int = 0) -> list[int]:
        loader = ImageDataModule(seed=seed, batch_size=100, num_workers=workers).train_dataloader()
        loader.sampler.set_epoch(epoch)
        return flat([batch.index.tolist() for batch in loader])

    first = order(0, 0)
    assert first == order(0, 0) == order(0, 0, workers=2)
    assert len(first) == len(set(first)) == 1200
    assert first != order(0, 1)
    assert order(1, 0) != order(0, 1)
    assert torch.equal(torch.get_rng_state(), state)


def test_notebook_use_without_a_trainer() -> None:
    data = ImageDataModule(augment="light")
    data.prepare()
    data.setup()
    batch = next(iter(data.val_dataloader()))
    shown = data.on_after_batch_transfer(batch)
    assert shown.image.dtype == torch.float32
    expected = (batch.image / 255 - torch.tensor(data.mean)[:, None, None]) / torch.tensor(data.std)[:, None, None]
    torch.testing.assert_close(shown.image, expected, atol=1e-5, rtol=1e-5)
    preview = data.preview(batch.index[:4], epoch=3)
    assert preview.dtype == torch.uint8
    assert preview.shape == (4, 1, 8, 8)
    assert torch.equal(preview[2:3], data.preview(int(batch.index[2]), epoch=3))


def test_fit_augments_validates_and_never_sees_the_test_split(tmp_path: Path) -> None:
    data = ImageDataModule(batch_size=64, augment="none")
    model, trainer = Recorder(), quiet_trainer(tmp_path, max_epochs=2)
    trainer.fit(model, datamodule=data)
    trained, validated = flat(model.seen["train"]), flat(model.seen["val"])
    assert len(trained) == 2 * 1280
    assert set(trained) <= set(data.index["train"].tolist())
    assert set(validated) == set(data.index["val"].tolist())
    trainer.test(model, datamodule=data, verbose=False)
    assert flat(model.seen["test"]) == data.index["test"].tolist()
    assert torch.cat(trainer.predict(model, datamodule=data)).tolist() == data.index["test"].tolist()


@pytest.mark.parametrize("limit", [2, 0.25])
def test_some_batches_of_a_sorted_set_hold_all_classes(limit: float, make_tree, tmp_path: Path) -> None:
    """The first batches of a folder are of the first class: a limited test had an accuracy of 0 or of 1."""
    root = str(make_tree(train=10, val=16, test=16))
    whole, part = Recorder(), Recorder()
    data = ImageDataModule(name="folder", root=root, batch_size=4, augment="none")
    for model, options in ((whole, {}), (part, {"limit_val_batches": limit, "limit_test_batches": limit})):
        trainer = quiet_trainer(tmp_path, max_epochs=1, num_sanity_val_steps=0, **options)
        trainer.fit(model, datamodule=data)
        trainer.test(model, datamodule=data, verbose=False)
        assert torch.cat(trainer.predict(model, datamodule=data)).tolist() == data.index["test"].tolist()
    for split in ("val", "test"):
        assert flat(whole.seen[split]) == data.index[split].tolist(), "all of them keep the order of the data set"
        assert [len(batch) for batch in part.seen[split]] == [4, 4]
        assert torch.bincount(data.stored.label[flat(part.seen[split])]).tolist() == [4, 4]
        assert set(flat(part.seen[split])) < set(data.index[split].tolist())


def test_mixing_gives_soft_targets_in_training_only(tmp_path: Path) -> None:
    data = ImageDataModule(batch_size=64, mixing=MixingPolicy())
    model = Recorder()
    quiet_trainer(tmp_path, max_epochs=1, limit_train_batches=1, limit_val_batches=0).fit(model, datamodule=data)
    assert model.batch is not None
    assert model.batch.label.shape == (64, 10)
    torch.testing.assert_close(model.batch.label.sum(1), torch.ones(64))


def test_img_size_is_reached_on_the_batch() -> None:
    data = ImageDataModule(img_size=(16, 12), batch_size=4, augment="none")
    batch = next(iter(data.val_dataloader()))
    assert data.on_after_batch_transfer(batch).image.shape == (4, 1, 16, 12)
    assert data.preview(batch.index).shape == (4, 1, 16, 12)


def test_overfitting_on_one_batch_repeats_it(tmp_path: Path) -> None:
    model = Recorder()
    trainer = quiet_trainer(tmp_path, max_epochs=3, overfit_batches=1, limit_val_batches=0)
    trainer.fit(model, datamodule=ImageDataModule(batch_size=32))
    assert len(model.seen["train"]) == 3
    assert model.seen["train"][0] == model.seen["train"][1] == model.seen["train"][2]


def test_images_have_the_precision_of_the_model(tmp_path: Path) -> None:
    for precision, dtype in (("64-true", torch.float64), ("bf16-true", torch.bfloat16), ("32-true", torch.float32)):
        model = Recorder()
        trainer = quiet_trainer(tmp_path, max_epochs=1, limit_train_batches=1, limit_val_batches=0, precision=precision)
        trainer.fit(model, datamodule=ImageDataModule(batch_size=32))
        assert model.batch is not None
        assert model.batch.image.dtype == dtype


def test_a_spawned_process_gets_no_copy_of_the_images() -> None:
    data = ImageDataModule(batch_size=32)
    expected = next(iter(data.train_dataloader()))
    sent = pickle.dumps(data)
    assert len(sent) < 10_000
    assert torch.equal(next(iter(pickle.loads(sent).train_dataloader())).image, expected.image)


def test_no_validation_split_when_none_is_wanted(tmp_path: Path) -> None:
    data = ImageDataModule(val_fraction=0.0)
    assert len(data.index["train"]) == 1438
    model = Recorder()
    quiet_trainer(tmp_path, max_epochs=1).fit(model, datamodule=data)
    assert model.seen["val"] == []


# Several processes ---------------------------------------------------------------------------------------------------

PROGRAM = """
import json, sys
sys.path.insert(0, {tests!r})
from pathlib import Path
from tests.data.test_datamodule import ImageDataModule, Recorder, quiet_trainer

class Told(Recorder):
    def on_train_end(self):
        Path({out!r}, f"train-{{self.global_rank}}.json").write_text(json.dumps(self.seen))
    def on_test_end(self):
        Path({out!r}, f"test-{{self.global_rank}}.json").write_text(json.dumps(self.seen))

if __name__ == "__main__":
    data = ImageDataModule(global_batch_size=96, augment="none")
    trainer = quiet_trainer({out!r}, max_epochs=2, devices=2, strategy="ddp_fork", num_sanity_val_steps=0)
    model = Told()
    trainer.fit(model, datamodule=data)
    trainer.test(model, datamodule=data, verbose=False)
"""


def test_two_processes_see_the_global_batches_of_one(tmp_path: Path) -> None:
    """And evaluate every image exactly once."""
    root = str(Path(__file__).resolve().parents[2])
    program = tmp_path / "run.py"
    program.write_text(PROGRAM.format(tests=root, out=str(tmp_path)))
    subprocess.run([sys.executable, program], check=True, cwd=root, capture_output=True, timeout=600)
    model = Recorder()
    quiet_trainer(tmp_path, max_epochs=2, num_sanity_val_steps=0).fit(
        model, datamodule=ImageDataModule(global_batch_size=96, augment="none")
    )
    one = model.seen["train"]
    two = [json.loads((tmp_path / f"train-{rank}.json").read_text())["train"] for rank in (0, 1)]
    assert len(one) == len(two[0]) == len(two[1]) == 26  # 1,294 // 96 batches in each of 2 epochs
    for whole, left, right in zip(one, *two, strict=True):
        assert len(left) == len(right) == 48
        assert [i for pair in zip(left, right, strict=True) for i in pair] == whole
    tested = [json.loads((tmp_path / f"test-{rank}.json").read_text())["test"] for rank in (0, 1)]
    assert sorted(flat(tested[0]) + flat(tested[1])) == ImageDataModule().index["test"].tolist()


# Resume --------------------------------------------------------------------------------------------------------------


class Stop(pl.Callback):
    """Save and stop after some batches, as a killed run would have it."""

    def __init__(self, after: int, path: Path) -> None:
        self.after, self.path = after, path

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.global_step == self.after:
            trainer.save_checkpoint(self.path)
            raise KeyboardInterrupt


@pytest.fixture
def uninterrupted(tmp_path: Path) -> list[list[int]]:
    model = Recorder()
    quiet_trainer(tmp_path, max_epochs=3).fit(model, datamodule=ImageDataModule(batch_size=200, augment="none"))
    assert len(model.seen["train"]) == 18
    return model.seen["train"]


@pytest.mark.parametrize(("after", "workers"), [(2, 0), (8, 0), (8, 1), (6, 0), (12, 1), (17, 0)])
def test_a_resumed_run_sees_the_batches_of_one_never_stopped(
    after: int, workers: int, tmp_path: Path, uninterrupted: list[list[int]]
) -> None:
    """In mid-epoch (6 batches each) and at its last batch, with and without workers."""
    options = {"batch_size": 200, "augment": "none", "num_workers": workers}
    first, second, path = Recorder(), Recorder(), tmp_path / "stopped.ckpt"
    with pytest.raises(SystemExit):
        quiet_trainer(tmp_path, max_epochs=3, callbacks=[Stop(after, path)]).fit(
            first, datamodule=ImageDataModule(**options)
        )
    quiet_trainer(tmp_path, max_epochs=3).fit(second, datamodule=ImageDataModule(**options), ckpt_path=path)
    assert len(first.seen["train"]) == after
    assert first.seen["train"] + second.seen["train"] == uninterrupted


def test_resume_from_the_end_of_an_epoch(tmp_path: Path, uninterrupted: list[list[int]]) -> None:
    save = pl.callbacks.ModelCheckpoint(
        dirpath=tmp_path, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True
    )
    data = ImageDataModule(batch_size=200, augment="none")
    quiet_trainer(tmp_path, max_epochs=2, checkpoint=True, callbacks=[save]).fit(Recorder(), datamodule=data)
    for epoch in (0, 1):
        model = Recorder()
        path = tmp_path / f"epoch={epoch}.ckpt"
        quiet_trainer(tmp_path, max_epochs=3).fit(
            model, datamodule=ImageDataModule(batch_size=200, augment="none"), ckpt_path=path
        )
        assert model.seen["train"] == uninterrupted[6 * (epoch + 1) :]


def test_fitting_on_with_the_same_trainer_begins_a_whole_epoch(tmp_path: Path) -> None:
    data, model, trainer = ImageDataModule(batch_size=200), Recorder(), quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(model, datamodule=data)
    trainer.fit_loop.max_epochs = 2
    trainer.fit(model, datamodule=data)
    assert [len(batch) for batch in model.seen["train"]] == [200] * 12
    assert len(next(iter(data.train_dataloader())).index) == 200


# Bad input -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1; got 0."),
        ({"batch_size": -4}, "batch_size must be at least 1; got -4."),
        ({"global_batch_size": 0}, "global_batch_size must be at least 1; got 0."),
        ({"num_workers": -1}, "num_workers must be at least 0; got -1."),
        ({"val_fraction": 1.0}, "0 <= val_fraction < 1; got 1.0."),
        ({"val_fraction": -0.1}, "0 <= val_fraction < 1; got -0.1."),
        ({"fraction": 0.0}, "0 < fraction <= 1; got 0.0."),
        ({"fraction": 0.5, "samples_per_class": 3}, "Give fraction or samples_per_class, not both."),
        ({"samples_per_class": 0}, "samples_per_class must be at least 1; got 0."),
        ({"img_size": 0}, "img_size must be at least 1 pixel; got 0."),
        ({"seed": -1}, "seed is a whole number from 0 to 4294967295; got -1."),
        ({"split_seed": 2**32}, "split_seed is a whole number from 0 to 4294967295; got 4294967296."),
        ({"train_split": "all"}, "train_split is 'train' or 'trainval'; got 'all'."),
        (
            {"mean": [125.3]},
            "mean is from 0 to 1 in every channel; got [125.3]. Divide numbers of the scale of 0 to 255",
        ),
        ({"mean": [-0.1]}, "mean is from 0 to 1 in every channel; got [-0.1]."),
        ({"std": [63.0]}, "std is positive and at most 1 in every channel; got [63.0]. Divide numbers"),
        ({"std": [0.0]}, "std is positive and at most 1 in every channel; got [0.0]."),
        ({"std": [float("nan")]}, "std is positive and at most 1 in every channel; got [nan]."),
        ({"augment": "lihgt"}, "Did you mean 'light'?"),
    ],
)
def test_bad_arguments_fail_at_construction(options: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        ImageDataModule(**options)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 2000}, "A batch of 2000 images is larger than the training set (1294 images)."),
        (
            {"samples_per_class": 500},
            "samples_per_class is 500, but besides the validation split the class '8' has only",
        ),
        ({"val_fraction": 0.9999}, "val_fraction leaves no training images"),
        ({"train_split": "trainval"}, "train_split 'trainval' needs a data set that brings a validation split"),
        ({"mean": [0.1, 0.2, 0.3]}, "data.mean needs one number for each of 1 channels; got [0.1, 0.2, 0.3]."),
    ],
)
def test_what_does_not_fit_the_data_fails_in_prepare(options: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        ImageDataModule(**options).prepare()
    assert message in str(caught.value)


def test_the_global_batch_is_checked_against_devices_and_accumulation(tmp_path: Path) -> None:
    data = ImageDataModule(global_batch_size=96)
    assert data.local_batch_size(4, 2) == 12
    with pytest.raises(InputError, match="global_batch_size 96 cannot be divided by 5 devices x 1 accumulated"):
        data.local_batch_size(5)
    with pytest.raises(InputError, match="96 cannot be divided by 1 devices x 7 accumulated batches"):
        data.prepare(quiet_trainer(tmp_path, accumulate_grad_batches=7))
    model = Recorder()
    quiet_trainer(tmp_path, max_epochs=1, accumulate_grad_batches=2).fit(model, datamodule=data)
    assert np.unique([len(batch) for batch in model.seen["train"]]).tolist() == [48]

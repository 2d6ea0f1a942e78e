"""Classes are matched by name wherever data meet a trained model."""

import pickle
import re
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

import cct_lightning
from cct_lightning.data import ImageDataModule
from cct_lightning.data.classes import new_labels
from cct_lightning.errors import InputError
from cct_lightning.training.checks import check_continues
from cct_lightning.training.module import Classifier

MakeTree = Callable[..., Path]
LINKED = ("img_size", "in_chans", "num_classes", "classes", "mean", "std")
NAMES = ("cat", "dog", "owl")


def folder(root: Path, **options: Any) -> ImageDataModule:
    return ImageDataModule(name="folder", root=str(root), batch_size=4, **options)


def classifier(data: ImageDataModule, **changes: Any) -> Classifier:
    torch.manual_seed(0)
    return Classifier(arch="cct_2_3x1", **{**{name: getattr(data, name) for name in LINKED}, **changes})


def evaluated(model: Classifier, data: ImageDataModule, where: Path) -> dict[str, float]:
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=where,
    )  # fmt: skip
    return dict(trainer.test(model, data, verbose=False)[0])


def test_labels_follow_the_model() -> None:
    assert new_labels("abc", "cab", "it") == [1, 2, 0]
    assert new_labels("abc", "012", "it") == [0, 1, 2], "a model without names is compared by position"
    assert new_labels("210", "012", "it") == [2, 1, 0]
    with pytest.raises(InputError, match=r"have 3 classes \(among them 'c'\) and it has 3 classes \(among them 'd'\)"):
        new_labels("abc", "abd", "it")
    # Folders may be named by numbers: then they are names.
    assert new_labels("120", "012", "it") == [1, 2, 0]
    with pytest.raises(InputError, match=r"among them '3'\) and it has 3 classes \(among them '0'"):
        new_labels("123", "012", "it")
    with pytest.raises(InputError, match="3 classes and it has 4"):
        new_labels("abc", "abcd", "it")


def test_a_model_of_another_order_is_tested_by_name(make_tree: MakeTree, tmp_path: Path) -> None:
    root = make_tree(classes=NAMES)
    model = classifier(folder(root))
    expected = evaluated(model, folder(root), tmp_path)
    # The same model whose first class is the last: rows of the head and names are turned alike.
    with torch.no_grad():
        for parameter in model.net.head.parameters():
            parameter.copy_(parameter.flip(0))
    model.hparams["classes"] = list(NAMES[::-1])
    data = folder(root)
    assert evaluated(model, data, tmp_path) == pytest.approx(expected)
    assert data.classes == list(NAMES[::-1])
    assert data.stored.label.tolist() == [2 - label for label in folder(root).stored.label.tolist()]
    assert torch.equal(pickle.loads(pickle.dumps(data)).stored.label, data.stored.label), "a spawned process, too"
    for name, index in folder(root).index.items():
        assert torch.equal(data.index[name], index), "the splits stay"
    model.hparams["classes"] = ["cat", "dog", "zebra"]
    with pytest.raises(InputError, match=r"'owl'.* and the model has .*'zebra'"):
        evaluated(model, folder(root), tmp_path)


def test_a_run_continues_with_the_labels_of_its_checkpoint(make_tree: MakeTree) -> None:
    root = make_tree(classes=NAMES)
    data = folder(root)
    model = classifier(data)
    content = {
        "state_dict": model.state_dict(),
        "hyper_parameters": {**model.hparams, "classes": ["owl", "cat", "dog"]},
    }
    check_continues(model, data, content)
    assert data.classes == model.classes == ["owl", "cat", "dog"]
    assert data.stored.label[:8].tolist() == [1] * 8


def test_renamed_classes_are_one_sentence_in_fit_and_test(
    make_tree: MakeTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cct: Callable[..., tuple[int, str, str]]
) -> None:
    """Cat renamed to zebra is sorted behind dog: the accuracy was 0, and the run went on."""
    monkeypatch.chdir(tmp_path)
    root = make_tree(classes=("cat", "dog"))
    words = {
        "data.name": "folder", "data.root": str(root), "data.batch_size": 4, "model.arch": "cct_2_3x1",
        "model.optim.warmup_epochs": 0, "trainer.accelerator": "cpu", "tracking.mode": "disabled", "run_dir": "run",
    }  # fmt: skip
    cct_lightning.fit(options={**words, "trainer.max_epochs": 1})
    before = {path: path.read_bytes() for path in Path("run").iterdir() if path.is_file()}
    for split in ("train", "test"):
        (root / split / "cat").rename(root / split / "zebra")
    message = r"2 classes \(among them 'zebra'\) and the checkpoint has 2 classes \(among them 'cat'\)"
    with pytest.raises(InputError, match=message):
        cct_lightning.fit(options={**words, "trainer.max_epochs": 2})
    assert {path: path.read_bytes() for path in Path("run").iterdir() if path.is_file()} == before
    for command in ("test", "validate"):
        code, _, err = cct(command, "--run_dir=run")
        assert code == 2
        assert re.search(message, err)


def test_a_pretrained_head_is_used_by_name(make_tree: MakeTree, tmp_path: Path) -> None:
    data = folder(make_tree(classes=NAMES))
    model = classifier(data)
    content = {"pytorch-lightning_version": "2.6.6", "state_dict": model.state_dict()}
    content["hyper_parameters"] = dict(model.hparams)
    torch.save(content, tmp_path / "x.ckpt")
    head = model.net.head.weight.detach()

    def started(*names: str) -> torch.Tensor:
        return classifier(data, classes=names, pretrained=str(tmp_path / "x.ckpt")).net.head.weight.detach()

    assert torch.equal(started(*NAMES), head)
    assert torch.equal(started("owl", "cat", "dog"), head[[2, 0, 1]])
    assert torch.equal(started("dog", "emu", "fox"), torch.stack([head[1], 0 * head[1], 0 * head[1]]))
    assert torch.equal(started("0", "1", "2"), head), "classes without names are compared by position"


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_that_look_alike_are_one_class(form: str, make_tree: MakeTree) -> None:
    """A folder copied from macOS has accents of two characters; here one of the splits was."""
    root = make_tree(val=2, classes=(unicodedata.normalize(form, "épagneul"), "zèbre"))
    other = unicodedata.normalize("NFD" if form == "NFC" else "NFC", "épagneul")
    (root / "val" / unicodedata.normalize(form, "épagneul")).rename(root / "val" / other)
    data = folder(root)
    assert data.classes == [unicodedata.normalize("NFC", name) for name in ("zèbre", "épagneul")]
    assert torch.bincount(data.stored.label).tolist() == [14, 14]
    data.match_classes([unicodedata.normalize("NFD", name) for name in ("zèbre", "épagneul")])
    (root / "train" / other).mkdir()
    with pytest.raises(InputError, match="two class folders of one name"):
        folder(root).prepare()

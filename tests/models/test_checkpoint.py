"""Files that are no checkpoints, and one that would run code: one sentence each, and nothing runs. Old files load."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model, load_model
from cct_lightning.models.weights.reader import HPARAMS, load_verified, read_checkpoint, read_weights
from cct_lightning.training.module import Classifier

OLD = Path(__file__).parents[1] / "survival"


class Bomb:
    """What a malicious file asks to call while it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_a_bomb_goes_off_where_it_is_unpickled(tmp_path: Path) -> None:
    pickle.loads(pickle.dumps(Bomb(tmp_path / "boom")))
    assert (tmp_path / "boom").exists()


@pytest.mark.parametrize("how", ["zip", "legacy", "pickle", "lightning"])
def test_a_file_that_would_run_code(how: str, tmp_path: Path) -> None:
    path, content = tmp_path / "x.pth", {"weight": torch.zeros(2), "extra": Bomb(tmp_path / "boom")}
    if how == "pickle":
        path.write_bytes(pickle.dumps(content, protocol=2))
    elif how == "lightning":
        torch.save({"pytorch-lightning_version": "2.6.1", "state_dict": {}, "callbacks": content}, path)
    else:
        torch.save(content, path, _use_new_zipfile_serialization=how == "zip")
    with pytest.raises(
        InputError, match=r"is refused, because loading it would run code|no checkpoint at all"
    ) as error:
        create_model("cct_2_3x1", pretrained=path)
    if how != "pickle":
        assert "would run code (posix.mkdir)" in str(error.value)
    assert not (tmp_path / "boom").exists()


def _truncated(path: Path) -> None:
    torch.save({"weight": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:2000])


def _zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("folder/readme.txt", "no checkpoint")


BAD: dict[str, tuple[Callable[[Path], object], str]] = {
    "absent.pth": (lambda path: None, "does not exist"),
    "folder.pth": (Path.mkdir, "is a folder"),
    "empty.pth": (Path.touch, "is empty"),
    "page.pth": (lambda path: path.write_text("<html>404</html>"), "damaged or no checkpoint"),
    "text.pth": (lambda path: path.write_text("weights, believe me"), "damaged or no checkpoint"),
    "noise.pth": (lambda path: path.write_bytes(os.urandom(5000)), "damaged or no checkpoint"),
    "truncated.pth": (_truncated, "damaged or no checkpoint"),
    "zip.pth": (_zip, "damaged or no checkpoint"),
    "list.pth": (lambda path: torch.save([1, 2], path), "holds a list"),
    "numbers.pth": (lambda path: torch.save({"a": 1}, path), "'a' is not a tensor"),
    "keys.pth": (lambda path: torch.save({1: torch.zeros(2), 2: torch.zeros(2)}, path), "1 is not a tensor"),
    "complex.pth": (lambda path: torch.save({"a": torch.zeros(2) * 1j}, path), "'a' is not a tensor of real numbers"),
    "sparse.pth": (lambda path: torch.save({"a": torch.eye(2).to_sparse()}, path), "'a' is not a tensor of real"),
    "nothing.pth": (lambda path: torch.save({}, path), "it is empty"),
    "empty.safetensors": (Path.touch, "is empty"),
    "text.safetensors": (lambda path: path.write_text("weights, believe me"), "no safetensors file"),
    "truncated.safetensors": (_truncated, "no safetensors file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str, tmp_path: Path) -> None:
    make, message = BAD[name]
    make(tmp_path / name)
    with pytest.raises(InputError, match=message) as error:
        read_weights(tmp_path / name)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("hparams", "word"),
    [
        ([1], r"hyper_parameters=\[1\]"),
        ({"num_heads": "8"}, "num_heads='8'"),
        ({"mlp_ratio": [1]}, r"mlp_ratio=\[1\]"),
        ({"img_size": "8"}, "img_size='8'"),
        ({"img_size": [8, 8.5]}, r"img_size=\[8, 8\.5\]"),
        ({"arch": 7}, "The arch is 7"),
        ({"arch": "cct_2_3x1", "pool": 7}, "The pool is 7"),
        ({"arch": "cct_2_3x1", "num_heads": 0}, "num_heads is 0"),
    ],
    ids=str,
)
def test_bad_descriptions(hparams: object, word: str, tmp_path: Path) -> None:
    state = {f"net.{name}": value for name, value in create_model("cct_2_3x1").state_dict().items()}
    content = {"pytorch-lightning_version": "2.6.1", "state_dict": state, "hyper_parameters": hparams}
    torch.save(content, tmp_path / "x.ckpt")
    with pytest.raises(InputError, match=word) as error:
        load_model(tmp_path / "x.ckpt")
    assert "\n" not in str(error.value)


def test_metadata_that_are_no_json(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "x.safetensors", metadata={HPARAMS: "{"})
    with pytest.raises(InputError, match=r"x\.safetensors is damaged \(its metadata are no JSON\)"):
        read_weights(tmp_path / "x.safetensors")


WHOLE = {"state_dict": {"net.weight": torch.zeros(1000)}, "hyper_parameters": {"arch": "cct_2_3x1"}, "loops": {}}


def _without(*names: str) -> dict[str, object]:
    return {key: value for key, value in WHOLE.items() if key not in names}


def _flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_whole_checkpoint(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    torch.save(WHOLE, path)
    assert read_checkpoint(path).keys() == read_checkpoint(path, verify=True).keys() == load_verified(path).keys()
    torch.save(_without("loops"), path)  # as `cct convert` writes it
    assert read_checkpoint(path, verify=True)["hyper_parameters"] == {"arch": "cct_2_3x1"}
    with pytest.raises(InputError, match="could continue from"):
        load_verified(path)
    torch.save(WHOLE, path, _use_new_zipfile_serialization=False)
    assert read_checkpoint(path).keys() == WHOLE.keys()
    with pytest.raises(InputError, match="is damaged"):  # there are no checksums to compare
        load_verified(path)


def test_a_flipped_bit_is_found_where_every_byte_counts(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    torch.save(WHOLE, path)
    _flip_a_bit(path)
    read_checkpoint(path)
    with pytest.raises(InputError, match=r"x\.ckpt is damaged \(the checksum of .* is wrong\)"):
        read_checkpoint(path, verify=True)


@pytest.mark.parametrize("name", [name for name in BAD if name not in ("list.pth", "numbers.pth", "nothing.pth")])
def test_bad_files_are_no_whole_checkpoints(name: str, tmp_path: Path) -> None:
    BAD[name][0](tmp_path / name)
    for read in (read_checkpoint, load_verified, Classifier.load):
        with pytest.raises(InputError, match=name.replace(".", r"\.")) as error:
            read(tmp_path / name)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [[1, 2], {"a": 1}, {}, _without("state_dict"), _without("hyper_parameters")])
def test_a_checkpoint_of_something_else(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.ckpt")
    for read in (read_checkpoint, load_verified, Classifier.load):
        with pytest.raises(InputError, match="is no checkpoint of `cct fit`: make one of other weights"):
            read(tmp_path / "x.ckpt")


def test_a_whole_checkpoint_that_would_run_code(tmp_path: Path) -> None:
    torch.save({**WHOLE, "extra": Bomb(tmp_path / "boom")}, tmp_path / "x.ckpt")
    for read in (read_checkpoint, load_verified, Classifier.load, read_weights):
        with pytest.raises(InputError, match=r"would run code \(posix\.mkdir\)"):
            read(tmp_path / "x.ckpt")
    assert not (tmp_path / "boom").exists()


@pytest.mark.parametrize("name", ["version_0_1.ckpt", "version_0_1/last.ckpt", "version_0_1/best.ckpt"])
@torch.no_grad()
def test_checkpoints_of_version_0_1(name: str) -> None:
    content = load_verified(OLD / name)
    model = Classifier.load(OLD / name)
    images = torch.linspace(-1, 1, 64).reshape(1, 1, 8, 8)
    weights = read_weights(OLD / name)
    assert weights.hparams["arch"] == content["hyper_parameters"]["arch"] == model.hparams["arch"]
    plain = load_model(OLD / name)[0]
    assert torch.equal(plain(images), model(images))
    if "expected_logits" in content:
        torch.testing.assert_close(model(images), content["expected_logits"], rtol=1e-4, atol=1e-5)

"""Files that are no checkpoints, and one that would run code: one sentence each, and nothing runs."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from cct_lightning.errors import InputError
from cct_lightning.models.factory import create_model
from cct_lightning.models.weights.reader import read_weights


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

"""Folders of image files: layout, decoding, conversion, streaming."""

import io
import os
import re
import shutil
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_image
from torchvision.datasets import ImageFolder

from cct_lightning.data import ImageDataModule
from cct_lightning.data.input_spec import InputSpec
from cct_lightning.data.storage.decode import decode
from cct_lightning.data.storage.image_files import find_images, look, read_batches
from cct_lightning.errors import InputError

MakeTree = Callable[..., Path]


def folder(root: Path, **options: object) -> ImageDataModule:
    return ImageDataModule(name="folder", root=str(root), batch_size=2, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def photo() -> Image.Image:
    """A real photograph, 640 x 427."""
    return Image.fromarray(load_sample_image("china.jpg"))


def test_images_and_labels_are_image_folders(make_tree: MakeTree) -> None:
    root = make_tree(train=5, test=3, classes=("zebra", "ant", "Bee"), color=True)
    stored = folder(root).stored
    assert stored.classes == ("Bee", "ant", "zebra")
    for number, split in ((0, "train"), (2, "test")):
        theirs = ImageFolder(root / split)
        ours = stored.image[stored.split == number]
        assert list(stored.classes) == theirs.classes
        assert stored.label[stored.split == number].tolist() == theirs.targets
        for image, (picture, _) in zip(ours, theirs, strict=True):
            assert (image.permute(1, 2, 0).numpy() == np.asarray(picture)).all()


def test_grey_folders_stay_grey_and_one_colored_image_makes_rgb(make_tree: MakeTree) -> None:
    root = make_tree()
    assert folder(root).in_chans == 1
    Image.new("RGB", (8, 8), "red").save(root / "train" / "a" / "red.png")
    data = folder(root)
    assert data.in_chans == 3
    assert data.stored.image[data.stored.files.path.index("train/a/red.png"), :, 0, 0].tolist() == [255, 0, 0]


def test_images_lie_at_any_depth_and_behind_links(make_tree: MakeTree, tmp_path: Path) -> None:
    root = make_tree(train=4, test=0)
    deep = root / "train" / "a" / "x" / "y"
    deep.mkdir(parents=True)
    Image.new("L", (8, 8)).save(deep / "deep.png")
    other = tmp_path / "elsewhere"
    other.mkdir()
    Image.new("L", (8, 8)).save(other / "linked.png")
    (root / "train" / "b" / "link").symlink_to(other)
    assert {"train/a/x/y/deep.png", "train/b/link/linked.png"} < set(folder(root).stored.files.path)


def test_a_val_folder_is_the_validation_split(make_tree: MakeTree) -> None:
    root = make_tree(train=6, val=3, test=2)
    data = folder(root)
    assert {name: len(index) for name, index in data.index.items()} == {"train": 12, "val": 6, "test": 4}
    both = folder(root, train_split="trainval", val_fraction=0.0)
    assert {name: len(index) for name, index in both.index.items()} == {"train": 18, "val": 0, "test": 4}


def test_without_a_test_folder_only_testing_fails(make_tree: MakeTree) -> None:
    root = make_tree(train=10, test=0)
    data = folder(root)
    data.prepare()
    data.setup("fit")
    assert not data.has_test
    for ask in (data.test_dataloader, lambda: data.setup("test")):
        with pytest.raises(InputError, match=r"There is no test split in .*tree\. Add test/CLASS/\*\.png"):
            ask()


def test_sizes_that_differ_need_img_size(make_tree: MakeTree, photo: Image.Image) -> None:
    root = make_tree()
    photo.save(root / "train" / "a" / "photo.jpg")
    with pytest.raises(InputError, match=r"differ in size \(from 8x8 to 427x640\)\. Give data.img_size"):
        _ = folder(root).num_classes
    data = folder(root, img_size=(24, 32))
    assert data.stored.image.shape[1:] == (3, 24, 32)
    # 427 x 640 covers 24 x 32 when its height is 24: the sides are cropped alike.
    image = data.stored.image[data.stored.files.path.index("train/a/photo.jpg")].permute(1, 2, 0).numpy()
    with Image.open(root / "train" / "a" / "photo.jpg") as jpeg:
        wide = np.asarray(jpeg.resize((36, 24), Image.Resampling.BICUBIC))[:, 2:34]
    assert np.abs(image.astype(int) - wide).mean() < 3


def test_statistics_are_measured_over_the_training_images(make_tree: MakeTree) -> None:
    data = folder(make_tree())
    train = data.stored.image[data.stored.split == 0].double() / 255
    assert data.mean == pytest.approx([train.mean().item()], abs=1e-6)
    assert data.std == pytest.approx([train.std(correction=0).item()], abs=1e-6)


def test_files_that_are_no_images_are_told(make_tree: MakeTree) -> None:
    root = make_tree()
    (root / "train" / "a" / "notes.txt").write_text("x")
    (root / "train" / "a" / ".DS_Store").write_text("x")
    with pytest.warns(UserWarning, match=r"1 left out: 1 not images \(train/a/notes.txt\)\."):
        folder(root).prepare()
    (root / "train" / "a" / "notes.txt").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        folder(root).prepare()


def copied(path: Path, *places: str) -> None:
    for place in places:
        (path.parents[2] / place).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, path.parents[2] / place)


def test_clutter_is_no_data_for_training_and_predictions(make_tree: MakeTree) -> None:
    """Notebook checkpoints were trained and validated on at once, service folders were classes."""
    root = make_tree()
    expected = folder(root).stored
    copied(
        root / "train" / "a" / "000.png", "train/a/.ipynb_checkpoints/000-checkpoint.png", "train/@eaDir/000.png",
        "train/__MACOSX/a/._000.png", "train/b/._000.png", "train/a/deep/#recycle/x.png", "train/.thumbs/x.png",
        "test/lost+found/x.png", ".git/x.png", "@eaDir/x.png",
    )  # fmt: skip
    (root / "train" / "a" / "Thumbs.db").touch()
    with pytest.warns(UserWarning, match=r"tree: 7 left out: 7 clutter \(test/lost\+found, train/.*, \.\.\.\)\.$"):
        stored = folder(root).stored
    assert (stored.classes, stored.files.path) == (expected.classes, expected.files.path)
    with pytest.warns(UserWarning, match=r"tree: 9 left out: 9 clutter \("):
        assert find_images([root]) == sorted(root / path for path in expected.files.path)
    assert find_images([root / "train" / "b" / "._000.png"]), "a file that is named is taken"


@pytest.mark.parametrize("name", ["val", "valid", "Validation", "dev"])
def test_split_folders_have_their_usual_names(name: str, make_tree: MakeTree) -> None:
    root = make_tree(train=6, val=3, test=2)
    (root / "val").rename(root / name)
    (root / "train").rename(root / "Training")
    (root / "test").rename(root / "testing")
    assert {name: len(index) for name, index in folder(root).index.items()} == {"train": 12, "val": 6, "test": 4}
    (root / "validation").mkdir(exist_ok=True)
    if name != "Validation":
        with pytest.raises(
            InputError, match=r"tree holds both '.*' and 'validation', which are names of the val split"
        ):
            folder(root).prepare()


def test_images_beside_classes_and_splits_are_told(make_tree: MakeTree) -> None:
    root = make_tree()
    copied(root / "train" / "a" / "000.png", "x.png", "train/y.png", "extra/a/z.png")
    (root / "README.md").touch()
    told = r"3 left out: 1 not in a split \(extra\); 2 not in a class folder \(train/y\.png, x\.png\)"
    with pytest.warns(UserWarning, match=told):
        assert len(folder(root).stored.label) == 24


# Streaming and margins -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_streaming_gives_the_pixels_of_the_cache(workers: int, make_tree: MakeTree) -> None:
    root = make_tree(train=8, side=11)
    cached = folder(root, img_size=9, split_seed=1)
    stream = folder(root, img_size=9, split_seed=1, stream=True, num_workers=workers, mean=[0.5] * 3, std=[0.5] * 3)
    stream.prepare()
    assert stream.stored.image is None
    for ours, theirs in zip(cached.train_dataloader(), stream.train_dataloader(), strict=True):
        assert torch.equal(ours.index, theirs.index)
        assert torch.equal(ours.label, theirs.label)
        assert torch.equal(ours.image.expand(-1, 3, -1, -1), theirs.image)
    index = next(iter(stream.val_dataloader())).index
    assert stream.preview(index).shape == (len(index), 3, 9, 9)


def test_streaming_needs_a_size_and_statistics(make_tree: MakeTree) -> None:
    root = make_tree()
    with pytest.raises(InputError, match=r"A streamed folder needs data\.img_size"):
        _ = folder(root, stream=True).num_classes
    with pytest.raises(InputError, match=r"data\.mean needs one number for each of 3 channels; got \[\]"):
        folder(root, stream=True, img_size=8).prepare()
    with pytest.raises(InputError, match="comes as whole arrays, so it cannot be streamed"):
        ImageDataModule(stream=True).prepare()


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_file_of_a_stream_is_named(workers: int, make_tree: MakeTree) -> None:
    root = make_tree(train=4, test=0)
    data = folder(root, stream=True, img_size=8, val_fraction=0.0, mean=[0.5] * 3, std=[0.5] * 3, num_workers=workers)
    data.prepare()
    broken = root / "train" / "b" / "003.png"
    broken.write_bytes(broken.read_bytes()[:60])
    with pytest.raises(InputError) as caught:
        list(data.train_dataloader())
    assert str(caught.value).startswith(f"Cannot read the image {broken}: ")
    assert str(caught.value).endswith(". Replace or remove the file.")
    assert "\n" not in str(caught.value)


def test_stored_size_leaves_a_margin_and_evaluation_takes_the_center(make_tree: MakeTree) -> None:
    data = folder(make_tree(side=20), img_size=8, stored_size=12, augment="none")
    assert data.img_size == (8, 8)
    batch = next(iter(data.val_dataloader()))
    assert batch.image.shape[-2:] == (12, 12)
    seen = data.on_after_batch_transfer(batch).image
    assert seen.shape[-2:] == (8, 8)
    middle = (batch.image[..., 2:10, 2:10] / 255 - data.mean[0]) / data.std[0]
    torch.testing.assert_close(seen, middle, atol=1e-5, rtol=1e-5)
    with pytest.raises(InputError, match=r"stored_size \(4, 4\) needs an img_size that fits into it"):
        folder(make_tree(name="other"), img_size=8, stored_size=4)
    with pytest.raises(InputError, match="stored at its own size; leave stored_size out"):
        ImageDataModule(stored_size=12)


def test_imagenets_validation_images_are_the_test_split(make_tree: MakeTree) -> None:
    root = make_tree(train=20, val=5, test=0, classes=("n01440764", "n01443537"), color=True, side=40)
    data = ImageDataModule(name="imagenet", root=str(root), batch_size=4, num_workers=0)
    data.prepare()
    assert {name: len(index) for name, index in data.index.items()} == {"train": 36, "val": 4, "test": 10}
    assert data.classes == ["n01440764", "n01443537"]
    batch = next(iter(data.train_dataloader()))
    assert batch.image.shape == (4, 3, 256, 256)
    assert data.on_after_batch_transfer(batch).image.shape == (4, 3, 224, 224)
    with pytest.raises(InputError, match=r"The data set 'imagenet' needs data\.root"):
        ImageDataModule(name="imagenet").prepare()


# Kinds of image ------------------------------------------------------------------------------------------------------


def through(picture: Image.Image, kind: str, tmp_path: Path, in_chans: int = 3, **options: object) -> np.ndarray:
    """Save, decode, and return (H, W, C)."""
    path = tmp_path / f"x.{kind}"
    picture.save(path, **options)  # type: ignore[arg-type]
    return decode(path, in_chans=in_chans, size=None).transpose(1, 2, 0)


def test_palette_becomes_its_colors(photo: Image.Image, tmp_path: Path) -> None:
    palette = photo.quantize(64)
    assert palette.mode == "P"
    assert (through(palette, "png", tmp_path) == np.asarray(palette.convert("RGB"))).all()


def test_transparency_is_laid_over_white(tmp_path: Path) -> None:
    half = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    half.putpixel((1, 0), (255, 0, 0, 128))
    assert through(half, "png", tmp_path).tolist() == [[[255, 255, 255], [255, 127, 127]]]
    palette = Image.new("P", (2, 1), 0)
    palette.putpalette([9, 9, 9, 10, 20, 30])
    palette.putpixel((1, 0), 1)
    assert through(palette, "png", tmp_path, transparency=0).tolist() == [[[255, 255, 255], [10, 20, 30]]]


def test_cmyk_becomes_rgb(photo: Image.Image, tmp_path: Path) -> None:
    image = through(photo.convert("CMYK"), "jpg", tmp_path, quality=95)
    assert np.abs(image.astype(int) - np.asarray(photo)).mean() < 3


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    wide = np.array([[0, 257, 32768, 65535]], dtype=np.uint16)
    grey = through(Image.fromarray(wide), "png", tmp_path, in_chans=1)
    assert grey[..., 0].tolist() == [[0, 1, 128, 255]]
    assert look(tmp_path, ["x.png"]) == ({(1, 4)}, True)


def write_wide(path: Path, pixels: np.ndarray) -> None:
    """Write a PNG of 16 bits: (H, W), or (H, W, 3), which Pillow does not write."""
    if pixels.ndim == 2:
        Image.fromarray(pixels).save(path)
        return
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", pixels.shape[1], len(pixels), 16, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    chunks = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in parts]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("shape", [(8, 8), (8, 8, 3)])
def test_a_small_range_in_16_bits_is_told(shape: tuple[int, ...], stream: bool, make_tree: MakeTree) -> None:
    root = make_tree(train=4, test=1)
    files = sorted(root.rglob("*.png"))
    options = {"img_size": 8, "stream": stream, "mean": [0.5] * 3, "std": [0.5] * 3} if stream else {}
    for top, told in ((4095, True), (65535, False)):
        for path in files:
            write_wide(path, np.full(shape, top, np.uint16))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            _ = folder(root, **options).stored
            list(read_batches(files, InputSpec(in_chans=1, img_size=(8, 8), stored_size=(8, 8)), batch_size=4))
        messages = [str(warning.message) for warning in caught]
        assert len(messages) == 2 * told
        assert all(
            re.search(r"tree: the highest value of its 10 images of 16 bits is 4095 \(12 b", m) for m in messages
        )


def test_one_bit_becomes_grey(tmp_path: Path) -> None:
    picture = Image.new("1", (2, 1), 0)
    picture.putpixel((1, 0), 1)
    assert through(picture, "png", tmp_path, in_chans=1)[..., 0].tolist() == [[0, 255]]


def test_an_exif_orientation_is_applied(photo: Image.Image, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned by a quarter
    image = through(photo, "jpg", tmp_path, exif=exif.tobytes(), quality=95)
    assert image.shape == (640, 427, 3)
    assert np.abs(image.astype(int) - np.asarray(photo.rotate(-90, expand=True))).mean() < 3
    assert look(tmp_path, ["x.jpg"]) == ({(640, 427)}, False)


@pytest.mark.parametrize("mode", ["I", "F"])
def test_32_bit_pixels_are_refused_by_name(mode: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=rf"x\.tiff: has 32-bit pixels \(mode {mode}\), save it with 8 bits"):
        through(Image.new(mode, (4, 4)), "tiff", tmp_path)


# Broken trees --------------------------------------------------------------------------------------------------------


def broken(kind: str, path: Path) -> None:
    whole = path.read_bytes()
    picture = Image.open(io.BytesIO(whole))
    jpeg = io.BytesIO()
    Image.fromarray(load_sample_image("flower.jpg")).resize((64, 64)).save(jpeg, "JPEG")
    path.write_bytes(
        {
            "truncated png": whole[: len(whole) // 2],
            "truncated jpeg": jpeg.getvalue()[: len(jpeg.getvalue()) // 2],
            "empty": b"",
            "text": b"<html>404 not found</html>",
            "header only": whole[:33],
            "garbled": whole[:45] + bytes(b ^ 0x5A for b in whole[45:-20]) + whole[-20:],
        }[kind]
    )
    picture.close()


@pytest.mark.parametrize("kind", ["truncated png", "truncated jpeg", "empty", "text", "header only", "garbled"])
def test_a_broken_image_is_named_and_nothing_is_left(kind: str, make_tree: MakeTree, own_cache: Path) -> None:
    root = make_tree(side=32)
    broken(kind, root / "train" / "b" / "002.png")
    with pytest.raises(InputError) as caught:
        folder(root, img_size=32).prepare()
    assert str(caught.value).startswith(f"Cannot read an image in {root} (train/b/002.png: ")
    assert str(caught.value).endswith("). Replace or remove it.")
    assert "\n" not in str(caught.value)
    assert not [path for path in own_cache.iterdir() if path.suffix != ".lock"]


def test_of_many_broken_images_three_are_named(make_tree: MakeTree) -> None:
    root = make_tree(train=8)
    for i in range(5):
        (root / "train" / "a" / f"{i:03d}.png").write_bytes(b"")
    with pytest.raises(InputError) as caught:
        folder(root).prepare()
    assert str(caught.value) == (
        f"Cannot read 5 images in {root} (train/a/000.png: is empty; train/a/001.png: is empty; "
        "train/a/002.png: is empty; ...). Replace or remove them."
    )


def test_a_missing_empty_or_wrong_root(tmp_path: Path, make_tree: MakeTree) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_text("x")
    (tmp_path / "flat" / "cats").mkdir(parents=True)
    (tmp_path / "hollow" / "train").mkdir(parents=True)
    for name, message in (
        ("nowhere", "nowhere does not exist. Give data.root the folder that holds train/CLASS/*.png"),
        ("empty", "empty is empty. Fill it as train/CLASS/*.png"),
        ("file", "file is a file. Give data.root the folder that holds train/CLASS/*.png"),
        ("flat", "flat holds no folder 'train'. Arrange it as train/CLASS/*.png"),
        ("hollow", "train holds no class folders. Arrange its images as train/CLASS/*.png"),
    ):
        with pytest.raises(InputError) as caught:
            folder(tmp_path / name).prepare()
        assert message in str(caught.value)
    with pytest.raises(InputError, match=r"The data set 'folder' needs data\.root"):
        ImageDataModule(name="folder").prepare()


def test_a_class_folder_without_images(make_tree: MakeTree) -> None:
    root = make_tree()
    (root / "train" / "c").mkdir()
    with pytest.raises(InputError, match=r"The class folder .*train/c holds no image .* or remove the folder"):
        folder(root).prepare()


def test_a_class_that_training_does_not_know(make_tree: MakeTree) -> None:
    root = make_tree()
    (root / "test" / "b").rename(root / "test" / "c")
    with pytest.raises(InputError, match=r"test has a class 'c' that .*train has not"):
        folder(root).prepare()


def test_links_in_a_loop_or_to_nowhere(make_tree: MakeTree) -> None:
    root = make_tree()
    loop = root / "train" / "a" / "loop"
    loop.symlink_to(root / "train" / "a")
    with pytest.raises(InputError, match=r"The link .*train/a/loop leads back to a folder that contains it"):
        folder(root).prepare()
    loop.unlink()
    loop.symlink_to(root / "nowhere")
    with pytest.raises(InputError, match=r"The link .*train/a/loop leads nowhere"):
        folder(root).prepare()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(make_tree: MakeTree) -> None:
    root = make_tree()
    (root / "train" / "a" / "000.png").chmod(0)
    with pytest.raises(InputError, match=r"train/a/000\.png: Permission denied"):
        folder(root).prepare()

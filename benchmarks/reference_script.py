"""CCT-2/3x2 trained by the reference's own script: its model, augmentation, loss, schedule and loop, on our images.

    git clone https://github.com/SHI-Labs/Compact-Transformers REFERENCE
    python benchmarks/reference_script.py --reference REFERENCE --root CIFAR10 --epochs 50 [--crop]

So a difference in accuracy is one between two implementations, not between two sets of images: the same 10 % of the
training images is held out as by `cct fit`, the best epoch is chosen on it, and tested once. With --crop the
augmentation is that of the script as it is now; without, as it was in its first months. What `cct fit` reaches is in
results/ladder.md.
"""

import argparse
import contextlib
import copy
import io
import json
import random
import sys
import time
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.report import RESULTS, conditions, write
from cct_lightning.data import ImageDataModule


class Images(Dataset):
    """Pictures as torchvision's CIFAR10 gives them."""

    def __init__(self, image: Tensor, label: Tensor, transform: transforms.Compose) -> None:
        self.image = [Image.fromarray(pixels) for pixels in image.permute(0, 2, 3, 1).numpy()]
        self.label = label.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.image)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.image[index]), self.label[index]


class BFloat16(nn.Module):
    """The reference's model under autocast and channels-last: the same mathematics, more than twice as fast here."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.to(memory_format=torch.channels_last)

    def forward(self, image: Tensor) -> Tensor:  # noqa: D102
        with torch.autocast("cpu", torch.bfloat16):
            return self.model(image.contiguous(memory_format=torch.channels_last)).float()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reference", type=Path, required=True, help="a clone of the reference implementation")
    parser.add_argument("--root", required=True, help="folder with train/CLASS/*.png and test/CLASS/*.png")
    parser.add_argument("--epochs", type=int, default=200)
    parser.add_argument("--crop", action="store_true", help="RandomCrop(32, padding=4) after AutoAugment")
    parser.add_argument("--precision", choices=["32-true", "bf16-mixed"], default="bf16-mixed")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (options.reference / "src" / "cct.py").is_file():
        parser.error(f"{options.reference} is no clone of the reference implementation: it has no src/cct.py")
    if not (Path(options.root) / "test").is_dir():
        parser.error(f"{options.root} has no folder test/CLASS/*.png")
    told = conditions("torch", "torchvision", "pillow")
    row = train(**vars(options))
    print(record({**row, "command": f"`{told['command']}`", "date": told["date"][:10]}, told))


def train(reference: Path, *, root: str, epochs: int, crop: bool, precision: str, seed: int) -> dict[str, Any]:
    """Train by the reference's code and test once.

    Returns:
        A row of the table.
    """
    # The script lies in examples/ now, and lay at the top in its first months; `utils` is beside it.
    sys.path[:0] = [str(reference / "examples"), str(reference)]
    import main as script
    from src.cct import CCT
    from utils.autoaug import CIFAR10Policy
    from utils.losses import LabelSmoothingCrossEntropy

    random.seed(seed)
    torch.manual_seed(seed)
    model = CCT(
        img_size=32,
        n_conv_layers=2,
        kernel_size=3,
        stride=1,
        padding=1,
        num_layers=2,
        num_heads=2,
        mlp_ratio=1,
        embedding_dim=128,
        num_classes=10,
        positional_embedding="learnable",
    )
    if precision == "bf16-mixed":
        model = BFloat16(model)
    args = script.init_parser().parse_args([root, "--no-cuda", "--print-freq=-1", f"--epochs={epochs}"])
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, weight_decay=args.weight_decay)
    loss = LabelSmoothingCrossEntropy()
    pixels = [transforms.ToTensor(), transforms.Normalize([0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616])]
    cropped = [transforms.RandomCrop(32, padding=4)] if crop else []
    augment = transforms.Compose([CIFAR10Policy(), *cropped, transforms.RandomHorizontalFlip(), *pixels])
    data = ImageDataModule(name="folder", root=root)
    data.prepare()
    loaders = {}
    for split, index in data.index.items():
        transform = augment if split == "train" else transforms.Compose(pixels)
        images = Images(data.stored.image[index], data.stored.label[index], transform)
        loaders[split] = DataLoader(images, args.batch_size, shuffle=split == "train")
    start = time.time()
    best, weights = -1.0, {}
    for epoch in range(args.epochs):
        script.adjust_learning_rate(optimizer, epoch, args)
        script.cls_train(loaders["train"], model, loss, optimizer, epoch, args)
        accuracy = script.cls_validate(loaders["val"], model, loss, args, epoch=epoch, time_begin=start)
        sys.stdout.flush()
        if accuracy > best:
            best, weights = accuracy, copy.deepcopy(model.state_dict())
    model.load_state_dict(weights)
    with contextlib.redirect_stdout(io.StringIO()):
        tested = script.cls_validate(loaders["test"], model, loss, args, epoch=0)
    return {
        "crop": "yes" if crop else "no",
        "precision": precision,
        "seed": seed,
        "epochs": epochs,
        "best on held-out images, %": round(best, 2),
        "test, %": round(tested, 2),
        "minutes": round((time.time() - start) / 60, 1),
    }


NOTES = (
    "Model, augmentation, loss, schedule and training loop are the reference's (github.com/SHI-Labs/"
    "Compact-Transformers), with its defaults; the images, of which 10 % are held out, are those of `cct fit`. "
    "The epoch that is best on the held-out images is tested once. bf16-mixed: the reference's model under autocast. "
    "The rows of 2026-11-30: main.py of its commit 1c39b7c, src/utils/transformers.py of 82070a9."
)


def record(row: dict[str, Any], told: dict[str, Any]) -> str:
    """Write a row into the table, beside those of other commands."""
    path = RESULTS / "reference_script.json"
    before = json.loads(path.read_text())["rows"] if path.is_file() else []
    rows = [*(other for other in before if other["command"] != row["command"]), row]
    return write("reference_script", "CCT-2/3x2 by the reference's own script", NOTES, rows, told)


if __name__ == "__main__":
    main()

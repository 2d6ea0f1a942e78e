"""Images per second of `cct predict` on PNG files, beside the model alone on batches that lie in memory.

    python benchmarks/predict.py                          CCT-7/3x1, 32 x 32 PNGs, batch 256
    python benchmarks/predict.py --arch cct_2_3x2 --images 4096
    python benchmarks/predict.py --device cuda --images 65536

Both sides run in one process, round after round; the median round counts. `predict` reads the files, computes, and
writes the CSV file, its start (reading the checkpoint, listing the files) included. Results go to
benchmarks/results/predict.md and .json, or under --name.
"""

import argparse
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks import report
from cct_lightning.commands.predict import Predictor, find_images, predict
from cct_lightning.data.input_spec import InputSpec
from cct_lightning.data.storage.image_files import read_batches
from cct_lightning.models.factory import create_model

MEAN, STD = [0.4914, 0.4822, 0.4465], [0.2470, 0.2435, 0.2616]


def write_images(folder: Path, count: int, size: int) -> None:
    """Write crops of the two photographs that scikit-learn ships as PNG files, 1,000 a folder."""
    from sklearn.datasets import load_sample_images

    pictures = load_sample_images().images
    rng = np.random.default_rng(0)
    for i in range(count):
        picture = pictures[i % len(pictures)]
        top, left = (rng.integers(side - size + 1) for side in picture.shape[:2])
        place = folder / f"{i // 1000:03}"
        place.mkdir(exist_ok=True)
        Image.fromarray(picture[top : top + size, left : left + size]).save(place / f"{i:06}.png")


def write_checkpoint(path: Path, arch: str, size: int) -> None:
    """Write fresh weights as `cct fit` would."""
    state = {f"net.{name}": value for name, value in create_model(arch, img_size=size).state_dict().items()}
    hparams = {"arch": arch, "img_size": [size, size], "in_chans": 3, "num_classes": 10, "mean": MEAN, "std": STD}
    torch.save({"pytorch-lightning_version": "2.6.1", "state_dict": state, "hyper_parameters": hparams}, path)


def seconds(job: Any, device: torch.device) -> float:
    """Return the wall time of a job."""
    begin = time.perf_counter()
    job()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - begin


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--arch", default="cct_7_3x1", help="model (default cct_7_3x1)")
    parser.add_argument("--images", type=int, default=2048, help="files (default 2048)")
    parser.add_argument("--size", type=int, default=32, help="side of the images in pixels (default 32)")
    parser.add_argument("--batch", type=int, default=256, help="images per batch (default 256)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds that count, after one that does not (default 3)")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument("--name", default="predict", help="of the files under results (default predict)")
    args = parser.parse_args()
    told = report.conditions("torch", "pillow", "numpy", device=args.device)
    device = torch.device(args.device)
    spent: dict[str, list[float]] = {"model alone": [], "predict": [], "reading alone": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        write_images(folder / "images", args.images, args.size)
        write_checkpoint(folder / "x.ckpt", args.arch, args.size)
        model = Predictor(folder / "x.ckpt", device=device).model
        batch = torch.randn(args.batch, 3, args.size, args.size, device=device)
        batches = [batch[: min(args.batch, args.images - i)] for i in range(0, args.images, args.batch)]

        @torch.inference_mode()
        def alone() -> None:
            for images in batches:
                model(images)

        def whole() -> None:
            predict(
                folder / "x.ckpt", [folder / "images"], folder / "p.csv", batch_size=args.batch, device=args.device,
                overwrite=True,
            )  # fmt: skip

        def reading() -> None:
            files = find_images([folder / "images"])
            spec = InputSpec(in_chans=3, img_size=(args.size, args.size), stored_size=(args.size, args.size))
            for _ in read_batches(files, spec, batch_size=args.batch):
                pass

        for turn in range(args.rounds + 1):
            for what, job in (("model alone", alone), ("predict", whole), ("reading alone", reading)):
                took = seconds(job, device)
                if turn:
                    spent[what].append(took)
    middle = {what: statistics.median(values) for what, values in spent.items()}
    rows = [{"images/s": what, args.arch: round(args.images / value)} for what, value in middle.items()]
    rows.append({"images/s": "predict / model alone", args.arch: round(middle["model alone"] / middle["predict"], 3)})
    notes = (
        f"{args.images} PNG files of {args.size} x {args.size}, batches of {args.batch} on {device.type}, float32, "
        f"{torch.get_num_threads()} torch threads, medians of {args.rounds} interleaved rounds. A model that is faster "
        "than `reading alone` waits for the decoding of its files, which is the processor's work: that is the limit of "
        "small models and for GPUs."
    )
    print(report.write(args.name, f"Predictions: {args.arch}", notes, rows, told))


if __name__ == "__main__":
    main()

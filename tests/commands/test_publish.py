"""Published models: folders and a Hub on this machine, loaded with the logits of the run's best checkpoint."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hub_server import Hub, hub
from huggingface_hub import constants
from PIL import Image

import cct_lightning
from cct_lightning import Classifier, create_model
from cct_lightning.commands import publish as command
from cct_lightning.commands.predict import Predictor
from cct_lightning.commands.publish import publish, timm_config
from cct_lightning.config.resolved import ResolvedConfig
from cct_lightning.data.augment.input_transform import InputTransform
from cct_lightning.data.input_spec import InputSpec, stored_input_spec
from cct_lightning.errors import InputError
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.lock import take_lock
from cct_lightning.system import importing

FILES = ["README.md", "config.json", "metrics.json", "model.safetensors", "recipe.yaml"]
OLD = Path(__file__).parents[1] / "survival"
Cct = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run whose weights are averaged."""
    folder = tmp_path_factory.mktemp("run") / "run"
    options = {"model.ema_decay": 0.9, "tracking.mode": "disabled", "model.optim.warmup_epochs": 0}
    cct_lightning.fit("digits", max_epochs=1, run_dir=folder, options=options)
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """A Hub, and a client in this process that knows it; `test_another_process` says HF_ENDPOINT, as a user does."""
    with hub() as found:
        template = constants.HUGGINGFACE_CO_URL_TEMPLATE.replace(constants.ENDPOINT, found.url)
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        monkeypatch.setattr(constants, "ENDPOINT", found.url)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))
        monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
        monkeypatch.setenv("HF_TOKEN", "hf_writer")
        yield found


def logits_of_best(run: Path, images: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return Classifier.load(run / "best.ckpt").eval()(images)


def logits(reference: str | Path, images: torch.Tensor, **options: Any) -> torch.Tensor:
    with torch.no_grad():
        return create_model(reference, **options).eval()(images)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_has_the_weights_that_are_tested(run: Path, here: Path, cct: Cct) -> None:
    code, out, err = cct("publish", str(run), "--to", "models/digits")
    assert (code, out) == (0, "models/digits\n"), err
    assert names(here / "models") == ["digits"]
    assert names(here / "models" / "digits") == FILES
    images = torch.randn(4, 1, 8, 8)
    expected = logits_of_best(run, images)
    raw = torch.load(run / "best.ckpt", weights_only=True)["current_model_state"]
    net = create_model("models/digits").eval()
    assert not torch.equal(net.head.weight, raw["net.head.weight"]), "the average is published"
    for reference in ("models/digits", "local-dir:models/digits", here / "models" / "digits"):
        assert torch.equal(logits(reference, images), expected)
    # Every reader of weights reads it, and what is to be known of the pixels is in the file.
    assert torch.equal(logits("cct_2_3x1", images, pretrained="models/digits"), expected)
    assert stored_input_spec("models/digits") == stored_input_spec(run / "best.ckpt")
    assert Predictor(Path("models/digits")).spec.classes == tuple("0123456789")
    assert create_model("models/digits", num_classes=3).head.out_features == 3
    config = json.loads((here / "models" / "digits" / "config.json").read_text())
    assert (config["architecture"], config["num_classes"], config["label_names"]) == (
        "cct_2_3x1",
        10,
        list("0123456789"),
    )
    assert config["model_args"]["pool"] == "seqpool"
    assert (config["pretrained_cfg"]["input_size"], config["pretrained_cfg"]["mean"]) == ([1, 8, 8], [0.3046])
    assert InputSpec.from_hparams(config["cct_lightning"]["input_spec"]) == stored_input_spec("models/digits")
    # Files that others may read, as all others that the package writes.
    modes = {path.stat().st_mode for path in (here / "models" / "digits").iterdir()}
    assert len(modes) == 1


def test_the_card_is_true(run: Path, here: Path, cct: Cct) -> None:
    publish(run, to="card", license="mit")
    card = (here / "card" / "README.md").read_text()
    metadata = yaml.safe_load(card.split("---\n")[1])
    summary = RunFolder(run).summary()
    assert (metadata["license"], metadata["library_name"]) == ("mit", "cct_lightning")
    (result,) = metadata["model-index"][0]["results"]
    assert result["metrics"][0]["value"] == round(summary["test/acc"], 4)
    for said in (f"{100 * summary['test/acc']:.2f} %", f"{summary['params']:,}", f"{summary['macs']:,}", "digits"):
        assert said in card
    assert "- torch" not in card
    assert re.search(r"torch \d", card)
    (source,) = re.findall(r"^```python\n(.*?)^```", card, re.DOTALL | re.MULTILINE)
    assert len([line for line in source.splitlines() if line]) <= 5
    found: dict[str, Any] = {}
    exec(compile(source, "card", "exec"), found)
    assert found["logits"].shape == (1, 10)
    Image.new("L", (8, 8)).save("grey.png")
    code, _, err = cct("predict", "./card", "grey.png")
    assert code == 0, err
    # The recipe trains the same run, and says nothing of this machine.
    code, out, err = cct("fit", "--config", "card/recipe.yaml", "--print_config")
    assert code == 0, err
    config = RunFolder(run).config()
    assert config is not None
    assert ResolvedConfig.resolve(yaml.safe_load(out)).results_key == config.results_key
    text = "".join((here / "card" / name).read_text() for name in FILES if name != "model.safetensors")
    assert str(run) not in text
    assert "tracking" not in text
    assert json.loads((here / "card" / "metrics.json").read_text())["test/acc"] == summary["test/acc"]


def test_the_card_of_a_folder_of_images(run: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(run, "copy")
    config = yaml.safe_load((here / "copy" / "config.yaml").read_text())
    config["data"] |= {"name": "folder", "root": "/private/birds"}
    (here / "copy" / "config.yaml").write_text(yaml.safe_dump(config))
    read = command.input_spec
    names = ("a|b", *"123456789")
    monkeypatch.setattr(command, "input_spec", lambda *of: dataclasses.replace(read(*of), classes=names))
    publish(Path("copy"), to="card")
    card = (here / "card" / "README.md").read_text()
    (result,) = yaml.safe_load(card.split("---\n")[1])["model-index"][0]["results"]
    assert result["dataset"] == {"name": "birds", "type": "imagefolder", "split": "test"}
    assert "trained on the image folder birds with" in card
    assert "`cct fit --config recipe.yaml --data.root FOLDER`" in card
    assert "private" not in card
    assert "| classes | 10: a\\|b, 1, 2" in card


def test_license_and_test_are_left_open(run: Path, here: Path) -> None:
    shutil.copytree(run, "copy")
    summary = json.loads((here / "copy" / "summary.json").read_text())
    (here / "copy" / "summary.json").write_text(json.dumps({"params": summary["params"], "status": "running"}))
    (here / "copy" / "environment.json").unlink()
    publish(Path("copy"), to="open")
    card = (here / "open" / "README.md").read_text()
    metadata = yaml.safe_load(card.split("---\n")[1])
    assert metadata.keys() == {"library_name", "pipeline_tag", "tags"}
    assert "# license: choose one" in card
    assert "| test accuracy | not measured |" in card
    assert "of 1: interrupted |" in card


def test_a_run_of_version_0_1(here: Path) -> None:
    shutil.copytree(OLD / "version_0_1", "old")
    shutil.copy(OLD / "version_0_1.ckpt", "old/best.ckpt")
    publish(Path("old"), to="new")
    spec = stored_input_spec("new")
    assert spec is not None
    images = torch.randn(2, spec.in_chans, *spec.img_size)
    assert torch.equal(logits("new", images), logits_of_best(here / "old", images))


def test_what_is_there_is_kept(run: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "other").mkdir()
    (here / "other" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match=r"something else than a published model \(config.json\)"):
        publish(run, to="other", overwrite=True)
    (here / "file").touch()
    for to in ("file", "file/below"):
        with pytest.raises(InputError, match=r"is a file|Cannot write"):
            publish(run, to=to)
    (here / "empty").mkdir()
    publish(run, to="empty")
    with pytest.raises(InputError, match="--overwrite true"):
        publish(run, to="empty")
    (here / "empty" / "LICENSE").write_text("mine")
    (here / "empty" / "model.safetensors").write_bytes(b"old")
    publish(run, to="empty", overwrite=True)
    assert (here / "empty" / "LICENSE").read_text() == "mine"
    assert create_model("./empty") is not None
    # A failure on the way leaves neither a folder nor a part of one.
    before = names(here)

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(command, "timm_config", fail)
    with pytest.raises(InputError, match="No space left on device"):
        publish(run, to="half")
    assert names(here) == before


def test_no_run_to_publish(run: Path, here: Path) -> None:
    with pytest.raises(InputError, match="no trained model in nothing"):
        publish(Path("nothing"), to="model")
    shutil.copytree(run, "copy")
    with take_lock(here / "copy"), pytest.raises(InputError, match="still training"):  # type: ignore[union-attr]
        publish(Path("copy"), to="model")
    assert names(here) == ["copy"]


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("./nothing", "does not exist"),
        ("local-dir:nothing", "does not exist"),
        ("empty", "a folder without a published model"),
        ("hf-hub:alone", "write hf-hub:USER/NAME"),
        ("hf-hub:me/digits@", "write hf-hub:USER/NAME"),
        ("hf-hub:me/..", "no name that the Hub accepts"),
    ],
)
def test_references_that_name_nothing(reference: str, says: str, here: Path) -> None:
    (here / "empty").mkdir()
    with pytest.raises(InputError, match=says) as error:
        create_model(reference)
    assert "\n" not in str(error.value)


def test_a_published_model_is_no_architecture(run: Path, here: Path) -> None:
    publish(run, to="model")
    with pytest.raises(InputError, match="weights of its own"):
        create_model("./model", pretrained="cifar10_300epochs")
    with pytest.raises(InputError, match=r"pretrained=\./model"):
        Classifier(arch="./model", img_size=(8, 8), in_chans=1, num_classes=10)
    # It needs no architecture's name, as published weights of the paper do: the parts say which run it is.
    for weights, arch in (
        ("hf-hub:me/digits", "cct_7_3x1"),
        ("./model", "cct_7_3x1"),
        ("cifar10_300epochs", "cct_7_3x1_32"),
    ):
        options = {"model": {"arch": "cct_7_3x1_32", "pretrained": weights}, "data": {"name": "cifar10"}}
        assert ResolvedConfig.resolve(options).arch == arch
    # A folder of that name does not hide an architecture.
    (here / "cct_2_3x1").mkdir()
    assert create_model("cct_2_3x1").head.out_features == 10


PART = """
import torch
from cct_lightning.models.pooling import Pooling


class TopPool(Pooling):
    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return tokens.topk(2, 1).values.mean(1)
"""


def test_own_parts_are_repeated(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(here)
    (here / "my_lab.py").write_text(PART)
    module = Classifier(arch="cct_2_3x1", pool="my_lab.TopPool", img_size=(8, 8), in_chans=1, num_classes=3)
    content = {"pytorch-lightning_version": "2.6.6", "state_dict": module.state_dict()}
    (here / "run").mkdir()
    torch.save({**content, "hyper_parameters": dict(module.hparams)}, "run/last.ckpt")
    options = {"model": {"arch": "cct_2_3x1", "pool": "my_lab.TopPool"}, "data": {"name": "digits"}}
    (here / "run" / "config.yaml").write_text(ResolvedConfig.resolve(options).to_yaml())
    monkeypatch.setattr(importing, "_imported", set())
    with pytest.raises(InputError, match=r"--allow_import my_lab\.TopPool"):
        publish(Path("run"), to="model")
    assert names(here) == ["my_lab.py", "run"] or names(here) == ["__pycache__", "my_lab.py", "run"]
    publish(Path("run"), to="model", allow_import=["my_lab.TopPool"])
    monkeypatch.setattr(importing, "_imported", set())
    with pytest.raises(InputError, match="names code that loading it would run"):
        create_model("./model")
    assert "create_model(\"./model\", allow_import=['my_lab.TopPool'])" in (here / "model" / "README.md").read_text()
    card = (here / "model" / "README.md").read_text()
    assert "`cct predict ./model IMAGES --allow_import my_lab.TopPool`" in card
    assert create_model("./model", allow_import=["my_lab.TopPool"]).head.out_features == 3


@pytest.mark.parametrize(("size", "stored"), [(32, 32), (32, 36), (224, 256), (224, 248), (96, 118)])
def test_timm_shows_the_same_pixels(size: int, stored: int, tmp_path: Path) -> None:
    from timm.data import create_transform, resolve_data_config

    spec = InputSpec(in_chans=3, img_size=(size, size), stored_size=(stored, stored), mean=(0.4, 0.5, 0.6),
                     std=(0.2, 0.25, 0.3), classes=("a", "b"))  # fmt: skip
    config = timm_config(create_model("resnet18", num_classes=2), "resnet18", spec)
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 300, 3), dtype=np.uint8))
    image.save(tmp_path / "x.png")
    theirs = create_transform(**resolve_data_config(pretrained_cfg=config["pretrained_cfg"]))(image)
    ours = InputTransform(spec)(torch.from_numpy(spec.decode(tmp_path / "x.png").copy())[None])[0]
    assert theirs.shape == ours.shape
    torch.testing.assert_close(theirs, ours, atol=1e-5, rtol=1e-5)


def test_the_hub_keeps_every_version(run: Path, here: Path, server: Hub) -> None:
    assert publish(run, to="hf-hub:me/digits", private=True) == "hf-hub:me/digits"
    assert sorted(server.repos["me/digits"][-1]) == [".gitattributes", *FILES]
    assert server.private == {"me/digits"}
    images = torch.randn(2, 1, 8, 8)
    expected = logits_of_best(run, images)
    server.tags["me/digits", "v1"] = 1
    for reference in ("hf-hub:me/digits", "hf-hub:me/digits@v1"):
        assert torch.equal(logits(reference, images), expected)
    assert torch.equal(logits("cct_2_3x1", images, pretrained="hf-hub:me/digits"), expected)
    assert 'create_model("hf-hub:me/digits")' in server.repos["me/digits"][-1]["README.md"].decode()
    with pytest.raises(InputError, match="--overwrite true"):
        publish(run, to="hf-hub:me/digits")
    publish(run, to="hf-hub:me/digits", overwrite=True)
    assert len(server.repos["me/digits"]) == 3  # empty, and one commit each
    assert names(here) == ["cache"]


def test_what_the_hub_refuses_is_one_sentence(run: Path, here: Path, server: Hub, monkeypatch: Any) -> None:
    server.repos |= {"me/other": [{"pytorch_model.bin": b"x"}], "me/digits": [{}]}
    server.gated.add("me/gated")
    for reference, says in (
        ("me/nothing", "shows no model me/nothing"),
        ("me/digits@v9", "has no revision v9"),
        ("me/other", "holds no model.safetensors"),
        ("me/gated", "is gated"),
    ):
        with pytest.raises(InputError, match=says) as error:
            create_model(f"hf-hub:{reference}")
        assert "\n" not in str(error.value)
    with pytest.raises(InputError, match=r"something else than a published model \(pytorch_model.bin\)"):
        publish(run, to="hf-hub:me/other", overwrite=True)
    with pytest.raises(InputError, match="leave @main out"):
        publish(run, to="hf-hub:me/new@main")
    for token, says in (("hf_reader", "refuses this token"), ("", "needs a token")):
        monkeypatch.setenv("HF_TOKEN", token)
        with pytest.raises(InputError, match=f"{says} for me/new: log in with `hf auth login`") as error:
            publish(run, to="hf-hub:me/new")
        assert "\n" not in str(error.value)
    assert "me/new" not in server.repos
    monkeypatch.setenv("HF_TOKEN", "hf_writer")
    server.storage = 403
    with pytest.raises(InputError, match="The Hub cannot be reached for me/broken"):
        publish(run, to="hf-hub:me/broken")
    assert server.repos["me/broken"] == [{".gitattributes": b""}], "all files or none"
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="not in the cache, and the Hub cannot be reached"):
        create_model("hf-hub:me/new")
    with pytest.raises(InputError, match="The Hub cannot be reached for me/new"):
        publish(run, to="hf-hub:me/new")


def test_the_extra_is_named(run: Path, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importing, "find_spec", lambda name: None)
    for act in (lambda: create_model("hf-hub:me/digits"), lambda: publish(run, to="hf-hub:me/digits")):
        with pytest.raises(InputError, match=r"pip install 'cct_lightning\[hub\]'"):
            act()


def test_another_process(run: Path, here: Path) -> None:
    images = torch.randn(2, 1, 8, 8)
    torch.save(images, "images.pt")
    source = f"""
import torch
from cct_lightning import create_model
from cct_lightning.commands.main import run
run(["publish", {str(run)!r}, "--to", "hf-hub:me/digits"])
torch.save(create_model("hf-hub:me/digits").eval()(torch.load("images.pt")).detach(), "logits.pt")
"""
    with hub() as server:
        home = {"HF_ENDPOINT": server.url, "HF_HOME": str(here / "home"), "HF_TOKEN": "hf_writer"}
        environment = {**os.environ, **home, "HF_HUB_DISABLE_XET": "1"}
        done = subprocess.run([sys.executable, "-c", source], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "hf-hub:me/digits\n"
    assert torch.equal(torch.load("logits.pt"), logits_of_best(run, images))

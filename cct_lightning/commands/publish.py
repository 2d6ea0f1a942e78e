"""`cct publish`: the model of a run as a folder that others can use, on this machine or on the Hugging Face Hub.

    model.safetensors   the weights, described as `cct convert` does: what `create_model` and every command reads
    config.json         architecture, preprocessing and class names under timm's names, the exact InputSpec beside them
    recipe.yaml         the options that change the result, for `cct fit --config`
    metrics.json        what the run measured
    README.md           the model card, from `model_card.md`
"""  # fmt: skip

import json
import math
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import jinja2
import yaml
from torch import nn

from cct_lightning.commands.convert import convert
from cct_lightning.commands.export import input_spec
from cct_lightning.config.options import CLASSES, changes_results, text, tilde
from cct_lightning.data.input_spec import InputSpec
from cct_lightning.errors import InputError
from cct_lightning.models.compact import CompactTransformer
from cct_lightning.models.factory import load_model
from cct_lightning.models.parts import Parts, import_paths, split_spec
from cct_lightning.models.weights import hub
from cct_lightning.runs.environment import PACKAGES
from cct_lightning.runs.folder import RunFolder
from cct_lightning.runs.lock import is_locked
from cct_lightning.runs.metrics import BEST_VAL_ACC, TEST_ACC, metric
from cct_lightning.runs.state import read_state
from cct_lightning.system.atomic import replacing_folder
from cct_lightning.system.places import local_path

_NOT_MEASURED = ("status", "reason", "stopped_by")
# Options in the card's table; all of them are in recipe.yaml.
_RECIPE = (
    "trainer.max_epochs", "data.global_batch_size", "model.optim.optimizer", "model.optim.lr",
    "model.optim.weight_decay", "model.optim.schedule", "model.ema_decay", "model.pretrained", "data.augment",
    "data.mixing", "seed_everything",
)  # fmt: skip


def publish(
    run_dir: Path,
    *,
    to: str,
    license: str | None = None,
    private: bool = False,
    allow_import: Sequence[str] = (),
    overwrite: bool = False,
) -> str:
    """Publish the model of a run: weights, config.json, recipe, metrics and a model card.

    The weights are those that the run is tested with: of the best epoch (without a validation, of the last), averaged
    where the run averages them.

    Args:
        run_dir: The folder of a run of `cct fit`.
        to: A folder, or `hf-hub:USER/NAME` for the Hugging Face Hub (`hf auth login` first).
        license: The license of the weights, as the Hub spells it, such as mit; left to you where not given.
        private: Make a new repository of the Hub private.
        allow_import: Import paths of your own model and parts that the checkpoint may name, such as my_lab.GemPool.
        overwrite: Replace a published model; other files beside it stay.

    Returns:
        What `create_model` takes: the folder, or `hf-hub:USER/NAME`.

    Raises:
        InputError: No finished run, a place that holds something else, no token, no network; nothing is written then.
    """
    run = RunFolder(local_path(run_dir).absolute())
    _check_run(run, run_dir)
    if to.startswith(hub.HUB):
        repo, revision = hub.repository(to)
        if revision is not None:
            raise InputError(f"{to}: a model is published to the main branch; leave @{revision} out.")
        hub.check_repository(repo, overwrite=overwrite)
        with TemporaryDirectory() as folder:
            _write(Path(folder), run, reference=to, license=license, allow_import=allow_import)
            hub.upload(Path(folder), repo, private=private)
        return to
    path = local_path(to.removeprefix(hub.LOCAL))
    hub.check_folder(path, overwrite=overwrite)
    try:
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        with replacing_folder(path) as folder:
            _write(folder, run, reference=_spelled(path), license=license, allow_import=allow_import)
    except OSError as error:
        raise InputError(f"Cannot write {path} ({error.strerror or error}): choose another folder.") from error
    return _spelled(path)


def _check_run(run: RunFolder, given: Path) -> None:
    if not (run.to_test.is_file() and (run / run.CONFIG).is_file()):
        raise InputError(f"There is no trained model in {given}: give the folder of a run of `cct fit`.")
    if is_locked(run.path):
        raise InputError(f"The run in {given} is still training: wait for its end, or stop it with Ctrl-C.")


def _spelled(path: Path) -> str:
    """Return a folder so that it is never taken for the name of an architecture, and names no home."""
    return tilde(str(path)) if len(path.parts) > 1 else f"./{path}"


def _write(folder: Path, run: RunFolder, *, reference: str, license: str | None, allow_import: Sequence[str]) -> None:
    weights = convert(run.to_test, folder / hub.WEIGHTS, allow_import=allow_import)
    model, stored = load_model(weights, allow_import=allow_import)
    spec, config, summary = input_spec(model, stored), run.config(), run.summary()
    assert config is not None
    arch = split_spec("arch", stored.hparams["arch"])[0]
    about = {"version": version("cct_lightning"), "input_spec": spec.as_dict()}
    _write_json(folder / hub.CONFIG, {**timm_config(model, arch, spec), hub.MARK: about})
    recipe = _of_results(config.options)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False, allow_unicode=True), encoding="utf-8")
    measured = {key: value for key, value in summary.items() if key not in _NOT_MEASURED}
    _write_json(folder / "metrics.json", measured)
    environment, options = run.environment(), config.options["data"]
    # What the folder is called says more than `folder`; where it lies is this machine's own.
    is_folder = options["name"] == "folder"
    data = Path(options.get("root") or "").name or "images" if is_folder else text(options["name"])
    data_type = "imagefolder" if is_folder else data  # the first is the Hub's word
    title = reference.removeprefix(hub.HUB).rpartition("/")[2]
    parts = import_paths({key: stored.hparams.get(key) for key in ("arch", "tokenizer", "position", "pool")})
    values: dict[str, Any] = {
        "metadata": _metadata(title, data, data_type, license, summary),
        "license": license,
        "title": title,
        "arch": arch,
        "data": f"the image folder {data}" if is_folder else data,
        "reference": reference,
        "allowed": f", allow_import={parts}" if parts else "",
        "allowed_words": f" --allow_import {' '.join(parts)}" if parts else "",
        "root_words": " --data.root FOLDER" if is_folder else "",
        "spec": spec,
        "facts": _facts(spec, summary, read_state(run.path).epoch, config.options["trainer"].get("max_epochs")),
        "recipe": {key: text(config.flat[key]) for key in _RECIPE if config.flat.get(key) is not None},
        "versions": {name: found for name in PACKAGES if (found := environment.get(name.replace("-", "_")))},
    }
    template = Path(__file__).with_name("model_card.md").read_text(encoding="utf-8")
    card = jinja2.Template(template, undefined=jinja2.StrictUndefined, trim_blocks=True, keep_trailing_newline=True)
    (folder / hub.CARD).write_text(card.render(values), encoding="utf-8")


def _write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def timm_config(model: nn.Module, arch: str, spec: InputSpec) -> dict[str, Any]:
    """Return what timm's config.json says of a model; `timm.data.resolve_data_config` takes its `pretrained_cfg`.

    Its pixels are ours but for two cases: timm resizes once where we do it twice (`fit: resize`), and its center of an
    odd margin is one pixel further.
    """
    compact = model.arch if isinstance(model, CompactTransformer) else None
    resized = spec.fit == "resize"
    once = not resized or spec.stored_size == spec.img_size
    preprocessing = {
        "input_size": [spec.in_chans, *spec.img_size],
        "interpolation": spec.decode_interpolation if once else spec.interpolation,
        "crop_pct": 1.0 if resized else _crop_pct(spec.img_size[0], spec.stored_size[0]),
        "crop_mode": "center",
        "mean": spec.mean and list(spec.mean),
        "std": spec.std and list(spec.std),
    }
    return {
        "architecture": arch,
        "num_classes": len(spec.classes),
        **({"num_features": compact.embed_dim} if compact else {}),
        "label_names": list(spec.classes),
        "model_args": {key: getattr(compact, key) for key in Parts.__annotations__} if compact else {},
        "pretrained_cfg": {key: value for key, value in preprocessing.items() if value is not None},
    }


def _crop_pct(size: int, stored: int) -> float:
    """Return the share from which timm, which rounds down, computes the stored size."""
    share = size / stored
    return share if math.floor(size / share) == stored else math.nextafter(share, 0)


def _of_results(options: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    """Return the nested options that can change a result: no paths of this machine, no names of W&B."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping) and value and name not in CLASSES:
            value = _of_results(value, f"{name}.")
            if not value:
                continue
        if changes_results(name):
            found[key] = value
    return found


def _metadata(title: str, data: str, data_type: str, license: str | None, summary: Mapping[str, Any]) -> str:
    """Return the metadata of a model card, as YAML; the Hub shows them and searches in them."""
    found: dict[str, Any] = {
        "library_name": "cct_lightning",
        "pipeline_tag": "image-classification",
        "tags": ["image-classification", "compact-transformer", "pytorch-lightning"],
    }
    if license:
        found["license"] = license
    if TEST_ACC in summary:
        result = {
            "task": {"type": "image-classification"},
            "dataset": {"name": data, "type": data_type, "split": "test"},
            "metrics": [{"type": "accuracy", "value": round(summary[TEST_ACC], 4), "name": "test accuracy"}],
        }
        found["model-index"] = [{"name": title, "results": [result]}]
    return yaml.safe_dump(found, sort_keys=False, allow_unicode=True).rstrip()


def _facts(spec: InputSpec, summary: Mapping[str, Any], epoch: int, max_epochs: int | None) -> dict[str, str]:
    """Return the first table of the card: what was measured, and what the model takes and costs."""

    def percent(name: str) -> str:
        return f"{metric(name).text(summary[name])} %"

    found: dict[str, str] = {}
    found["test accuracy"] = percent(TEST_ACC) if TEST_ACC in summary else "not measured"
    if BEST_VAL_ACC in summary:
        found["validation accuracy, best epoch"] = percent(BEST_VAL_ACC)
    epochs = str(summary.get("epochs", epoch))
    whole = summary.get("status") in ("trained", "finished")
    found["epochs"] = epochs if whole else f"{epochs} of {max_epochs}: interrupted"
    for name, label in (("params", "parameters"), ("macs", "MACs of one image"), ("tokens", "tokens")):
        if name in summary:
            found[label] = f"{summary[name]:,}"
    found["images"] = f"{spec.img_size[0]}x{spec.img_size[1]} pixels, {spec.in_chans} channel{'s'[: spec.in_chans - 1]}"
    names = [*spec.classes[:10], *(["..."] if len(spec.classes) > 10 else [])]
    found["classes"] = f"{len(spec.classes)}: {', '.join(names)}"
    return found

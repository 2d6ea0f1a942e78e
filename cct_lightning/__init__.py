"""Compact Transformers (ViT-Lite, CVT, CCT) for small image data sets, on PyTorch Lightning.

    import cct_lightning

    cct_lightning.fit("digits", pool="class_token", max_epochs=3)
    cct_lightning.compare("runs/tokenizer_x_pool").plot()
    cct_lightning.create_model("cct_7_3x1", num_classes=100)
"""  # fmt: skip

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cct_lightning.api import fit
    from cct_lightning.comparison.compare import compare
    from cct_lightning.data.augment.augment import Augment
    from cct_lightning.data.batch import Batch
    from cct_lightning.data.datamodule import ImageDataModule
    from cct_lightning.errors import InputError
    from cct_lightning.models.arch import parse_arch
    from cct_lightning.models.compact import CompactTransformer
    from cct_lightning.models.factory import create_model
    from cct_lightning.runs.result import RunResult
    from cct_lightning.training.module import Classifier
    from cct_lightning.training.optim import Optim

from cct_lightning.system.renamed import RenamedModules

# After all other finders: what exists under a name wins.
sys.meta_path.append(RenamedModules())

# Public name -> module. Imported at first use, so that `import cct_lightning` and `cct --help` need no torch.
_MODULES = {
    "Augment": "data.augment.augment",
    "Batch": "data.batch",
    "Classifier": "training.module",
    "CompactTransformer": "models.compact",
    "ImageDataModule": "data.datamodule",
    "InputError": "errors",
    "Optim": "training.optim",
    "RunResult": "runs.result",
    "compare": "comparison.compare",
    "create_model": "models.factory",
    "fit": "api",
    "parse_arch": "models.arch",
}
_PACKAGES = ("ablation", "analysis", "comparison", "config", "data", "models", "runs", "tracking", "training")

__all__ = [
    "Augment",
    "Batch",
    "Classifier",
    "CompactTransformer",
    "ImageDataModule",
    "InputError",
    "Optim",
    "RunResult",
    "compare",
    "create_model",
    "fit",
    "parse_arch",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return getattr(importlib.import_module(f"{__name__}.{_MODULES[name]}"), name)
    if name in _PACKAGES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*__all__, *_PACKAGES])

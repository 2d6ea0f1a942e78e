"""Modules of version 0.1 under their old names, for one release: each import warns and gives what the new one has."""

import importlib
import importlib.util
import warnings
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

# Old module -> new one or several, those that a notebook or a script of a user's may import.
RENAMED = {
    "cli": "commands.main config.recipes",
    "command": "commands.parser",
    "benchmark": "commands.benchmark",
    "explain": "commands.explain",
    "predict": "commands.predict",
    "image_files": "data.storage.image_files",
    "models.checkpoint": "models.weights.reader",
    "models.convert": "commands.convert",
    "models.download": "models.weights.download",
    "models.export": "commands.export",
    "models.pretrained": "models.weights.pretrained",
    "models.reference": "models.weights.reference",
    "models.summary": "models.complexity",
    "data.dataset": "data.batch",
    "data.mixing": "data.augment.mixup",
    "data.operations": "data.augment.operations",
    "data.policies": "data.augment.policies",
    "data.sources": "data.datasets.sources",
    "data.transform": "data.augment.transform",
    "training.ema": "training.callbacks.ema",
    "training.finetune": "training.optim.finetune training.callbacks.freeze",
    "training.muon": "training.optim.muon",
    "training.schedule": "training.optim.schedule",
    "training.seeding": "training.callbacks.seeding",
    "tracking.environment": "runs.environment",
    "tracking.loggers": "tracking.wandb_logger runs.metrics_csv config.tracking",
    "experiments": "comparison",
    "experiments.evidence": "comparison.evidence",
    "experiments.figures": "comparison.figures",
    "experiments.grid": "ablation.grid",
    "experiments.plan": "ablation.plan",
    "experiments.report": "commands.report",
    "experiments.runs": "comparison.runs",
    "experiments.statistics": "comparison.statistics",
    "experiments.tables": "comparison.tables",
    "experiments.variants": "comparison.variants",
    "experiments.wandb_runs": "comparison.wandb_runs",
}
_PACKAGE = "cct_lightning."


class RenamedModules(MetaPathFinder, Loader):
    """Finds a module under its old name."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return what loads a renamed module; None for any other."""
        if fullname.removeprefix(_PACKAGE) not in RENAMED or not fullname.startswith(_PACKAGE):
            return None
        return importlib.util.spec_from_loader(fullname, self, is_package=fullname == f"{_PACKAGE}experiments")

    def exec_module(self, module: ModuleType) -> None:
        """Warn, and let the module give what the new one has."""
        homes = [_PACKAGE + new for new in RENAMED[module.__name__.removeprefix(_PACKAGE)].split()]
        message = f"{module.__name__} is {' and '.join(homes)} now; the old name goes with the next release."
        warnings.warn(message, DeprecationWarning, stacklevel=2)

        def look_up(name: str) -> Any:
            for new in homes:
                if hasattr(found := importlib.import_module(new), name):
                    return getattr(found, name)
            raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")

        module.__dict__["__getattr__"] = look_up

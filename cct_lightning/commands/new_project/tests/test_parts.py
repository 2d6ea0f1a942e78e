"""The pooling computes what its docstring says, and trains."""

from pathlib import Path

import torch

import cct_lightning
from my_lab.parts import TopPool


def test_the_mean_of_the_largest_values() -> None:
    tokens = torch.tensor([[[1.0, 5.0], [3.0, 2.0], [2.0, 4.0]]])  # (B, N, D)
    assert TopPool(embed_dim=2, k=2)(tokens).tolist() == [[2.5, 4.5]]


def test_the_recipe_trains(tmp_path: Path) -> None:
    recipe = str(Path(__file__).parents[1] / "recipe.yaml")
    options = {"trainer.limit_train_batches": 4, "tracking.mode": "disabled", "model.optim.warmup_epochs": 0}
    result = cct_lightning.fit(recipe, max_epochs=1, run_dir=tmp_path / "run", options=options)
    assert 0 <= result.summary["test/acc"] <= 1

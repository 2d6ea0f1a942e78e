"""What options do, and everything that the comparison of `cct_lightning.compare` draws."""

from pathlib import Path

import pytest
from matplotlib.figure import Figure

import cct_lightning
from cct_lightning.comparison.effects import importance, main_effects
from cct_lightning.comparison.variants import Comparison
from cct_lightning.errors import InputError
from comparison.test_compare import done, write_run


@pytest.fixture
def grid(tmp_path: Path) -> Comparison:
    """A full grid where the model adds 0.2, the pooling 0.1 and the seed 0.02, without an interaction."""
    for a, arch in enumerate(("cct_2_3x1", "cvt_2_2")):
        for b, pool in enumerate(("mean", "max")):
            for seed in (0, 1):
                options = {"model__arch": arch, "model__pool": pool}
                score = 0.5 + 0.2 * a + 0.1 * b + 0.02 * seed
                write_run(tmp_path / f"{arch}{pool}{seed}", seed=seed, summary=done(score), **options)
    return cct_lightning.compare(tmp_path, by=["arch", "pool"])


def test_the_shares_of_the_variance_are_those_of_the_formula(grid: Comparison) -> None:
    total = 0.2**2 + 0.1**2 + 0.02**2
    shares = importance(grid)
    assert list(shares) == ["arch", "pool", "seed"]
    assert list(shares.values()) == pytest.approx([0.2**2 / total, 0.1**2 / total, 0.02**2 / total])


def test_main_effects_and_interactions_are_means_over_variants(grid: Comparison) -> None:
    assert main_effects(grid, "arch")["mean"].to_dict() == pytest.approx({"cct_2_3x1": 0.56, "cvt_2_2": 0.76})
    both = main_effects(grid, "arch", by="pool")
    assert both.loc["cvt_2_2"].to_dict() == pytest.approx({"mean": 0.71, "max": 0.81})


def test_values_that_interact_are_said(tmp_path: Path) -> None:
    for a, arch in enumerate(("cct_2_3x1", "cvt_2_2")):
        for b, pool in enumerate(("mean", "max")):
            write_run(tmp_path / f"{a}{b}", summary=done(0.5 + 0.1 * (a != b)), model__arch=arch, model__pool=pool)
    shares = importance(cct_lightning.compare(tmp_path, by=["arch", "pool"]))
    assert shares["interactions"] == pytest.approx(1)


@pytest.mark.parametrize(
    "what", ["results", "curves", "cost", "effects", "interaction", "importance", "parallel", "confusion"]
)
def test_every_figure_is_drawn(synthetic: Path, what: str) -> None:
    figure = cct_lightning.compare(synthetic, by=["tokenizer", "pool"]).plot(what)
    assert isinstance(figure, Figure)
    assert figure.axes[0].has_data()


def test_what_cannot_be_drawn_is_one_sentence(grid: Comparison) -> None:
    for what, key, message in (
        ("curve", None, "Did you mean 'curves'"),
        ("curves", None, "No run logged 'val/acc'"),
        ("cost", "memory_gb", "No run has 'memory_gb'"),
        ("interaction", "arch", "two of the options arch, pool"),
        ("confusion", None, "kept no test predictions"),
    ):
        with pytest.raises(InputError, match=message):
            grid.plot(what, key=key)


def test_a_notebook_shows_the_table(grid: Comparison) -> None:
    assert grid._repr_markdown_() == grid.markdown()
    assert grid.table["mean"].tolist() == pytest.approx([0.81, 0.71, 0.61, 0.51])

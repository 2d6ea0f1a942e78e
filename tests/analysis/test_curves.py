import pandas as pd
import pytest

from cct_lightning.analysis import curve, plot_curves, plot_results


def table(*values: float, key: str = "val/acc") -> pd.DataFrame:
    """A metrics.csv with a row of another metric between."""
    rows = [{"epoch": epoch, key: value} for epoch, value in enumerate(values)]
    return pd.DataFrame([row for pair in zip(rows, [{"epoch": r["epoch"]} for r in rows], strict=True) for row in pair])


def test_mean_and_deviation_over_runs() -> None:
    found = curve([table(0.5, 0.7), table(0.7, 0.9)], "val/acc")
    assert found["epoch"].tolist() == [1, 2]
    assert found["mean"].tolist() == pytest.approx([0.6, 0.8])
    assert found["std"].tolist() == pytest.approx([0.141421, 0.141421], abs=1e-5)
    assert curve(table(0.5), "val/acc")["std"].tolist() == [0]
    assert curve([table(0.5, key="val/loss")], "val/acc").empty


def test_an_epoch_that_was_begun_twice_counts_once() -> None:
    assert curve(pd.concat([table(0.1), table(0.5, 0.7)]), "val/acc")["mean"].tolist() == [0.5, 0.7]


def test_plot_curves() -> None:
    figure = plot_curves({"a": curve(table(0.5, 0.7), "val/acc")}, label="accuracy (%)", scale=100, chance=10)
    [ax] = figure.axes
    assert ax.lines[0].get_ydata().tolist() == pytest.approx([50, 70])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "guessing"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "accuracy (%)")


def test_plot_results() -> None:
    figure = plot_results({"pool=mean, lr=1": [0.5, 0.7], "none": [], "one": [0.6]}, label="accuracy (%)", scale=100)
    [ax] = figure.axes
    assert ax.collections[0].get_offsets()[:, 0].tolist() == pytest.approx([50, 70])
    assert [text.get_text() for text in ax.get_yticklabels()] == ["pool=mean\nlr=1", "none", "one"]
    assert ax.containers[0].lines[0].get_xdata().tolist() == pytest.approx([60])

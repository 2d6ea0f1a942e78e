import pytest

from cct_lightning.analysis import plot_stage_budget, stage_budget
from cct_lightning.models.complexity import budget
from cct_lightning.models.factory import create_model


@pytest.mark.parametrize("name", ["cct_7_3x1", "cvt_4_4", "vit_2_4_32_sine"])
def test_stages_add_up(name: str) -> None:
    net = create_model(name)
    table = stage_budget(net)
    assert list(table.index) == ["tokenizer", "position", "encoder", "pool", "head"]
    assert table["params"].sum() == sum(p.numel() for p in net.parameters() if p.requires_grad)
    cost = budget(net.arch)
    assert table["macs"].sum() == pytest.approx(cost.macs + cost.attention_macs, rel=1e-3)
    assert table["macs"]["position"] == 0


def test_size_changes_macs_alone() -> None:
    net = create_model("cct_2_3x1")
    small, large = stage_budget(net), stage_budget(net, img_size=(64, 64))
    assert (small["params"] == large["params"]).all()
    assert large["macs"]["tokenizer"] == 4 * small["macs"]["tokenizer"]


def test_plot() -> None:
    figure = plot_stage_budget(stage_budget(create_model("cct_7_3x1")))
    assert "MACs (total" in figure.axes[1].get_xlabel()

import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from cct_lightning.analysis import plot_reliability, reliability, reliability_of
from cct_lightning.errors import InputError


def test_bins_give_the_error(nets, digits) -> None:
    with torch.no_grad():
        logits = nets["cct"].eval()(digits.images)
    nets["cct"].train()
    result = reliability(logits, digits.labels, bins=10)
    full = result.count > 0
    assert int(result.count.sum()) == len(digits.labels)
    gap = (result.accuracy[full] - result.confidence[full]).abs() * result.count[full] / len(digits.labels)
    assert result.ece == pytest.approx(float(gap.sum()), abs=1e-5)
    expected = multiclass_calibration_error(logits.softmax(-1), digits.labels, num_classes=10, n_bins=10)
    assert result.ece == pytest.approx(float(expected), abs=1e-6)
    confidence, predicted = logits.softmax(-1).max(-1)
    again = reliability_of(confidence, predicted == digits.labels, bins=10)
    assert again.ece == result.ece
    assert again.count.tolist() == result.count.tolist()
    accuracy = float((logits.argmax(-1) == digits.labels).float().mean())
    weighted = (result.accuracy[full] * result.count[full]).sum() / result.count.sum()
    assert float(weighted) == pytest.approx(accuracy, abs=1e-5)


def test_known_cases() -> None:
    labels = torch.tensor([0, 1, 0, 1])
    sure = 100 * torch.nn.functional.one_hot(labels, 2).float()
    assert reliability(sure, labels).ece == pytest.approx(0, abs=1e-6)
    assert reliability(sure, 1 - labels).ece == pytest.approx(1, abs=1e-6)  # sure and always wrong
    assert reliability(sure, labels).count.tolist() == [0] * 14 + [4]


def test_bad_input() -> None:
    with pytest.raises(InputError, match=r"Expected logits \(B, K\) and labels \(B,\)"):
        reliability(torch.zeros(4, 2), torch.zeros(3, dtype=torch.long))


def test_plot(nets, digits) -> None:
    with torch.no_grad():
        figure = plot_reliability(reliability(nets["vit"](digits.images), digits.labels))
    assert "ECE" in figure.axes[0].get_title()
    assert "confidence" in figure.axes[0].get_xlabel()

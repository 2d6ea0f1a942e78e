import pytest
import torch

from cct_lightning.analysis import confusion_matrix, most_confused, plot_confusion
from cct_lightning.errors import InputError

LABELS = torch.tensor([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
PREDICTED = torch.tensor([0, 0, 1, 1, 1, 1, 0, 2, 2, 1])
NAMES = ["cat", "dog", "car"]


def test_counts() -> None:
    matrix = confusion_matrix(PREDICTED, LABELS, num_classes=3)
    assert matrix.tolist() == [[2, 2, 0], [1, 2, 0], [0, 1, 2]]
    logits = torch.nn.functional.one_hot(PREDICTED, 3).float()
    assert torch.equal(confusion_matrix(logits, LABELS, num_classes=3), matrix)


def test_most_confused() -> None:
    table = most_confused(confusion_matrix(PREDICTED, LABELS, num_classes=3), classes=NAMES)
    assert table.to_dict("records") == [
        {"class": "cat", "other": "dog", "mistakes": 3, "class_as_other": 2, "other_as_class": 1, "rate": 3 / 7},
        {"class": "dog", "other": "car", "mistakes": 1, "class_as_other": 0, "other_as_class": 1, "rate": 1 / 6},
    ]
    assert len(most_confused(torch.eye(3), classes=NAMES)) == 0
    with pytest.raises(InputError, match="does not fit 2 class names"):
        most_confused(torch.eye(3), classes=NAMES[:2])


@pytest.mark.parametrize("classes", [3, 100])
def test_plot(classes: int) -> None:
    matrix = torch.eye(classes)
    figure = plot_confusion(matrix, classes=[f"class {k}" for k in range(classes)])
    ticks = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert ("class 2" in ticks) == (classes == 3)

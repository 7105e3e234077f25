"""Measures on some of a model's classes, by hand."""

import pytest
import torch
from torch import nn

from notbugs.analysis import confidence, detection_aupr, max_softmax, natural
from notbugs.data import ImageData
from notbugs.models import wrap


class Reads(nn.Module):
    """The first five pixels, times 10, as logits."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return 10 * x.flatten(1)[:, :5]


def of(rows: list[list[float]], labels: list[int]) -> ImageData:
    images = torch.zeros(len(rows), 1, 3, 3)
    images.flatten(1)[:, :5] = torch.tensor(rows)
    return ImageData(images, torch.tensor(labels), tuple("abcde"), "some")


MODEL = wrap(Reads(), shape=(1, 3, 3), classes=5)
# Classes 1 and 3. Right; right among the two alone; wrong; right.
DATA = of(
    [[0, 0.9, 0, 0.1, 0], [1, 0.6, 0, 0, 0], [0, 0.9, 0, 0.5, 0], [0, 0, 0, 0.7, 0.1]],
    [1, 1, 3, 3],
)
OUTLIERS = of([[1, 0, 0, 0, 0], [0.2, 0.2, 0.2, 0.2, 0.2]], [0, 0]).pixels()


def test_accuracy_is_among_the_classes_of_the_set_and_among_all() -> None:
    found = natural(MODEL, DATA)
    assert (found.among, found.all) == (75.0, 50.0)
    more = natural(MODEL, DATA, classes=(0, 1, 3))
    assert (more.among, more.all) == (50.0, 50.0)


def test_confidence_is_among_the_classes_of_the_set() -> None:
    found = natural(MODEL, DATA)
    sure = torch.sigmoid(torch.tensor([8.0, 6.0, 4.0, 7.0]))  # of two classes: their difference
    assert found.calibration == pytest.approx(100 * abs(0.75 - float(sure.mean())), abs=1e-4)
    assert found.aurra == pytest.approx(100 * (1 + 1 + 1 + 0.75) / 4)


def test_outliers_are_found_by_the_probability_among_all_classes() -> None:
    sure = confidence(MODEL, OUTLIERS, batch_size=1)
    torch.testing.assert_close(sure, max_softmax(MODEL(OUTLIERS)))
    # One outlier of which the model is surest, and one of which it is least sure.
    inside = confidence(MODEL, DATA.pixels())
    assert float(sure[0]) > float(inside.max())
    assert detection_aupr(-sure, -inside) == pytest.approx(100 * (1 / 1 + 2 / 6) / 2)


def test_ties_are_no_answer() -> None:
    tied = of([[0, 0.5, 0, 0.5, 0]], [1])
    assert natural(MODEL, tied, classes=(1, 3)).among == 0.0


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="`classes` must hold all classes of the images"):
        natural(MODEL, DATA, classes=(0, 1))
    with pytest.raises(ValueError, match="`batch_size`"):
        natural(MODEL, DATA, batch_size=0)

"""Votes of known images."""

import pytest
import torch

from notbugs.analysis import neighbours
from notbugs.data import load_source, split


def test_votes_are_counted_by_correlation() -> None:
    a = torch.tensor([1.0, 0, 0, 0]).reshape(1, 1, 2, 2)
    b = torch.tensor([0, 0, 0, 1.0]).reshape(1, 1, 2, 2)
    known, labels = torch.cat([a, a, b, b, b]), torch.tensor([2, 2, 0, 0, 0])
    dim = 0.4 + 0.1 * a  # contrast and brightness do not count
    assert neighbours(torch.cat([dim, b]), known, labels, classes=3, k=2).tolist() == [2, 0]
    assert neighbours(dim, known, labels, classes=3, k=5).tolist() == [0]  # three votes to two
    assert neighbours(dim, known[:4], labels[:4], classes=3, k=4).tolist() == [2]  # a tie


def test_digits_are_told_by_their_neighbours() -> None:
    parts = split(load_source("digits"), seed=0)
    said = neighbours(parts.test.pixels(), parts.train.pixels(), parts.train.labels, classes=10)
    assert float((said == parts.test.labels).float().mean()) > 0.95


def test_bad_input() -> None:
    x, y = torch.rand(4, 1, 3, 3), torch.tensor([0, 1, 0, 1])
    with pytest.raises(ValueError, match="`k` must not exceed the number of known images, 4"):
        neighbours(x, x, y, classes=2, k=5)
    with pytest.raises(ValueError, match="`images` must have shape"):
        neighbours(x[..., 1:], x, y, classes=2, k=1)
    with pytest.raises(ValueError, match="`labels`"):
        neighbours(x, x, y, classes=1, k=1)

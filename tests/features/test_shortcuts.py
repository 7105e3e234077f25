"""Marks of one norm, orthogonal, that tell the class they are told to."""

import pytest
import torch

from notbugs.analysis import high_frequency_share
from notbugs.core import random
from notbugs.data import load_source, split
from notbugs.data.planted import pointed_to
from notbugs.features import Shortcut
from notbugs.features.shortcuts import KINDS, halved

DIGITS = split(load_source("digits"), seed=0).test


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_marks_have_their_norm_and_are_orthogonal(kind: str, shape: tuple[int, int, int]) -> None:
    marks = Shortcut(kind, 0.7).marks(10, shape)
    assert marks.shape == (10, *shape)
    products = marks.flatten(1) @ marks.flatten(1).T
    torch.testing.assert_close(products, 0.49 * torch.eye(10), atol=1e-5, rtol=0)


def test_kinds_differ_in_frequency() -> None:
    low, high = (Shortcut(of).marks(10, (1, 16, 16)) for of in ("shading", "fine"))
    # A slope jumps where the image's edges meet, which the Fourier transform counts as high.
    assert float(high_frequency_share(low).max()) < 0.25
    assert float(high_frequency_share(high).min()) > 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_planted_images_differ_by_the_mark_alone(kind: str) -> None:
    shortcut, pointed = Shortcut(kind, 0.5), (DIGITS.labels + 3) % 10
    made = shortcut.planted(DIGITS, pointed)
    change = made.images - halved(DIGITS.pixels())
    assert torch.equal(made.labels, DIGITS.labels)
    assert torch.equal(made.columns["pointed"], pointed)
    torch.testing.assert_close(change.flatten(1).norm(dim=1), made.columns["distance"])
    assert float(made.columns["distance"].max()) <= 0.5 + 1e-5
    assert float(made.columns["distance"].mean()) > 0.49
    scores = change.flatten(1) @ shortcut.marks(10, DIGITS.shape).flatten(1).T
    assert torch.equal(scores.argmax(dim=1), pointed)


def test_marks_agree_with_the_label_as_often_as_asked() -> None:
    labels = torch.arange(5000) % 10
    keys = random.row_keys(5000, "agree")
    for agreement in (0.0, 0.9, 1.0):
        pointed = pointed_to(labels, keys, classes=10, agreement=agreement)
        share = float((pointed == labels).double().mean())
        assert share == pytest.approx(agreement, abs=0.0 if agreement in (0, 1) else 0.02)
    others = (pointed_to(labels, keys, classes=10, agreement=0.0) - labels) % 10
    assert int(torch.bincount(others, minlength=10)[1:].min()) > 450


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="Did you mean 'patch'"):
        Shortcut("patches")
    with pytest.raises(ValueError, match="`norm` must be"):
        Shortcut(norm=0.0)
    with pytest.raises(ValueError, match="`classes` must be at most 15 on images of 8 by 8"):
        Shortcut("patch").marks(16, (1, 8, 8))
    with pytest.raises(ValueError, match="`pointed`"):
        Shortcut().planted(DIGITS, DIGITS.labels + 5)

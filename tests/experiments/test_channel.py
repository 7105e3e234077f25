"""Destruction rates, transformations, and the measurements of first-order steps."""

import math

import pytest
import torch

from notbugs.core import random
from notbugs.data import load_source
from notbugs.experiments import directions, linearity
from notbugs.experiments.channel import TRANSFORMATIONS, destruction, in_top
from notbugs.experiments.data_views import Resized, TwoClasses
from notbugs.experiments.experiment import Work
from notbugs.experiments.first_order import _by_chance
from notbugs.experiments.linearity import GaussianGain
from notbugs.experiments.shared import digest_of
from notbugs.store import Store

IMAGES = random.uniform(random.row_keys(6, "channel"), (3, 9, 9))
KEYS = random.row_keys(6, "noise")


def logits(*classes: int) -> torch.Tensor:
    return 5 * torch.nn.functional.one_hot(torch.tensor(classes), 3).float()


def test_the_destruction_rate_is_its_formula() -> None:
    y = torch.tensor([0, 0, 0, 0, 1])
    before, adversarial = logits(0, 0, 0, 1, 1), logits(1, 1, 0, 1, 0)
    after = logits(0, 1, 0, 0, 0)  # of the three that count the first is right again
    assert destruction(before, adversarial, after, y, 1) == pytest.approx(100 / 3)
    assert destruction(before, before, after, y, 1) is None
    unsure = before.clone()
    unsure[0] *= 0.01
    assert destruction(unsure, adversarial, after, y, 1, sure=True) == 0
    assert in_top(before, y, 3).all()


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_transformations_stay_in_the_box_and_do_what_they_say(name: str) -> None:
    amount = {"contrast": 0.5, "JPEG": 30.0, "blur": 1.5}.get(name, 20.0)
    changed = TRANSFORMATIONS[name](IMAGES, amount, KEYS)
    assert changed.shape == IMAGES.shape
    assert float(changed.min()) >= 0
    assert float(changed.max()) <= 1
    assert not torch.equal(changed, IMAGES)
    alone = TRANSFORMATIONS[name](IMAGES[2:3], amount, KEYS[2:3])
    torch.testing.assert_close(alone, changed[2:3])
    if name == "brightness":
        torch.testing.assert_close(changed, (IMAGES + 20 / 255).clamp(max=1))
    if name == "blur":
        assert float(changed.std()) < 0.5 * float(IMAGES.std())
        flat = torch.full((1, 3, 9, 9), 0.3)
        torch.testing.assert_close(TRANSFORMATIONS[name](flat, amount, KEYS[:1]), flat)
    if name == "JPEG":
        finer = TRANSFORMATIONS[name](IMAGES, 95, KEYS)
        assert float((finer - IMAGES).abs().mean()) < float((changed - IMAGES).abs().mean())


def test_chance_is_the_agreement_of_shuffled_mistakes() -> None:
    a = torch.tensor([1, 1, 2, 2, 0, 0])
    b = torch.tensor([1, 2, 1, 2, 0, 0])
    true = torch.tensor([0, 0, 0, 0, 1, 1])
    assert _by_chance(a, b, true, 3) == pytest.approx((0.5 * 4 + 1.0 * 2) / 6)


def test_directions_near_a_gradient_are_orthonormal_and_equally_near() -> None:
    g = torch.randn(20, generator=torch.Generator().manual_seed(0))
    for k in (1, 2, 5):
        drawn = random.normal(random.row_keys(1, k), (k - 1, 20))[0]
        near = directions._near(g, drawn)
        torch.testing.assert_close(near @ near.T, torch.eye(k), atol=1e-5, rtol=0)
        cosines = near @ g / g.norm()
        torch.testing.assert_close(cosines, torch.full((k,), k**-0.5), atol=1e-5, rtol=0)


def test_pieces_and_lines_of_a_kinked_function() -> None:
    t = torch.linspace(-10, 10, 401)
    kinked = torch.stack([t.abs(), 3 * t, (t - 4).relu() + (t + 4).relu()], dim=1)[None]
    assert linearity._pieces(kinked)[0].tolist() == [2, 1, 3]
    assert float(linearity._linearity(t, kinked[:, :, :2])) == pytest.approx(1.0)
    assert float(linearity._linearity(t, torch.sin(3 * t)[None, :, None])) < 0.1


def test_one_wrong_class_from_eps_on_is_held() -> None:
    t = torch.linspace(-10, 10, 401)
    right = torch.where(t < 0.2, 1.0, -1.0)
    held = torch.stack([right, torch.zeros(401), torch.full((401,), -2.0)], dim=1)
    broken = held.clone()
    broken[t > 5, 2] = 3.0  # another wrong class
    y = torch.tensor([0, 0])
    share, reach = linearity._held(t, torch.stack([held, broken]), y, 0.25)
    assert share == 50
    assert reach == pytest.approx((9.85 + 5.0) / 2, abs=0.3)


def test_the_gain_of_gaussian_classes_grows_with_the_root_of_the_dimension(tmp_path) -> None:
    work = Work(tmp_path, Store(tmp_path / "store"))
    small, large = (GaussianGain(n, 0, 0.01, 2000).measure(work) for n in (16, 256))
    assert small["gain"] is not None
    assert large["gain"] == pytest.approx(4 * small["gain"], rel=0.05)
    assert large["gain_random"] == pytest.approx(small["gain_random"], rel=0.15)
    error = 100 * 0.5 * math.erfc(2 / math.sqrt(2))
    assert small["test_error"] == pytest.approx(error, abs=1)


def test_views_of_a_split(tmp_path) -> None:
    work, source = Work(tmp_path, Store(tmp_path / "store")), load_source("digits")
    digest = digest_of(source)
    large = Resized("digits", digest, 0, 400, 100, side=16).splits(work)
    assert large.train.shape == (1, 16, 16)
    pair = TwoClasses("digits", digest, 0, 400, 100, pair=(3, 7)).splits(work)
    assert pair.test.class_names == ("3", "7")
    whole = Resized("digits", digest, 0, 400, 100, side=8).splits(work)
    assert int((pair.train.labels == 1).sum()) == int((whole.train.labels == 7).sum())

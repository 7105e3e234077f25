"""What no tolerance may hide from an attack, and what is neither broken nor right."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from attacks.catalogue import ATTACKS, TARGETED_ONLY
from nets import PARTS, digits_net, small_net
from notbugs.attacks import pgd
from notbugs.core import random
from notbugs.engine import Linf, Threat
from notbugs.judge import accuracy, evaluate, evaluation_pgd
from notbugs.models import wrap

THREAT = Threat.parse("linf:0.2")
N = 40
DATA = PARTS.test.select(slice(0, N))
X, Y = DATA.pixels(), DATA.labels


class Changed(nn.Module):
    """A net with its logits changed."""

    def __init__(self, body, change) -> None:
        super().__init__()
        self.body, self.change = body, change

    def forward(self, x):
        return self.change(self.body(x))


def changed(change, classes=10):
    body = digits_net().body
    return wrap(Changed(body, change), shape=(1, 8, 8), classes=classes, embedding="body.trunk")


def masked(value, extra=2):
    return lambda z: torch.cat([z, z.new_full((len(z), extra), value)], dim=1)


@pytest.mark.parametrize("name", ATTACKS)
def test_masked_classes_hide_no_success(name) -> None:
    """Not of a single attack: what falls is what falls on the net without such classes."""
    model, x, y = small_net(6)
    wide = wrap(Changed(model.body, masked(-1e9)), shape=(1, 8, 8), classes=7, embedding="body")
    given = {"targets": (y + 1) % 5} if name in TARGETED_ONLY else {"y": y}
    keys = random.row_keys(6, "masked")
    plain, many = (ATTACKS[name](m, x, **given, keys=keys, fast=False) for m in (model, wide))
    assert not (plain.success & ~many.success).any()


@pytest.mark.parametrize("value", [-1e3, -1e6, -1e9])
def test_the_evaluation_sees_past_masked_classes(value) -> None:
    plain = evaluate(digits_net(), DATA, THREAT, attacks=[evaluation_pgd(THREAT)])
    data = replace(DATA, class_names=(*DATA.class_names, "unused", "too"))
    found = evaluate(changed(masked(value), 12), data, THREAT, attacks=[evaluation_pgd(THREAT)])
    assert found.clean_accuracy == plain.clean_accuracy
    assert found.robust_accuracy == plain.robust_accuracy < 50


@pytest.mark.parametrize("offset", [-1e4, 1e4])
def test_an_offset_common_to_all_logits_hides_no_success(offset) -> None:
    attack = evaluation_pgd(Threat.parse("linf:0.1"))
    plain, moved = attack(digits_net(), X, Y), attack(changed(lambda z: z + offset), X, Y)
    assert 0 < int(plain.success.sum()) < N
    assert abs(int(moved.robust.sum()) - int(plain.robust.sum())) <= 1


def saturated(z):
    """Where two classes are sure, both are exactly 1."""
    return torch.sigmoid(10 * (z - 3))


@pytest.fixture(scope="module")
def tied_model():
    with pytest.warns(UserWarning, match="look like probabilities"):
        return changed(saturated)


def test_an_image_whose_label_shares_the_top_is_not_right(tied_model) -> None:
    with torch.no_grad():
        z = tied_model.logits(X)
    shares = (z == z.amax(dim=1, keepdim=True)).sum(dim=1) > 1
    own = z.gather(1, Y[:, None])[:, 0] == z.amax(dim=1)
    assert int((shares & own).sum()) > 0  # else nothing is tested here
    assert accuracy(tied_model, DATA) == pytest.approx(100 * float((own & ~shares).float().mean()))


def test_an_image_that_ends_tied_does_not_stand_and_is_counted(tied_model) -> None:
    attack = pgd(Linf(), 0.2, steps=20, random_start=False)
    found = attack(tied_model, X, Y)
    with torch.no_grad():
        z = tied_model.logits(found.x_adv)
    alone = (z == z.amax(dim=1, keepdim=True)).sum(dim=1) == 1
    right = alone & (z.argmax(dim=1) == Y)
    assert int(found.within_rounding.sum()) > 0
    assert not bool((found.success & found.within_rounding).any())
    assert torch.equal(found.robust, right & ~found.already_wrong)
    verdict = evaluate(tied_model, DATA, THREAT, attacks=[attack])
    numbers = verdict.as_json()
    assert numbers["within_rounding"] == int(verdict.within_rounding.sum()) > 0
    broken = sum(attack.broken for attack in verdict.attacks)
    assert int(verdict.right.sum()) - broken - numbers["within_rounding"] == int(
        verdict.robust.sum()
    )


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_logits_that_are_not_finite_are_told_apart_and_counted(value) -> None:
    """A net that breaks down close to its boundaries."""

    def breaks(z):
        top = z.topk(2, dim=1).values
        return torch.where((top[:, :1] - top[:, 1:]).abs() < 0.5, value, z)

    model = changed(lambda z: z)
    model.body.change = breaks  # `wrap` tries a grey image, which lies there
    with torch.no_grad():
        keep = model.logits(X).isfinite().all(dim=1).nonzero()[:, 0]
    data = DATA.select(keep)
    found = evaluation_pgd(THREAT)(model, data.pixels(), data.labels)
    with torch.no_grad():
        finite = model.logits(found.x_adv).isfinite().all(dim=1)
    assert found.non_finite_points > 0
    assert torch.equal(found.non_finite, ~finite)
    assert not bool((found.success & found.non_finite).any())
    verdict = evaluate(model, data, THREAT, attacks=[evaluation_pgd(THREAT)])
    fired = {line["check"]: line["verdict"] for line in verdict.masking}
    assert fired["finite logits"] == "suspicious"
    assert not bool((verdict.robust & verdict.non_finite).any())

"""Laws that every attack obeys; a new attack joins by one line in `attacks.catalogue`."""

from dataclasses import FrozenInstanceError

import pytest
import torch

from attacks.catalogue import ATTACKS, TARGETED_ONLY
from notbugs import attacks
from notbugs.core import random
from notbugs.engine import Linf, Trace
from notbugs.models import build

N, CLASSES = 12, 5
EACH = pytest.mark.parametrize("name", ATTACKS)


@pytest.fixture(scope="module")
def model_and_images():
    """A small net in float64, whose rounding hides nothing, images, and what it says."""
    model = build(
        "cnn", shape=(1, 8, 8), classes=CLASSES, seed=1, options={"width": 4, "hidden": 8}
    )
    model = model.double().eval()
    x = random.uniform(random.row_keys(N, "laws"), (1, 8, 8), torch.float64)
    with torch.no_grad():
        model.body.head.bias.sub_(model.logits(x).mean(dim=0))
        y = model.logits(x).argmax(dim=1)
    y[0] = (y[0] + 1) % CLASSES  # one that is wrong from the start
    return model, x, y


def run(name, model, x, y, keys):
    attack = ATTACKS[name]
    if name in TARGETED_ONLY:
        return attack(model, x, targets=(y + 1) % CLASSES, keys=keys), (y + 1) % CLASSES
    return attack(model, x, y, keys=keys), None


@EACH
def test_what_is_reported_is_what_the_model_says(name, model_and_images) -> None:
    model, x, y = model_and_images
    before = [p.clone() for p in model.parameters()]
    found, targets = run(name, model, x, y, random.row_keys(N, "a"))
    with torch.no_grad():
        said = model.logits(found.x_adv).argmax(dim=1)
    assert torch.equal(found.success, said != y if targets is None else said == targets)
    measured = ATTACKS[name].measured(found.x_adv, x)
    torch.testing.assert_close(found.distance.double(), measured.double())
    assert bool((ATTACKS[name].within().violation(found.x_adv, x) <= 1e-6).all())
    assert 0 <= float(found.x_adv.min()) <= float(found.x_adv.max()) <= 1
    if ATTACKS[name].threat is not None:
        assert float(found.distance.max()) <= ATTACKS[name].threat.eps * (1 + 1e-6)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert found.forwards >= N


@EACH
def test_a_row_does_not_depend_on_its_neighbours(name, model_and_images) -> None:
    model, x, y = model_and_images
    keys = random.row_keys(N, "b")
    whole, _ = run(name, model, x, y, keys)
    order = torch.tensor([7, 2, 11, 0, 5, 9, 1, 3, 10, 4, 8, 6])
    for part in order.split(5):
        some, _ = run(name, model, x[part], y[part], keys[part])
        torch.testing.assert_close(some.x_adv, whole.x_adv[part], rtol=0, atol=1e-6)
        assert torch.equal(some.success, whole.success[part])


@EACH
def test_the_same_keys_give_the_same_bits(name, model_and_images) -> None:
    model, x, y = model_and_images
    first, _ = run(name, model, x[:4], y[:4], random.row_keys(4, "c"))
    second, _ = run(name, model, x[:4], y[:4], random.row_keys(4, "c"))
    assert torch.equal(first.x_adv, second.x_adv)


@EACH
def test_a_row_that_is_wrong_already_needs_no_distance(name, model_and_images) -> None:
    model, x, y = model_and_images
    attack = ATTACKS[name]
    if not attack.is_minimum_norm or name in TARGETED_ONLY:
        pytest.skip("only a minimum-norm method looks for the nearest")
    found, _ = run(name, model, x, y, random.row_keys(N, "d"))
    assert bool(found.already_wrong[0])
    assert bool(found.success[0])
    assert float(found.distance[0]) == 0


@EACH
def test_settings_are_frozen_and_print(name) -> None:
    attack = ATTACKS[name]
    assert attack.name in repr(attack)
    with pytest.raises(FrozenInstanceError):
        attack.name = "other"


@EACH
def test_every_step_can_be_traced_or_the_method_says_why_not(name, model_and_images) -> None:
    model, x, y = model_and_images
    attack, keys, trace = ATTACKS[name], random.row_keys(N, "e"), Trace()
    targets = (y + 1) % CLASSES if name in TARGETED_ONLY else None
    named = None if name in TARGETED_ONLY else y
    plain = attack(model, x, named, targets=targets, keys=keys, fast=False)
    if not attack.requirements.observable:
        with pytest.raises(ValueError, match=r"`observe` must be left out for .*loop of its own"):
            attack(model, x, named, targets=targets, keys=keys, observe=trace)
        return
    found = attack(model, x, named, targets=targets, keys=keys, fast=False, observe=trace)
    assert torch.equal(found.x_adv, plain.x_adv)  # looking on changes nothing
    reached = torch.zeros(N, dtype=torch.bool)
    for run in trace.runs:
        assert run.values.shape == run.reached.shape == (run.max_steps + 1, len(run.rows))
        reached[run.rows] |= run.reached[-1]
    traced = torch.cat([run.rows for run in trace.runs]).unique()
    needed = torch.arange(N) if attack.threat is not None else (~found.already_wrong).nonzero()
    assert set(needed.flatten().tolist()) <= set(traced.tolist())
    assert torch.equal(reached[traced], found.success[traced])


def test_restarts_are_traced_apart_by_the_places_of_their_rows(model_and_images) -> None:
    model, x, y = model_and_images
    attack, keys, trace = (
        attacks.pgd(Linf(), 0.05, steps=5, restarts=3),
        random.row_keys(N),
        Trace(),
    )
    first = attacks.pgd(Linf(), 0.05, steps=5)(model, x, y, keys=keys, fast=False)
    attack(model, x, y, keys=keys, fast=False, observe=trace)
    assert trace.runs[0].rows.tolist() == list(range(N))
    assert 0 < len(trace.runs[1].rows) < N
    assert trace.runs[1].rows.tolist() == (~first.success).nonzero()[:, 0].tolist()
    later = set(trace.runs[2].rows.tolist()) if len(trace.runs) > 2 else set()
    assert later <= set(trace.runs[1].rows.tolist())

"""Laws that every attack obeys; a new attack joins by one line in `attacks.catalogue`."""

from dataclasses import FrozenInstanceError

import pytest
import torch

from attacks.catalogue import ATTACKS, TARGETED_ONLY
from notbugs.core import random
from notbugs.models import build

N, CLASSES = 12, 5
EACH = pytest.mark.parametrize("name", ATTACKS)


@pytest.fixture(scope="module")
def scene():
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
def test_what_is_reported_is_what_the_model_says(name, scene):
    model, x, y = scene
    before = [p.clone() for p in model.parameters()]
    found, targets = run(name, model, x, y, random.row_keys(N, "a"))
    with torch.no_grad():
        said = model.logits(found.x_adv).argmax(dim=1)
    assert torch.equal(found.success, said != y if targets is None else said == targets)
    size = ATTACKS[name].size
    torch.testing.assert_close(found.distance.double(), size.size(found.x_adv - x).double())
    assert 0 <= float(found.x_adv.min()) <= float(found.x_adv.max()) <= 1
    if ATTACKS[name].threat is not None:
        assert float(found.distance.max()) <= ATTACKS[name].threat.eps * (1 + 1e-6)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert all(p.requires_grad and p.grad is None for p in model.parameters())
    assert found.forwards >= N


@EACH
def test_a_row_does_not_depend_on_its_neighbours(name, scene):
    model, x, y = scene
    keys = random.row_keys(N, "b")
    whole, _ = run(name, model, x, y, keys)
    order = torch.tensor([7, 2, 11, 0, 5, 9, 1, 3, 10, 4, 8, 6])
    for part in order.split(5):
        some, _ = run(name, model, x[part], y[part], keys[part])
        torch.testing.assert_close(some.x_adv, whole.x_adv[part], rtol=0, atol=1e-6)
        assert torch.equal(some.success, whole.success[part])


@EACH
def test_the_same_keys_give_the_same_bits(name, scene):
    model, x, y = scene
    first, _ = run(name, model, x[:4], y[:4], random.row_keys(4, "c"))
    second, _ = run(name, model, x[:4], y[:4], random.row_keys(4, "c"))
    assert torch.equal(first.x_adv, second.x_adv)


@EACH
def test_a_row_that_is_wrong_already_needs_no_distance(name, scene):
    model, x, y = scene
    attack = ATTACKS[name]
    if attack.threat is not None or name in TARGETED_ONLY:
        pytest.skip("only a minimum-norm method looks for the nearest")
    found, _ = run(name, model, x, y, random.row_keys(N, "d"))
    assert bool(found.already_wrong[0])
    assert bool(found.success[0])
    assert float(found.distance[0]) == 0


@EACH
def test_settings_are_frozen_and_print(name):
    attack = ATTACKS[name]
    assert attack.name in repr(attack)
    with pytest.raises(FrozenInstanceError):
        attack.name = "other"

"""Laws that every attack obeys; a new attack joins by one line in ATTACKS."""

from dataclasses import FrozenInstanceError

import pytest
import torch

from notbugs import attacks
from notbugs.core import random
from notbugs.engine import L0, L1, L2, Linf, Trace
from notbugs.models import build

N, CLASSES = 12, 5

ATTACKS = {
    "fgsm linf": attacks.fgsm(0.05),
    "fgsm l2": attacks.fgsm(0.2, norm=L2()),
    "pgd linf": attacks.pgd(Linf(), 0.05, steps=5, restarts=2),
    "pgd l2": attacks.pgd(L2(), 0.2, steps=5),
    "pgd l1": attacks.pgd(L1(), 0.5, steps=5),
    "pgd margin": attacks.pgd(Linf(), 0.05, steps=5, loss=attacks.margin),
    "pgd dlr": attacks.pgd(Linf(), 0.05, steps=5, loss=attacks.dlr),
    "bim": attacks.bim(8 / 255),
    "mim": attacks.mim(Linf(), 0.05, 5),
    "di": attacks.di_fgsm(Linf(), 0.05, 5),
    "ti": attacks.ti_fgsm(Linf(), 0.05, 5),
    "apgd linf": attacks.apgd(Linf(), 0.05, steps=12),
    "apgd l2": attacks.apgd(L2(), 0.2, steps=12, restarts=2),
    "apgd dlr": attacks.apgd(L2(), 0.2, steps=12, loss=attacks.dlr),
    "apgd l1": attacks.apgd_l1(0.5, steps=12),
    "apgd targeted": attacks.apgd_targeted(Linf(), 0.05, steps=8, targets_tried=3),
    "fab linf": attacks.fab(Linf(), 0.05, steps=8, targets_tried=3),
    "fab l2": attacks.fab(L2(), steps=8, targets_tried=3),
    "fab l1": attacks.fab(L1(), steps=8, targets_tried=0),
    "square linf": attacks.square(Linf(), 0.05, steps=15),
    "square l2": attacks.square(L2(), 0.2, steps=15),
    "square l1": attacks.square(L1(), 0.5, steps=15),
    "ddn": attacks.ddn(15),
    "fmn l0": attacks.fmn(L0(), 15),
    "fmn l1": attacks.fmn(L1(), 15),
    "fmn l2": attacks.fmn(L2(), 15),
    "fmn linf": attacks.fmn(Linf(), 15),
    "alma": attacks.alma(20),
    "ead": attacks.ead(8, search_steps=3),
    "cw l2": attacks.cw_l2(8, search_steps=3),
    "cw linf": attacks.cw_linf(8),
    "cw l0": attacks.cw_l0(8),
    "deepfool l2": attacks.deepfool(L2(), steps=8),
    "deepfool linf": attacks.deepfool(Linf(), steps=8),
    "jsma": attacks.jsma(),
    "lbfgs": attacks.lbfgs(10, search_steps=4),
    "hop skip jump": attacks.hop_skip_jump(L2(), steps=2, draws=20),
}
TARGETED_ONLY = {"jsma"}
"""Methods that aim at a class; elsewhere targets are optional."""

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


@EACH
def test_every_step_can_be_traced_or_the_method_says_why_not(name, scene):
    model, x, y = scene
    attack, keys, trace = ATTACKS[name], random.row_keys(N, "e"), Trace()
    targets = (y + 1) % CLASSES if name in TARGETED_ONLY else None
    named = None if name in TARGETED_ONLY else y
    plain = attack(model, x, named, targets=targets, keys=keys, fast=False)
    if not attack.can_be_observed:
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


def test_restarts_are_traced_apart_by_the_places_of_their_rows(scene):
    model, x, y = scene
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

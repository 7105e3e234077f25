"""Attacks against closed forms, and the contracts every attack keeps."""

import pytest
import torch
from torch import nn

from notbugs.attacks import fgsm, pgd
from notbugs.core import random
from notbugs.engine import L2, NORMS, Linf
from notbugs.models import build, wrap

EACH_NORM = pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))
METHODS = {
    "fgsm": fgsm,
    "pgd": lambda norm, eps: pgd(norm, eps, steps=20),
    "pgd-stop": lambda norm, eps: pgd(norm, eps, steps=20, stop_on_success=True),
    "pgd-restarts": lambda norm, eps: pgd(norm, eps, steps=5, restarts=3),
}
EACH = pytest.mark.parametrize("method", METHODS.values(), ids=list(METHODS))


def linear(seed=0, classes=2):
    layer = nn.Linear(9, classes, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(classes, 9, generator=random.generator(seed, "w")) * 3)
    module = nn.Sequential(nn.Flatten(), layer)
    return wrap(module, shape=(1, 3, 3), classes=classes, embedding="0")


def grey(n, seed=0):
    """Images near the middle of the box, so that it does not matter."""
    return 0.5 + 0.1 * (random.uniform(random.row_keys(n, seed), (1, 3, 3)) - 0.5)


@EACH_NORM
@pytest.mark.parametrize("name", ["fgsm", "pgd"])
def test_on_a_linear_model_success_is_eps_above_the_margin(norm, name) -> None:
    model, x = linear(), grey(200)
    with torch.no_grad():
        logits = model.logits(x)
    y = logits.argmax(dim=1)
    w = model.body[1].weight.detach()
    direction = (w[1] - w[0]).reshape(1, 1, 3, 3)
    distance = (logits[:, 0] - logits[:, 1]).abs() / norm.dual(direction)
    eps = float(distance.median())
    found = METHODS[name](norm, eps)(model, x, y)
    # PGD from a random start ends within a few percent of the ball's best point.
    sure = (distance - eps).abs() > (1e-4 if name == "fgsm" else 0.05 * eps)
    assert torch.equal(found.success[sure], (distance < eps)[sure])
    assert 30 < found.attack_success_rate < 70


@EACH_NORM
@EACH
def test_what_is_reported_is_what_the_model_says(norm, method) -> None:
    model, x = linear(classes=4), grey(40, 1)
    y = torch.arange(40) % 4
    found = method(norm, 0.1)(model, x, y)
    with torch.no_grad():
        said = model.logits(found.x_adv).argmax(dim=1)
        clean = model.logits(x).argmax(dim=1)
    assert torch.equal(found.success, said != y)
    assert torch.equal(found.already_wrong, clean != y)
    assert bool((found.distance <= 0.1 + 1e-6).all())
    torch.testing.assert_close(found.distance, norm.size(found.x_adv - x))
    assert float(found.x_adv.min()) >= 0
    assert float(found.x_adv.max()) <= 1
    robust = float(((said == y) & (clean == y)).float().mean())
    assert found.robust_accuracy == pytest.approx(100 * robust)


@EACH_NORM
@EACH
def test_rows_do_not_depend_on_their_neighbours(norm, method) -> None:
    model = build("cnn", shape=(1, 8, 8), classes=5, seed=0, options={"width": 4, "hidden": 8})
    keys = random.row_keys(24, "rows")
    x, y = random.uniform(keys, (1, 8, 8)), torch.arange(24) % 5
    whole = method(norm, 0.05)(model, x, y, keys=keys)
    order = torch.randperm(24, generator=random.generator("order"))
    for half in order.chunk(2):
        part = method(norm, 0.05)(model, x[half], y[half], keys=keys[half])
        torch.testing.assert_close(part.x_adv, whole.x_adv[half], atol=1e-5, rtol=0)
        assert torch.equal(part.success, whole.success[half])


def test_targeted_attacks_reach_the_target_and_may_aim_at_the_truth_alone() -> None:
    model, x = linear(classes=4), grey(40, 2)
    with torch.no_grad():
        said = model.logits(x).argmax(dim=1)
    targets = (said + 1) % 4
    found = pgd(L2(), 2.0, steps=40)(model, x, said, targets=targets)
    assert found.attack_success_rate > 90
    with torch.no_grad():
        assert torch.equal(model.logits(found.x_adv).argmax(dim=1) == targets, found.success)
    alone = pgd(L2(), 0.1)(model, x, targets=said)
    assert alone.attack_success_rate == 100


def test_same_seed_same_bits_and_more_restarts_never_lose() -> None:
    model, x = linear(classes=4), grey(60, 3)
    y = torch.arange(60) % 4
    one = pgd(Linf(), 0.03, steps=3)(model, x, y, seed=5)
    again = pgd(Linf(), 0.03, steps=3)(model, x, y, seed=5)
    assert torch.equal(one.x_adv, again.x_adv)
    more = pgd(Linf(), 0.03, steps=3, restarts=4)(model, x, y, seed=5)
    assert bool((more.success >= one.success).all())
    assert bool((more.loss[~more.success] <= one.loss[~more.success]).all())


def test_stopping_early_finds_the_same_successes_for_less() -> None:
    model = build("cnn", shape=(1, 8, 8), classes=5, seed=1, options={"width": 4, "hidden": 8})
    x = random.uniform(random.row_keys(64, "early"), (1, 8, 8))
    with torch.no_grad():
        y = model.logits(x).argmax(dim=1)
    full = pgd(L2(), 2.0, steps=20)(model, x, y)
    early = pgd(L2(), 2.0, steps=20, stop_on_success=True)(model, x, y)
    assert torch.equal(full.success, early.success)
    assert early.backwards < full.backwards


def test_the_model_is_left_as_it_was() -> None:
    model = build("resnet8", shape=(1, 8, 8), classes=3, seed=0, options={"width": 2})
    model.train()
    next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)).eval()
    frozen_one = next(model.parameters())
    frozen_one.requires_grad_(False)
    flags = [m.training for m in model.modules()]
    state = {k: v.clone() for k, v in model.state_dict().items()}
    x, y = random.uniform(random.row_keys(6, "m"), (1, 8, 8)), torch.arange(6) % 3
    before = x.clone(), y.clone()
    pgd(Linf(), 0.1, steps=3)(model, x, y)
    assert [m.training for m in model.modules()] == flags
    assert not frozen_one.requires_grad
    assert sum(p.requires_grad for p in model.parameters()) == len(list(model.parameters())) - 1
    assert all(p.grad is None for p in model.parameters())
    assert all(torch.equal(state[k], v) for k, v in model.state_dict().items())
    assert torch.equal(x, before[0])
    assert torch.equal(y, before[1])
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_saturated_models_show_as_zero_gradients() -> None:
    model, x = linear(), grey(10, 4)
    with torch.no_grad():
        model.body[1].weight.mul_(1e6)
        y = model.logits(x).argmax(dim=1)
    found = pgd(Linf(), 0.001, steps=10, random_start=False)(model, x, y)
    assert int(found.zero_grads.sum()) > 0


X, Y = grey(3), torch.tensor([0, 1, 0])
BAD = [
    (lambda m: pgd(L2(), 0.1)(m, X + 2, Y), r"`x` must lie in \[0, 1\]"),
    (lambda m: pgd(L2(), 0.1)(m, X * float("nan"), Y), r"`x` must be finite"),
    (lambda m: pgd(L2(), 0.1)(m, X[0], Y), r"shape \[n, channels, height, width\]"),
    (lambda m: pgd(L2(), 0.1)(m, X, Y + 1), r"`y` must lie in 0..1; got 2 in row 1"),
    (lambda m: pgd(L2(), 0.1)(m, X, Y[:2]), r"`y` must have shape \(3,\)"),
    (lambda m: pgd(L2(), 0.1)(m, X, Y, targets=Y), r"`targets` must differ from `y`"),
    (lambda m: pgd(L2(), 0.1)(m, X), r"`y` must be given"),
    (lambda m: pgd(L2(), 0.0), r"`eps` must be a finite number above 0"),
    (lambda m: pgd(L2(), -1.0), r"`eps` must be a finite number above 0"),
    (lambda m: pgd(Linf(), 8.0), r"Write linf:8/255"),
    (lambda m: pgd(L2(), 0.1, restarts=0), r"`restarts` must be at least 1"),
    (lambda m: pgd(L2(), 0.1, steps=0, step_size=0.1), r"`steps` must be at least 1"),
    (lambda m: pgd(L2(), 0.1, step_size=0.0), r"`step_size` must be a finite number above 0"),
]


@pytest.mark.parametrize(("call", "message"), BAD)
def test_bad_input_is_explained(call, message) -> None:
    with pytest.raises(Exception, match=message) as caught:
        call(linear())
    assert isinstance(caught.value, (ValueError, TypeError))

"""The iterative relatives of FGSM: basic, least likely, momentum, through transformations."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nets import in_parts, small_net
from notbugs.attacks import cross_entropy, pgd
from notbugs.attacks.bim import bim, default_steps, least_likely
from notbugs.attacks.mim import mim
from notbugs.attacks.smallest_budget import smallest_budget
from notbugs.attacks.transformed import Transformed, di_fgsm, eot, ti_fgsm
from notbugs.attacks.transforms import Blurred, Imaged, Resized
from notbugs.core import random
from notbugs.engine import L2, Last, Linf
from notbugs.models import wrap

N = 24
FACTORIES = {
    "bim": lambda **o: bim(0.06, step_size=0.02, **o),
    "least-likely": lambda **o: least_likely(0.06, step_size=0.02, **o),
    "mim": lambda **o: mim(L2(), 0.5, steps=5, **o),
    "di": lambda **o: di_fgsm(Linf(), 0.06, steps=5, probability=0.7, smallest=0.6, **o),
    "eot": lambda **o: eot(Linf(), 0.06, steps=5, draws=2, **o),
    "ti": lambda **o: ti_fgsm(Linf(), 0.06, steps=5, radius=1, probability=0.5, **o),
}
EACH = pytest.mark.parametrize("make", FACTORIES.values(), ids=list(FACTORIES))


def net():
    return small_net(N)


def slope(model, x, classes):
    leaf = x.clone().requires_grad_()
    loss = F.cross_entropy(model.logits(leaf), classes, reduction="sum")
    return torch.autograd.grad(loss, leaf)[0]


@EACH
def test_results_are_batch_invariant_and_repeat(make) -> None:
    model, x, y = net()
    whole, parts = in_parts(make(), model, x, y, 7)
    for rows, part in parts:
        torch.testing.assert_close(part.x_adv, whole.x_adv[rows], atol=1e-5, rtol=0)
        assert torch.equal(part.success, whole.success[rows])
    assert int(whole.success.sum()) > 0


@EACH
def test_a_targeted_call_only_counts_the_target(make) -> None:
    model, x, y = net()
    targets = (y + 1) % 5
    found = make()(model, x, y, targets=targets)
    with torch.no_grad():
        after = model.logits(found.x_adv).argmax(dim=1)
    assert torch.equal(found.success, after == targets)


def test_the_number_of_steps_is_the_papers() -> None:
    assert [default_steps(e / 255) for e in (2, 4, 8, 15, 16, 32)] == [3, 5, 10, 19, 20, 36]
    assert bim(8 / 255).solver.max_steps == 10
    assert bim(8 / 255, steps=3).name == "BIM-3"


def test_bim_is_the_papers_loop() -> None:
    model, x, y = net()
    moved = x
    for _ in range(6):
        moved = moved + 0.02 * slope(model, moved, y).sign()
        moved = torch.minimum(torch.maximum(moved, x - 0.05), x + 0.05).clamp(0, 1)
    found = bim(0.05, step_size=0.02, steps=6, keep=Last())(model, x, y)
    torch.testing.assert_close(found.x_adv, moved)
    same = pgd(Linf(), 0.05, step_size=0.02, steps=6, random_start=False)(model, x, y)
    assert torch.equal(bim(0.05, step_size=0.02, steps=6)(model, x, y).x_adv, same.x_adv)


def test_least_likely_is_the_papers_loop_and_counts_any_mistake() -> None:
    model, x, y = net()
    with torch.no_grad():
        chosen = model.logits(x).argmin(dim=1)
    moved = x
    for _ in range(4):
        moved = moved - 0.02 * slope(model, moved, chosen).sign()
        moved = torch.minimum(torch.maximum(moved, x - 0.08), x + 0.08).clamp(0, 1)
    found = least_likely(0.08, step_size=0.02, steps=4, keep=Last())(model, x, y)
    torch.testing.assert_close(found.x_adv, moved)
    with torch.no_grad():
        after = model.logits(found.x_adv).argmax(dim=1)
    assert torch.equal(found.success, after != y)
    assert bool((found.success & (after != chosen)).any())


@pytest.mark.parametrize("norm", [Linf(), L2()])
def test_mim_is_the_papers_loop(norm) -> None:
    model, x, y = net()
    moved, g = x, torch.zeros_like(x)
    for _ in range(5):
        grad = slope(model, moved, y)
        g = 0.9 * g + grad / grad.abs().sum(dim=(1, 2, 3), keepdim=True)
        step = norm.steepest(g)
        moved = norm.project_in_box(moved + 0.02 * step, x, torch.full((N,), 0.1))
    found = mim(norm, 0.1, steps=5, decay=0.9, keep=Last())(model, x, y)
    torch.testing.assert_close(found.x_adv, moved)


def test_on_a_linear_model_all_reach_the_exact_boundary() -> None:
    layer = nn.Linear(16, 2)
    model = wrap(nn.Sequential(nn.Flatten(), layer), shape=(1, 4, 4), classes=2, embedding="0")
    x = 0.4 + 0.2 * random.uniform(random.row_keys(100, "x"), (1, 4, 4))
    with torch.no_grad():
        layer.weight.copy_(random.normal(random.row_keys(2, "w"), (16,)))
        layer.bias.copy_(-(x.flatten(1) @ layer.weight.T).mean(dim=0))
        z = model.logits(x)
    y, w = z.argmax(dim=1), layer.weight.detach()
    distance = (z[:, 0] - z[:, 1]).abs() / (w[0] - w[1]).abs().sum()
    eps = float(distance.median())
    sure = (distance - eps).abs() > 0.01 * eps
    for attack in (
        bim(eps, step_size=eps / 4, steps=8),
        least_likely(eps, step_size=eps / 4, steps=8),
        mim(Linf(), eps),
    ):
        found = attack(model, x, y)
        assert torch.equal(found.success[sure], (distance < eps)[sure])


def test_resizing_is_bilinear_and_somewhere_inside() -> None:
    x = random.uniform(random.row_keys(40, "x"), (2, 8, 10), torch.float64)
    keys = random.row_keys(40, "keys")
    out = Resized(1.0, 0.5)(x, keys)
    sides = set()
    for row, image in zip(out, x, strict=True):
        there = (row.abs().sum(dim=0) > 0).nonzero()
        low, high = there.amin(dim=0), there.amax(dim=0) + 1
        size = [int(v) for v in high - low]
        wanted = F.interpolate(image[None], size=size, mode="bilinear")[0]
        torch.testing.assert_close(row[:, low[0] : high[0], low[1] : high[1]], wanted)
        sides.add(tuple(size))
    assert {s[0] for s in sides} == {4, 5, 6, 7, 8}
    assert {s[1] for s in sides} == {5, 6, 7, 8, 9, 10}
    torch.testing.assert_close(Resized(1.0, 0.5)(x[5:9], keys[5:9]), out[5:9])


def test_the_probability_is_the_share_of_rows_transformed() -> None:
    x = random.uniform(random.row_keys(400, "x"), (1, 8, 8))
    out = Resized(0.3, 0.5)(x, random.row_keys(400, "keys"))
    share = float((out != x).flatten(1).any(dim=1).float().mean())
    assert 0.2 < share < 0.32  # some draws keep the whole size
    assert torch.equal(Resized(0.0)(x, random.row_keys(400, "keys")), x)


def test_blurring_keeps_the_image_and_blurs_the_gradient() -> None:
    x = random.uniform(random.row_keys(3, "x"), (2, 9, 9), torch.float64).requires_grad_()
    grad = torch.zeros_like(x)
    grad[:, :, 4, 4] = 1.0
    blurred = Blurred(2)
    seen = blurred(x, random.row_keys(3, "keys"))
    torch.testing.assert_close(seen, x)
    (got,) = torch.autograd.grad(seen, x, grad)
    at = torch.arange(-2, 3, dtype=torch.float64)
    bell = torch.exp(-(at[:, None] ** 2 + at**2) / (2 * (4 / 3)))
    torch.testing.assert_close(got[0, 0, 2:7, 2:7], bell / bell.sum())
    assert float(got.sum()) == pytest.approx(6.0)


def test_the_transformed_objective_is_judged_on_the_image_itself() -> None:
    model, x, y = net()
    attack = di_fgsm(Linf(), 0.06, steps=3, probability=1.0, smallest=0.5, draws=2)
    objective, _context = attack.objective(model.logits, y, None)
    assert isinstance(objective, Transformed)
    assert objective.is_random
    found = attack(model, x, y)
    with torch.no_grad():
        z = model.logits(found.x_adv)
    assert torch.equal(found.success, z.argmax(dim=1) != y)
    torch.testing.assert_close(found.loss, -cross_entropy(z, y))
    plain = di_fgsm(Linf(), 0.06, steps=3, probability=0.0)(model, x, y)
    same = mim(Linf(), 0.06, steps=3, decay=0.0, step_size=1.25 * 0.06 / 3)(model, x, y)
    assert torch.equal(plain.x_adv, same.x_adv)
    assert not torch.equal(plain.x_adv, found.x_adv)


@pytest.mark.parametrize("draws", [1, 3])
def test_every_pass_through_a_transformation_counts(draws) -> None:
    model, x, y = net()
    asked, answered = [], []
    model.register_forward_hook(lambda module, given, out: asked.append(len(out)))
    model.body.register_full_backward_hook(lambda module, into, out: answered.append(len(out[0])))
    found = di_fgsm(Linf(), 0.06, steps=3, draws=draws)(model, x, y, fast=False)
    # Two images were seen behind others, and one was asked for a gradient, before any work.
    assert found.forwards == sum(asked) - 5
    assert found.backwards == sum(answered) - 1 == 3 * draws * len(x)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: bim(-1.0), "`eps` must be a finite number above 0; got -1.0"),
        (lambda: bim(0.1, step_size=0.0), "`step_size` must"),
        (lambda: bim(0.1, steps=0), "`steps` must be at least 1"),
        (lambda: least_likely(8), "looks like the 0-255 scale"),
        (lambda: mim(L2(), 0.5, decay=-1), "`decay` must be a finite number of at least 0"),
        (lambda: di_fgsm(L2(), 0.5, probability=1.5), r"`probability` must lie in \[0, 1\]"),
        (lambda: di_fgsm(L2(), 0.5, smallest=0), r"`smallest` must lie in \(0, 1\]"),
        (lambda: di_fgsm(L2(), 0.5, draws=0), "`draws` must be at least 1"),
        (lambda: ti_fgsm(L2(), 0.5, radius=0), "`radius` must be at least 1"),
    ],
)
def test_bad_options_are_named(make, match) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def test_the_smallest_budget_is_the_first_that_breaks_a_linear_model() -> None:
    weights = torch.tensor([[2.0, -1.0, 1.0, 0.5], [0.0, 0.0, 0.0, 0.0]])
    layer = nn.Linear(4, 2, bias=False)
    layer.weight.data.copy_(weights)
    model = wrap(
        nn.Sequential(nn.Flatten(), layer, nn.Identity()), shape=(1, 2, 2), classes=2, embedding="0"
    )
    x = torch.tensor([[0.5, 0.4, 0.5, 0.4], [0.4, 0.6, 0.3, 0.4]]).reshape(2, 1, 2, 2)
    y = torch.zeros(2, dtype=torch.int64)
    budgets = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3)
    found = smallest_budget(Linf(), budgets=budgets)(model, x, y)
    exact = (x.flatten(1) @ weights[0]) / weights[0].abs().sum()
    first = [min(b for b in budgets if b > float(e)) for e in exact]
    assert bool(found.success.all())
    torch.testing.assert_close(found.distance, torch.tensor(first), atol=1e-6, rtol=0)
    assert found.backwards == sum(budgets.index(b) + 1 for b in first)
    with pytest.raises(ValueError, match="`budgets` must be rising radii"):
        smallest_budget(Linf(), budgets=(0.2, 0.1))


def test_an_image_is_seen_through_a_camera_row_by_row() -> None:
    x = random.uniform(random.row_keys(4, "x"), (3, 8, 8))
    keys = random.row_keys(4, "k")
    seen = Imaged()(x, keys)
    assert float(seen.min()) >= 0
    assert float(seen.max()) <= 1
    torch.testing.assert_close(Imaged()(x[2:3], keys[2:3]), seen[2:3])
    assert not torch.equal(Imaged()(x, random.row_keys(4, "other")), seen)
    still = Imaged(blur=0.0, contrast=0.0, brightness=0.0, noise=0.0)
    torch.testing.assert_close(still(x, keys), x)
    with pytest.raises(ValueError, match="`noise` must be a finite number of at least 0"):
        Imaged(noise=-1.0)


def test_expectation_survives_the_transformation_better_than_the_plain_steps() -> None:
    model, x, y = net()
    transform, keys = Imaged(blur=1.0, contrast=0.0, brightness=0.0, noise=0.1), "seen"

    def left(x_adv: torch.Tensor) -> float:
        """The mean margin of the true class over what is seen."""
        with torch.no_grad():
            seen = [transform(x_adv, random.row_keys(N, keys, i)) for i in range(20)]
            z = torch.stack([model(one) for one in seen])
        return float(-torch.stack([cross_entropy(one, y) for one in z]).mean())

    plain = pgd(Linf(), 0.1, steps=20, random_start=False, keep=Last())(model, x, y).x_adv
    averaged = eot(Linf(), 0.1, steps=20, draws=4, transform=transform)(model, x, y).x_adv
    assert left(averaged) < left(plain)

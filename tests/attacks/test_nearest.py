"""DDN, FMN and ALMA: near the exact distance on linear models, all rows broken on a network."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from nets import Linear, in_parts, linear, said, small_net
from notbugs.attacks import cross_entropy, margin
from notbugs.attacks.alma import alma
from notbugs.attacks.ddn import ddn
from notbugs.attacks.fmn import fmn
from notbugs.attacks.smooth import smooth_margin
from notbugs.core import random
from notbugs.engine import L0, L1, L2, NORMS, Linf
from notbugs.engine.alma import ALMA
from notbugs.engine.rules import StepInfo
from notbugs.models import wrap

N = 20
METHODS = [
    ddn(steps=60),
    alma(steps=60),
    *(fmn(size, steps=60) for size in (L0(), L1(), L2(), Linf())),
]
EACH = pytest.mark.parametrize("attack", METHODS, ids=[m.name for m in METHODS])


def net():
    return small_net(N)


@pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))
def test_fmn_finds_the_exact_distance_of_a_linear_model(norm) -> None:
    model = linear()
    x = 0.5 + 0.02 * (random.uniform(random.row_keys(N, "x"), (1, 4, 4)) - 0.5)
    w = model.body[1].weight.detach()
    with torch.no_grad():
        # A fifth of the margin is left, so that the box does not bind in any norm.
        model.body[1].bias.sub_(0.8 * model.logits(x).mean(dim=0))
        z = model.logits(x)
    exact = (z[:, 0] - z[:, 1]).abs() / norm.dual((w[1] - w[0]).reshape(1, 1, 4, 4))
    assert float(exact.max()) < 0.45
    found = fmn(norm, steps=100)(model, x, z.argmax(dim=1))
    assert found.attack_success_rate == 100
    assert bool((found.distance <= 1.05 * exact).all())
    assert bool((found.distance >= exact * 0.999).all())


@pytest.mark.parametrize("attack", [ddn(steps=200), alma(steps=200)], ids=["ddn", "alma"])
def test_it_finds_the_exact_distance_of_a_linear_model(attack) -> None:
    model = linear()
    x = 0.5 + 0.02 * (random.uniform(random.row_keys(N, "x"), (1, 4, 4)) - 0.5)
    w = model.body[1].weight.detach()
    with torch.no_grad():
        z = model.logits(x)
    exact = (z[:, 0] - z[:, 1]).abs() / (w[1] - w[0]).norm()
    found = attack(model, x, z.argmax(dim=1))
    assert found.attack_success_rate == 100
    assert bool((found.distance <= 1.05 * exact).all())


@pytest.mark.parametrize("scale", [0.01, 100.0])
@pytest.mark.parametrize(
    "attack", [ddn(steps=60), alma(steps=60), fmn(L2(), steps=60)], ids=lambda a: a.name
)
def test_the_scale_of_the_logits_hardly_matters(attack, scale) -> None:
    model, x, y = net()
    before = attack(model, x, y)
    with torch.no_grad():
        model.body.head.weight.mul_(scale)
        model.body.head.bias.mul_(scale)
    after = attack(model, x, y)
    assert after.attack_success_rate == 100
    assert float(after.distance.mean()) <= 1.15 * float(before.distance.mean())


def test_fmn_l0_counts_the_fewest_pixels_of_a_linear_model() -> None:
    model = linear()
    x = random.uniform(random.row_keys(N, "x"), (1, 4, 4))
    with torch.no_grad():
        z = model.logits(x)
    y = z.argmax(dim=1)
    w = (model.body[1].weight[1] - model.body[1].weight[0]).detach() * (1 - 2 * y[:, None])
    gain = torch.where(w > 0, (1 - x.flatten(1)), x.flatten(1)) * w.abs()
    most = gain.sort(dim=1, descending=True).values.cumsum(dim=1)
    fewest = (most < (z[:, 0] - z[:, 1]).abs()[:, None]).sum(dim=1) + 1
    found = fmn(L0(), steps=100)(model, x, y)
    broken = fewest <= 16
    assert torch.equal(found.success, broken)
    assert bool((found.distance >= fewest)[broken].all())
    assert float((found.distance == fewest)[broken].float().mean()) > 0.8


class Saturated(nn.Module):
    """A linear model whose logits hardly rise far from the boundary."""

    def __init__(self, body) -> None:
        super().__init__()
        self.body = body

    def forward(self, x):
        return torch.tanh(self.body(x))


def test_fmn_l0_comes_down_from_a_linear_estimate_of_all_pixels() -> None:
    body = Linear(2, 16, "w")
    with torch.no_grad():
        # Twenty pixels lead to the boundary; the gradient at the image says all 256.
        body.layer.weight.copy_(torch.stack([torch.ones(256), -torch.ones(256)]) / 4)
        body.layer.bias.copy_(torch.tensor([-29.5, 29.5]))
    model = wrap(Saturated(body), shape=(1, 16, 16), classes=2, embedding="body.0")
    x = torch.full((4, 1, 16, 16), 0.5)
    found = fmn(L0(), steps=40)(model, x, said(model, x))
    assert bool(found.success.all())
    assert float(found.distance.max()) <= 30


def test_fmn_linf_moves_pixels_of_small_gradients_too() -> None:
    body, w = Linear(2, 16, "w"), torch.full((256,), 0.004)
    w[0] = 1  # half of the gradient's L1 norm is in the other 255 pixels
    with torch.no_grad():
        body.layer.weight.copy_(torch.stack([w, -w]))
        body.layer.bias.copy_(torch.tensor([-0.505, 0.505]))
    model = wrap(body, shape=(1, 16, 16), classes=2, embedding="0")
    x = torch.full((2, 1, 16, 16), 0.5)
    exact = float((w.sum() / 2 - 0.505) / w.sum())
    assert 0.24 < exact < 0.26
    found = fmn(Linf(), steps=20)(model, x, said(model, x))
    assert bool(found.success.all())
    assert float(found.distance.max()) <= 1.05 * exact


def test_alma_takes_its_first_multiplier_and_whole_steps_until_a_row_is_broken() -> None:
    theta = torch.full((2, 1, 2, 2), 0.5, dtype=torch.float64)
    far = StepInfo(
        step=0,
        max_steps=20,
        value=torch.full((2,), 50.0, dtype=torch.float64),
        grad=torch.ones_like(theta),
        success=torch.tensor([False, False]),
        center=theta,
        keys=random.row_keys(2, "alma"),
        project=lambda x: x.clamp(0, 1),
    )
    rule = ALMA(0.3, 0.5)
    first, state = rule.step(theta, far, rule.init(theta, far))
    assert state.multiplier.tolist() == [1, 1]  # not the pressure at a loss of 50
    broken = replace(far, step=5, value=far.value * 0, success=torch.tensor([True, False]))
    _, state = rule.step(first, broken, state)
    late = replace(broken, step=15, success=torch.tensor([False, False]))
    moved, _ = rule.step(first, late, state)
    step = (moved - first).flatten(1).norm(dim=1)
    assert float(step[0] / step[1]) == pytest.approx(0.01 ** (10 / 15))


@EACH
def test_every_row_of_a_network_is_broken(attack) -> None:
    model, x, y = net()
    found = attack(model, x, y)
    assert found.attack_success_rate == 100
    assert not bool(found.already_wrong.any())
    torch.testing.assert_close(found.distance, attack.size.size(found.x_adv - x))
    assert found.backwards == 60 * N


@EACH
def test_targets_are_what_it_reaches(attack) -> None:
    model, x, y = net()
    targets = y.roll(1)
    want = targets != y
    x, y, targets = x[want], y[want], targets[want]
    found = attack(model, x, y, targets=targets)
    assert found.attack_success_rate == 100
    assert torch.equal(said(model, found.x_adv), targets)
    assert float(attack(model, x, y).distance.sum()) <= 1.01 * float(found.distance.sum())


@EACH
def test_a_row_wrong_from_the_start_has_distance_zero(attack) -> None:
    model, x, y = net()
    found = attack(model, x, (y + 1) % 5)
    assert bool(found.already_wrong.all())
    assert float(found.distance.max()) == 0


@EACH
def test_rows_do_not_know_their_neighbours(attack) -> None:
    model, x, y = net()
    # In float64: steps scaled by the gradient's own size carry a rounding far.
    whole, parts = in_parts(attack, model.double(), x.double(), y, 7)
    for rows, part in parts:
        torch.testing.assert_close(part.x_adv, whole.x_adv[rows], atol=1e-4, rtol=0)


@EACH
def test_pixels_at_the_edges_of_the_box_do_not_save_a_row(attack) -> None:
    model, x, _ = net()
    x = (x > 0.5).float()
    found = attack(model, x, said(model, x))
    assert found.attack_success_rate == 100


def test_the_smooth_margin_points_along_cross_entropy_and_does_not_vanish() -> None:
    z = (8 * random.normal(random.row_keys(6, "z"), (4,))).requires_grad_()
    y = torch.arange(6) % 4
    far = margin(z, y).abs() > 0.2 * z.std(dim=1)
    assert 3 < int(far.sum()) < 6
    (a,) = torch.autograd.grad(smooth_margin(z, y).sum(), z)
    (b,) = torch.autograd.grad(cross_entropy(z, y).sum(), z)
    along, entropy = (nn.functional.normalize(v)[far] for v in (a, b))
    torch.testing.assert_close(along, entropy)
    torch.testing.assert_close(smooth_margin(z, y), margin(z, y))
    sure = torch.tensor([[500.0, 0.0, 1.0]], requires_grad=True)
    (grad,) = torch.autograd.grad(smooth_margin(sure, torch.tensor([0])).sum(), sure)
    assert float(grad.abs().sum()) == pytest.approx(2)


@pytest.mark.parametrize("lead", [0.0, 1e-9, 1e-3, -1e-3])
def test_on_the_boundary_the_smooth_margin_has_the_margins_gradient(lead) -> None:
    z = torch.tensor([[2.0, 2.0 + lead, 1.9, -3.0]], dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(smooth_margin(z, torch.tensor([0])).sum(), z)
    wanted = torch.tensor([[-1.0, 1.0, 0.0, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(grad, wanted, atol=1e-9, rtol=0)


@pytest.mark.parametrize("scale", [1e-3, 1e-6])
def test_small_logits_do_not_pull_towards_all_classes_alike(scale) -> None:
    z = (scale * torch.tensor([[3.0, 0.0, -1.0, -5.0]])).requires_grad_()
    (grad,) = torch.autograd.grad(smooth_margin(z, torch.tensor([0])).sum(), z)
    wanted = torch.tensor([0.0, -1.0, -5.0]).softmax(dim=0)
    torch.testing.assert_close(grad[0, 1:], wanted, atol=0.06, rtol=0)


def test_a_third_class_pulls_less_the_nearer_the_boundary_is() -> None:
    leads = torch.tensor([3.0, 0.3, 0.1, 0.03])
    z = torch.stack([leads, *(0 * leads - low for low in (0, 1, 5))], dim=1).requires_grad_()
    (grad,) = torch.autograd.grad(smooth_margin(z, torch.zeros(4, dtype=torch.int64)).sum(), z)
    assert float(grad[0, 2]) > 0.25
    assert bool((grad[:, 2].diff() < 0).all())
    torch.testing.assert_close(grad[:, 1:].sum(dim=1), torch.ones(4))


def test_they_work_with_two_classes_and_other_losses() -> None:
    model = linear()
    x = random.uniform(random.row_keys(N, "x"), (1, 4, 4))
    assert alma(steps=40)(model, x, said(model, x)).attack_success_rate > 80
    for loss in (cross_entropy, margin):
        assert ddn(steps=40, loss=loss)(model, x, said(model, x)).attack_success_rate > 80


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ddn(steps=0), "`steps` must be at least 1"),
        (lambda: ddn(radius=0), "`radius` must be a finite number above 0"),
        (lambda: ddn(step_size=-1), "`step_size` must be a finite number above 0"),
        (lambda: ddn(shrink=1), "`shrink` must lie strictly between 0 and 1; got 1"),
        (lambda: alma(steps=0), "`steps` must be at least 1"),
        (lambda: alma(first=0), "`first` must be a finite number above 0"),
        (lambda: alma(memory=1), r"`memory` must lie in \[0, 1\); got 1"),
        (lambda: fmn(L2(), steps=0), "`steps` must be at least 1"),
        (lambda: fmn(L2(), step_size=0), "`step_size` must be a finite number above 0"),
        (lambda: fmn(L2(), shrink=0), "`shrink` must lie strictly between 0 and 1; got 0"),
    ],
)
def test_bad_options_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=message):
        make()

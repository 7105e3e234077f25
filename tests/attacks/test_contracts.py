"""What every attack promises about its result, its cost and its settings."""

import pytest
import torch
from torch import nn

from nets import in_parts, said, small_net
from notbugs.attacks import Attack, cross_entropy, dlr, fgsm, margin, pgd, predicted, square
from notbugs.core import random
from notbugs.engine import L2, NORMS, Last, Linf, Threat
from notbugs.models import frozen, wrap

EACH_NORM = pytest.mark.parametrize("norm", NORMS.values(), ids=list(NORMS))
N = 30


class Logits(nn.Module):
    """A linear layer and a function of its logits, on images of 2x2 pixels."""

    def __init__(self, after=lambda z: z, classes=2) -> None:
        super().__init__()
        self.flat, self.layer, self.after = nn.Flatten(), nn.Linear(4, classes), after
        with torch.no_grad():
            self.layer.weight.copy_(random.normal(random.row_keys(classes, "w"), (4,)))
            self.layer.bias.zero_()

    def forward(self, x):
        return self.after(self.layer(self.flat(x)))


def model_of(after=lambda z: z, classes=2):
    return wrap(Logits(after, classes), shape=(1, 2, 2), classes=classes, embedding="flat")


def images(n=N, shape=(1, 2, 2)):
    return 0.3 + 0.4 * random.uniform(random.row_keys(n, "images"), shape)


def net():
    return small_net(N)


@EACH_NORM
def test_a_targeted_attack_on_a_linear_model_succeeds_iff_eps_is_above_the_margin(norm) -> None:
    model, x = model_of(), images(200)
    w = model.body.layer.weight.detach()
    with torch.no_grad():
        z = model.logits(x)
    y = z.argmax(dim=1)
    distance = (z[:, 0] - z[:, 1]).abs() / norm.dual((w[1] - w[0]).reshape(1, 1, 2, 2))
    eps = min(0.2, float(distance.median()))
    found = pgd(norm, eps, steps=40, random_start=False)(model, x, y, targets=1 - y)
    sure = (distance - eps).abs() > 0.01 * eps
    assert torch.equal(found.success[sure], (distance < eps)[sure])
    assert 20 < found.attack_success_rate < 80


@EACH_NORM
def test_fgsm_is_one_full_step_along_the_steepest_direction(norm) -> None:
    model, x, y = net()
    leaf = x.clone().requires_grad_()
    loss = nn.functional.cross_entropy(model.logits(leaf), y, reduction="sum")
    (grad,) = torch.autograd.grad(loss, leaf)
    wanted = (x + 0.05 * norm.steepest(grad)).clamp(0, 1)
    torch.testing.assert_close(fgsm(norm, 0.05)(model, x, y).x_adv, wanted)


@EACH_NORM
def test_the_result_is_never_worse_than_the_start(norm) -> None:
    model, x, y = net()
    seen = []

    def observe(info) -> None:
        seen.append((info.value.clone(), info.success.clone()))

    keys = random.row_keys(N, "start")
    with frozen(model):
        # A step far too long, so that the last point is often bad.
        found = pgd(norm, 0.3, steps=6, step_size=3.0).craft(
            model.logits, x, y, keys=keys, observe=observe
        )
    value, success = seen[0]
    assert bool((found.success >= success).all())
    assert bool((found.value <= value)[found.success == success].all())
    best = torch.stack([v for v, _ in seen]).amin(dim=0)
    assert bool((found.value <= best)[~found.success].all())


def test_restarts_keep_the_first_success_and_else_the_best() -> None:
    model, x, y = net()
    one = pgd(L2(), 0.2, steps=2, step_size=0.05)(model, x, y, seed=5)
    more = pgd(L2(), 0.2, steps=2, step_size=0.05, restarts=5)(model, x, y, seed=5)
    assert 0 < int(one.success.sum()) < int(more.success.sum()) <= N
    assert torch.equal(more.x_adv[one.success], one.x_adv[one.success])
    assert bool((more.loss <= one.loss)[~more.success].all())
    # Rows that fell at the first try were not tried again.
    assert more.backwards < 5 * one.backwards


def test_restarts_are_batch_invariant_and_stop_when_nothing_stands() -> None:
    model, x, y = net()
    whole, parts = in_parts(pgd(Linf(), 0.03, steps=2, restarts=3), model, x, y, 7)
    for rows, part in parts:
        torch.testing.assert_close(part.x_adv, whole.x_adv[rows], atol=1e-5, rtol=0)
        assert torch.equal(part.success, whole.success[rows])
    easy = pgd(Linf(), 0.9, steps=10, restarts=50)(model, x, y)
    assert bool(easy.success.all())
    assert easy.backwards == 10 * N


def test_without_a_random_start_the_seed_changes_nothing() -> None:
    model, x, y = net()
    still = pgd(L2(), 0.3, steps=3, random_start=False)
    assert torch.equal(still(model, x, y, seed=1).x_adv, still(model, x, y, seed=2).x_adv)
    moved = pgd(L2(), 0.3, steps=3)
    assert not torch.equal(moved(model, x, y, seed=1).x_adv, moved(model, x, y, seed=2).x_adv)


def test_the_cost_is_counted() -> None:
    model, x, y = net()
    found = pgd(Linf(), 0.01, steps=7)(model, x, y)
    assert (found.forwards, found.backwards) == ((7 + 1 + 2) * N, 7 * N)
    assert found.queries == 10.0
    # Two of them verify: on the clean image and on the result.
    assert fgsm(Linf(), 0.01)(model, x, y).queries == 4.0


def test_an_attack_is_a_plain_value() -> None:
    attack = pgd(Linf(), 8 / 255, steps=7)
    assert attack == pgd(Linf(), 8 / 255, steps=7) != pgd(Linf(), 8 / 255, steps=8)
    assert len({attack, pgd(Linf(), 8 / 255, steps=7)}) == 1
    assert "8/255" in str(attack.threat)
    assert isinstance(attack, Attack)
    with pytest.raises(AttributeError):
        attack.restarts = 3


def test_the_loss_climbed_can_be_another() -> None:
    model, x, y = net()
    found = pgd(Linf(), 0.1, steps=20, loss=margin)(model, x, y)
    with torch.no_grad():
        torch.testing.assert_close(found.loss, -margin(model.logits(found.x_adv), y))
    # The margin is above zero exactly where the attack succeeds.
    assert torch.equal(found.loss < 0, found.success)
    assert int(found.success.sum()) > 0


def test_the_last_point_is_returned_where_that_is_asked_for() -> None:
    model, x, y = net()
    last = pgd(Linf(), 0.3, steps=3, step_size=0.29, random_start=False, keep=Last())
    best = pgd(Linf(), 0.3, steps=3, step_size=0.29, random_start=False)
    assert bool((best(model, x, y).success >= last(model, x, y).success).all())
    assert not torch.equal(best(model, x, y).x_adv, last(model, x, y).x_adv)


def test_labels_of_any_integer_type_and_images_with_a_graph_are_welcome() -> None:
    model, x, y = net()
    attack = pgd(Linf(), 0.05, steps=2)
    wanted = attack(model, x, y).x_adv
    for dtype in (torch.int32, torch.uint8, torch.int16):
        assert torch.equal(attack(model, x, y.to(dtype)).x_adv, wanted)
    leaf = x.clone().requires_grad_()
    found = attack(model, leaf, y)
    assert torch.equal(found.x_adv, wanted)
    assert not found.x_adv.requires_grad
    assert not found.distance.requires_grad
    assert leaf.grad is None


def test_losses() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5], [0.0, 0.0, 0.0]])
    classes = torch.tensor([0, 2])
    assert margin(logits, classes).tolist() == [-1.5, 0.0]
    torch.testing.assert_close(
        cross_entropy(logits, classes), -logits.log_softmax(dim=1)[torch.arange(2), classes]
    )
    # All logits negative: masking with zero would get this wrong.
    assert margin(torch.tensor([[-5.0, -7.0]]), torch.tensor([0])).item() == -2.0
    assert cross_entropy(logits.bfloat16(), classes).dtype == torch.float32


def test_a_row_of_nan_is_no_class() -> None:
    assert predicted(torch.tensor([[1.0, 2.0], [float("nan"), 0.0]])).tolist() == [1, -1]


def test_nan_at_the_adversarial_image_is_told_apart_from_a_success() -> None:
    """Such a model is fine on clean images and breaks down close to them."""

    def breaks(z):
        return torch.where((z[:, :1] - z[:, 1:]).abs() < 0.02, float("nan"), z)

    model, x = model_of(), images()
    y = said(model, x)
    model.body.after = breaks
    keep = ~model.logits(x).detach().isnan().any(dim=1)
    found = pgd(Linf(), 0.2, steps=30)(model, x[keep], y[keep])
    assert torch.equal(found.success, predicted(model.logits(found.x_adv)) != y[keep])


X, Y = images(3), torch.tensor([0, 1, 0])
ATTACK = pgd(Linf(), 0.1, steps=2)
BAD = {
    "float labels": (lambda m: ATTACK(m, X, Y.float()), r"`y` must be an integer tensor"),
    "bool labels": (lambda m: ATTACK(m, X, Y.bool()), r"`y` must be an integer tensor"),
    "one-hot": (lambda m: ATTACK(m, X, nn.functional.one_hot(Y)), "not one-hot rows"),
    "negative": (lambda m: ATTACK(m, X, Y - 1), r"`y` must lie in 0..1; got -1 in row 0"),
    "targets": (lambda m: ATTACK(m, X, targets=Y + 1), r"`targets` must lie in 0..1; got 2"),
    "bytes": (lambda m: ATTACK(m, (X * 255).byte(), Y), "divide by 255"),
    "0..255": (lambda m: ATTACK(m, X * 255, Y), r"looks like 0..255: divide by 255"),
    "inf": (lambda m: ATTACK(m, X / 0, Y), r"`x` must be finite.*first in row 0"),
    "empty": (lambda m: ATTACK(m, X[:0], Y[:0]), "with no empty dimension"),
    "size": (lambda m: ATTACK(m, images(3, (1, 3, 3)), Y), r"`x` must have shape \(n, 1, 2, 2\)"),
    "double": (lambda m: ATTACK(m, X.double(), Y), r"no finer than the model's torch.float32"),
    "keys": (
        lambda m: ATTACK(m, X, Y, keys=random.row_keys(2, "k")),
        r"`keys` must have shape \(3,\); got \(2,\)",
    ),
    "no steps": (lambda m: pgd(L2(), 0.1, steps=0), r"`steps` must be at least 1; got 0"),
    "NaN eps": (lambda m: pgd(L2(), float("nan")), r"`eps` must be a finite number above 0"),
    "fgsm eps": (lambda m: fgsm(Linf(), 0.0), r"`eps` must be a finite number above 0"),
    "fgsm scale": (lambda m: fgsm(Linf(), 8), r"Write linf:8/255"),
}


@pytest.mark.parametrize(("call", "message"), BAD.values(), ids=list(BAD))
def test_bad_input_is_explained(call, message) -> None:
    with pytest.raises((ValueError, TypeError), match=message):
        call(model_of())


@EACH_NORM
def test_a_radius_that_the_images_cannot_hold_is_refused(norm) -> None:
    model, x, y = model_of(), images(3), torch.tensor([0, 1, 0])
    fine = pgd(norm, 1e-6, steps=2)
    with pytest.raises(ValueError, match=r"`eps` must be at least 1\.9e-06 .*float32.*double"):
        fine(model, x, y)
    found = fine(model.double(), x.double(), y)
    assert bool((found.distance <= 1e-6 * (1 + 1e-5)).all())


@pytest.mark.parametrize("attack", [ATTACK, fgsm(Linf(), 0.1), pgd(L2(), 0.1)])
def test_a_model_that_gives_nan_is_refused(attack) -> None:
    broken = model_of()
    with torch.no_grad():
        broken.body.layer.weight[0, 0] = float("nan")
    with pytest.raises(ValueError, match=r"`model` must give finite logits.*NaN.*diverged"):
        attack(broken, X, Y)
    with pytest.raises(ValueError, match=r"`model` must give finite logits"):
        attack(broken, X, targets=Y)


def test_what_a_method_is_not_defined_for_is_refused() -> None:
    model, x = model_of(), images(4)
    with pytest.raises(ValueError, match=r"at least 3 classes for PGD-2; got 2.*margin"):
        pgd(Linf(), 0.1, steps=2, loss=dlr)(model, x, torch.zeros(4, dtype=torch.int64))
    model, x, y = net()
    with pytest.raises(ValueError, match=r"`loss` must be defined for targets; got dlr"):
        pgd(Linf(), 0.1, steps=2, loss=dlr)(model, x, targets=(y + 1) % 5)
    with pytest.raises(ValueError, match=r"float32 or float64; got torch.bfloat16.*model.float"):
        pgd(Linf(), 0.1, steps=2)(model.bfloat16(), x.bfloat16(), y)
    with pytest.raises(ValueError, match=r"one of the norms linf, l2, l1 for PGD; got l0:3"):
        Threat.parse("l0:3").as_norm("PGD")


def test_a_model_without_gradients_is_sent_to_square() -> None:
    model, x, y = net()
    blind = wrap(Blind(model.body), shape=(1, 8, 8), classes=5, embedding="inner")
    with pytest.raises(ValueError, match=r"can be differentiated .* for PGD-2.*use square"):
        pgd(Linf(), 0.1, steps=2)(blind, x, y)
    assert square(Linf(), 0.3, steps=30)(blind, x, y).attack_success_rate > 0


class Blind(nn.Module):
    def __init__(self, inner) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x):
        with torch.no_grad():
            return self.inner(x)

"""Lessons, adversaries and penalties against what their formulas say."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from notbugs.core import random
from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.models import build, frozen
from notbugs.training import (
    Adversary,
    AtTemperature,
    Awp,
    Batch,
    Free,
    HiddenLayer,
    L1Decay,
    L2Decay,
    Lipschitz,
    Mart,
    Mixed,
    Noise,
    NoisyStep,
    Plain,
    Recipe,
    Rotation,
    ScaledGradient,
    Trades,
    WorstCaseLogistic,
    train,
)
from notbugs.training.penalty import gain

N, SHAPE = 12, (1, 6, 6)
FGSM = Adversary("linf:0.1", steps=1, random_start=False, train_mode=True)


def scene(architecture="mlp", classes=4, options=None, **named) -> Batch:
    model = build(architecture, shape=SHAPE, classes=classes, seed=1, options=options or {}).train()
    keys = random.row_keys(N, "objective")
    x = 0.2 + 0.6 * random.uniform(keys, SHAPE)
    return Batch(model, model.logits, x, torch.arange(N) % classes, keys, **named)


def grads(model):
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


def taken(objective, batch, adversary):
    """(loss, gradients) of a pass."""
    batch.model.zero_grad()
    loss = objective.prepared(batch, adversary)()
    return loss, grads(batch.model)


@pytest.mark.parametrize("strength", [1.0, 0.5])
@pytest.mark.parametrize("size", [None, 0.05])
def test_a_shared_pass_gives_what_separate_passes_give(size, strength) -> None:
    batch, adversary = scene(strength=strength), replace(FGSM, step_size=size)
    loss, shared = taken(Mixed(0.3), batch, adversary)
    forward = adversary.perturbed(batch)  # crafted by an attack of its own
    batch.model.zero_grad()
    wanted = 0.3 * batch.entropy(batch.logits(batch.x)) + 0.7 * batch.entropy(forward())
    wanted.backward()
    torch.testing.assert_close(loss, wanted.detach())
    for a, b in zip(shared, grads(batch.model), strict=True):
        torch.testing.assert_close(a, b)


def test_smoothed_labels_are_learnt() -> None:
    batch = scene()
    loss, found = taken(Plain(0.2), batch, None)
    batch.model.zero_grad()
    soft = 0.8 * F.one_hot(batch.y, 4) + 0.05
    wanted = -(soft * batch.logits(batch.x).log_softmax(dim=1)).sum(dim=1).mean()
    wanted.backward()
    torch.testing.assert_close(loss, wanted.detach())
    for a, b in zip(found, grads(batch.model), strict=True):
        torch.testing.assert_close(a, b)
    with pytest.raises(ValueError, match=r"`smoothing` must lie in \[0, 1\)"):
        Plain(1.0)


@pytest.mark.parametrize("threat", ["linf:0.1", "l2:0.5"])
def test_what_training_crafts_is_what_the_attack_crafts(threat) -> None:
    batch, adversary = scene(strength=0.5), Adversary(threat, steps=3)
    with frozen(batch.model):
        wanted = adversary.attack(0.5).craft(batch.logits, batch.x, batch.y, keys=batch.keys)
    assert torch.equal(adversary.images(batch), wanted.x)


def test_only_a_step_from_the_image_in_train_mode_is_shared() -> None:
    asked = []
    batch = scene()
    batch.model.register_forward_hook(lambda module, given, out: asked.append(len(out)))
    passes = {}
    for name, adversary in {
        "shared": FGSM,
        "from a random start": Adversary("linf:0.1", steps=1, train_mode=True),
        "in eval mode": Adversary("linf:0.1", steps=1, random_start=False),
    }.items():
        asked.clear()
        taken(Mixed(), batch, adversary)
        passes[name] = len(asked)
    assert passes["shared"] == 2
    assert passes["from a random start"] == passes["in eval mode"] > 2


def test_free_moves_the_perturbation_by_the_pass_that_was() -> None:
    batch, shown = scene(), []
    batch.model.register_forward_pre_hook(lambda module, given: shown.append(given[0].detach()))
    one = Free(3).prepared(batch, FGSM)
    for _ in range(3):
        batch.model.zero_grad()
        one()
    assert torch.equal(shown[0], batch.x)
    x = batch.x.clone().requires_grad_()
    (grad,) = torch.autograd.grad(batch.entropy(batch.logits(x)), x)
    torch.testing.assert_close(shown[1], (batch.x + 0.1 * grad.sign()).clamp(0, 1))
    assert float((shown[2] - batch.x).abs().max()) <= 0.1 + 1e-6
    assert Free(3).replays == 3


def test_trades_and_mart_are_their_formulas() -> None:
    batch, adversary = scene(), Adversary("linf:0.1", steps=3)
    loss, _ = taken(Trades(6.0), batch, adversary)
    clean = batch.entropy(batch.logits(batch.x)).detach()
    assert float(loss) > float(clean)
    shown = []
    handle = batch.model.register_forward_hook(
        lambda module, given, out: shown.append((given[0].detach(), out.detach()))
    )
    loss, _ = taken(Trades(6.0), batch, adversary)
    (x, z), (moved, z2) = shown[-2:]
    assert torch.equal(x, batch.x)
    assert float((moved - x).abs().max()) == pytest.approx(0.1, abs=1e-6)
    p, q = z.softmax(dim=1), z2.softmax(dim=1)
    apart = (p * (p / q).log()).sum(dim=1)
    torch.testing.assert_close(loss, batch.entropy(z) + 6 * apart.mean())
    shown.clear()
    loss, _ = taken(Mart(5.0), batch, adversary)
    handle.remove()
    (_, z), (_, z2) = shown[-2:]
    p, q = z.softmax(dim=1), z2.softmax(dim=1)
    rows = torch.arange(N)
    others = q.clone()
    others[rows, batch.y] = 0
    boosted = -q[rows, batch.y].log() - (1 - others.amax(dim=1)).log()
    apart = (p * (p / q).log()).sum(dim=1)
    torch.testing.assert_close(
        loss, (boosted + 5 * apart * (1 - p[rows, batch.y])).mean(), rtol=1e-4, atol=1e-5
    )


def test_weights_come_back_after_they_were_moved_and_the_gradient_is_from_there() -> None:
    batch = scene()
    model, awp = batch.model, Awp(0.05)
    before = [p.detach().clone() for p in model.parameters()]
    one = Plain().prepared(batch, None)
    _, here = taken(Plain(), batch, None)
    model.zero_grad()
    loss = awp.apply(model, one, model.zero_grad)
    after = grads(model)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert any(not torch.allclose(a, b) for a, b in zip(here, after, strict=True))
    with torch.no_grad():
        assert float(loss) > float(batch.entropy(batch.logits(batch.x)))
        for p, g in zip(model.parameters(), here, strict=True):
            p.add_(0.05 * p.norm() / g.norm() * g if p.ndim > 1 else 0)
    loss_there, there = taken(Plain(), batch, None)
    torch.testing.assert_close(loss, loss_there)
    for a, b in zip(after, there, strict=True):
        torch.testing.assert_close(a, b)


def test_the_worst_case_of_a_linear_model_is_what_an_attack_finds() -> None:
    batch = scene("linear", classes=2)
    for text in ("linf:0.05", "l2:0.2"):
        loss, _ = taken(WorstCaseLogistic(text), batch, None)
        adversary = Adversary(text, steps=1, random_start=False)  # exact, for a linear model
        with torch.no_grad():
            wanted = batch.entropy(adversary.perturbed(batch)())
        torch.testing.assert_close(loss, wanted, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="`model` must be linear for this objective"):
        taken(WorstCaseLogistic(), scene("mlp", classes=2), None)
    with pytest.raises(ValueError, match="`model` must have two classes"):
        taken(WorstCaseLogistic(), scene("linear", classes=3), None)


@pytest.mark.parametrize("kind", ["signs", "uniform", "gaussian"])
@pytest.mark.parametrize("text", ["linf:0.1", "l2:0.5", "l1:2"])
def test_noise_has_the_size_of_the_threat(text, kind) -> None:
    threat, batch = Threat.parse(text), scene()
    move = Noise(text, kind=kind).images(batch) - batch.x
    size = threat.norm.size(move)
    if threat.norm.name == "linf":
        if kind == "signs":
            torch.testing.assert_close(move.abs(), torch.full_like(move, 0.1))
        elif kind == "uniform":
            assert 0.08 < float(move.abs().max()) <= 0.1 + 1e-6
        else:
            assert float(move.std()) == pytest.approx(0.1, rel=0.15)
    else:
        torch.testing.assert_close(size, torch.full_like(size, threat.eps), rtol=1e-3, atol=0)
    assert not torch.equal(move[0], move[1])


def test_n_fgsm_leaves_the_ball_and_keeps_to_the_box() -> None:
    batch = scene()
    move = NoisyStep("linf:0.1").images(batch) - batch.x
    assert 0.2 < float(move.abs().max()) <= 0.3 + 1e-6
    assert float((batch.x + move).min()) >= 0


def test_reactive_adversaries_hand_the_model_their_reaction() -> None:
    batch, shown = scene(), []
    batch.model.register_forward_pre_hook(lambda module, given: shown.append(given[0]))
    for adversary in (ScaledGradient("l2:0.5"), ScaledGradient("linf:0.05"), Rotation("l2:0.5")):
        logits = adversary.perturbed(batch)()
        moved = shown[-1]
        assert moved.requires_grad  # a function of the weights
        size = Threat.parse(adversary.threat).norm.size(moved.detach() - batch.x)
        eps = Threat.parse(adversary.threat).eps
        assert bool((size <= eps * 1.001).all())
        assert float(size.median()) > 0.9 * eps
        assert logits.requires_grad
    turned = moved.detach()
    torch.testing.assert_close(
        turned.flatten(1).norm(dim=1), batch.x.flatten(1).norm(dim=1), rtol=0.02, atol=0
    )


def test_a_hidden_layer_moves_by_its_share_and_the_hook_comes_off() -> None:
    batch, layer = scene(), "trunk.1"
    inside = dict(batch.model.body.named_modules())[layer]
    seen = []
    clean = batch.logits(batch.x).detach()
    adversary = HiddenLayer("l2:0.5", layer=layer, size=0.3)
    forward = adversary.perturbed(batch)
    after = dict(batch.model.body.named_modules())["trunk.2"]
    kept = after.register_forward_pre_hook(lambda m, given: seen.append(given[0].detach()))
    logits = forward().detach()
    batch.logits(batch.x)
    kept.remove()
    assert float(batch.entropy(logits)) > float(batch.entropy(clean))
    moved, plain = seen
    share = (moved - plain).norm(dim=1) / plain.norm(dim=1)
    torch.testing.assert_close(share, torch.full_like(share, 0.3))
    torch.testing.assert_close(batch.logits(batch.x).detach(), clean)
    assert not inside._forward_hooks
    with pytest.raises(ValueError, match="layer"):
        HiddenLayer(layer="trunk.9").perturbed(batch)


@pytest.mark.parametrize("adversary", [ScaledGradient("l2:0.5"), Rotation("l2:0.5")])
def test_reactive_adversaries_work_through_attention_and_tiny_gradients(adversary) -> None:
    for batch in (scene("vit", options={"patch": 3}), scene()):
        if batch.model.architecture != "vit":
            with torch.no_grad():
                batch.model.body.head.weight.mul_(1e-15)
        seen = []
        batch.model.register_forward_pre_hook(lambda m, given, to=seen: to.append(given[0]))
        adversary.perturbed(batch)().sum().backward()
        size = (seen[-1].detach() - batch.x).flatten(1).norm(dim=1)
        assert float(size.min()) > 0.45


def test_a_rotation_by_no_gradient_leaves_the_image() -> None:
    x = scene().x
    moved = Rotation("l2:0.5").moved(x, torch.zeros_like(x), 0.5)
    torch.testing.assert_close(moved, x)


@pytest.mark.parametrize("how", ["awp", "reactive"])
def test_crafting_leaves_the_statistics_of_batch_norms_alone(how) -> None:
    batch = scene("resnet8")
    if how == "awp":
        one = Plain().prepared(batch, None)
        Awp(1e-3).apply(batch.model, one, batch.model.zero_grad)
    else:
        ScaledGradient("l2:0.5").perturbed(batch)()
    counts = [v for k, v in batch.model.state_dict().items() if k.endswith("num_batches_tracked")]
    assert counts
    assert all(int(count) == 1 for count in counts)  # the pass that is learnt from


def test_penalties_are_their_formulas() -> None:
    model = scene().model
    weights = [m.weight for m in model.modules() if isinstance(m, torch.nn.Linear)]
    l1 = sum(w.abs().sum() for w in weights)
    torch.testing.assert_close(L1Decay(0.5)(model), 0.5 * l1)
    first = L1Decay(0.5, only_first=True)(model)
    torch.testing.assert_close(first, 0.5 * weights[0].abs().sum())
    l2 = sum(w.square().sum() / w.shape[0] for w in weights)
    torch.testing.assert_close(L2Decay(0.5)(model), 0.5 * l2)
    for w in weights:
        torch.testing.assert_close(
            gain(w, 3000), torch.linalg.matrix_norm(w, 2), rtol=1e-3, atol=1e-4
        )
        close = gain(w, 20) / torch.linalg.matrix_norm(w, 2)
        assert 0.95 < float(close.detach()) < 1.0001
    free = Lipschitz(0.5, target=100.0)(model).detach()
    assert float(free) == 0
    assert float(Lipschitz(0.5, target=0.1)(model).detach()) > 0


def test_temperature_softens_the_loss() -> None:
    batch = scene()
    loss, _ = taken(AtTemperature(4.0), batch, None)
    torch.testing.assert_close(loss, F.cross_entropy(batch.logits(batch.x) / 4, batch.y))
    soft = torch.full((N, 4), 0.25)
    loss, _ = taken(AtTemperature(4.0), scene(soft=soft), None)
    torch.testing.assert_close(loss, F.cross_entropy(batch.logits(batch.x) / 4, soft))


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Recipe(objective=Mixed()), "`adversary` must be given for Mixed"),
        (lambda: Recipe(objective=Trades()), "`adversary` must be given for Trades"),
        (
            lambda: Recipe(objective=Trades(), adversary=Noise()),
            "`adversary` must be a PGD Adversary for TRADES",
        ),
        (
            lambda: Recipe(objective=Mart(), adversary=HiddenLayer()),
            "`adversary` must give images for MART",
        ),
        (
            lambda: Recipe(objective=Free(), adversary=Noise()),
            "`adversary` must be a PGD Adversary for Free",
        ),
        (
            lambda: Recipe(objective=WorstCaseLogistic(), adversary=Noise()),
            "`adversary` must be left out",
        ),
        (lambda: Mixed(1.5), r"`alpha` must lie in \[0, 1\]"),
        (lambda: Free(1), "`times` must be at least 2"),
        (lambda: Trades(0), "`beta` must be a finite number above 0"),
        (lambda: Mart(-1), "`weight` must be a finite number above 0"),
        (lambda: Awp(0), "`size` must be a finite number above 0"),
        (lambda: NoisyStep("l2:1"), "`threat` must be an Linf one"),
        (lambda: Rotation("linf:0.1"), "`threat` must be an L2 one"),
        (lambda: Noise(kind="pink"), "Unknown kind 'pink'"),
        (lambda: HiddenLayer(size=0), "`size` must be a finite number above 0"),
        (
            lambda: Recipe(objective=Free(2), adversary=FGSM, awp=Awp()),
            "`awp` must be left out with Free",
        ),
        (lambda: Lipschitz(1e-3, target=0), "`target` must be a finite number above 0"),
        (lambda: Lipschitz(1e-3, iterations=0), "`iterations` must be at least 1"),
        (lambda: L1Decay(0), "`weight` must be a finite number above 0"),
        (lambda: AtTemperature(0), "`temperature` must be a finite number above 0"),
        (lambda: Noise(eps_warmup=1.0), r"`eps_warmup` must lie in \[0, 1\)"),
        (lambda: Recipe(average=1.0), r"`average` must lie in \[0, 1\)"),
        (lambda: Recipe(patience=3), "`watch_every` must be at least 1 with `patience`"),
    ],
)
def test_bad_settings_are_explained(make, match) -> None:
    with pytest.raises(ValueError, match=match):
        make()


def test_a_teachers_word_must_fit_the_data() -> None:
    data = ImageData(torch.zeros(8, *SHAPE), torch.arange(8) % 4, ("a", "b", "c", "d"), "grey")
    model = scene().model
    with pytest.raises(ValueError, match=r"`soft` must have shape \(8, 4\)"):
        train(model, data, Recipe(batch_size=4), seed=0, soft=torch.zeros(8, 3))

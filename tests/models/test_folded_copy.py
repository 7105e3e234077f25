"""Stand-ins: cheaper copies that agree with the model, chosen by rule."""

from threading import Event, Thread

import pytest
import torch
from torch import nn

from normed import IMAGES, SHAPE, Branching, N, Noisy, net
from notbugs.attacks import attack as room
from notbugs.attacks import pgd
from notbugs.data import ImageData
from notbugs.engine import Linf, Threat
from notbugs.judge import evaluate, identity
from notbugs.models import FoldedCopy, build, folded_copy


def spread(model):
    """The model's logits of the images."""
    with torch.no_grad():
        return model.logits(IMAGES)


def norms_in(logits):
    """Batch norms that run when the logits are computed."""
    kinds = []
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, given, out: kinds.append(type(module))
    )
    with torch.no_grad():
        logits(IMAGES)
    handle.remove()
    return kinds.count(nn.BatchNorm2d)


@pytest.fixture
def always_a_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every job is long enough, and the processor does not compute in bf16."""
    monkeypatch.setattr(folded_copy, "WORTHWHILE", 0.0)
    monkeypatch.setattr(folded_copy, "has_bf16", lambda device: False)


@pytest.mark.parametrize(
    ("model", "left"),
    [(net(), 0), (net(shared=True), 1), (net(Branching()), 2)],
    ids=["folded", "a convolution used twice", "untraceable"],
)
def test_a_copy_has_the_models_logits_and_gradients(model, left) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits = FoldedCopy(model, "float32")
    assert norms_in(logits) == left
    with torch.no_grad():
        torch.testing.assert_close(logits(IMAGES), spread(model), rtol=1e-4, atol=1e-5)
    grads = []
    for f in (logits, model.logits):
        x = IMAGES.clone().requires_grad_()
        grads.append(torch.autograd.grad(f(x)[:, 1].sum(), x)[0])
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-6)
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_copy_in_low_precision_agrees_as_far_as_it_goes() -> None:
    model = net()
    logits = FoldedCopy(model, "bf16")
    with torch.no_grad():
        off = (logits(IMAGES) - spread(model)).abs().max()
    assert logits(IMAGES).dtype == torch.float32
    assert 0 < off < 0.1 * spread(model).std()
    assert folded_copy.agree(spread(model), logits, IMAGES, "bf16")
    assert not folded_copy.agree(spread(model), logits, IMAGES, "float32")


def test_other_weights_and_numbers_that_are_none_do_not_agree() -> None:
    model = net()
    logits = FoldedCopy(net(seed=1), "float32")
    assert not folded_copy.agree(spread(model), logits, IMAGES, "bf16")
    assert not folded_copy.agree(
        spread(model), lambda x: model.logits(x) * torch.nan, IMAGES, "bf16"
    )
    assert folded_copy.agree(
        spread(model), folded_copy.channels_last(model.logits), IMAGES, "float32"
    )


def test_a_model_is_asked_in_channels_last_memory_where_a_copy_works(always_a_copy) -> None:
    model, given = net(), []
    model.body[0].register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    attack = pgd(Linf(), 0.05, steps=10)
    folded_copy.work(model, IMAGES)  # counted once, on the model as it comes

    def first_in_channels_last(**named):
        given.clear()
        attack(model, IMAGES, torch.zeros(N, dtype=torch.int64), **named)
        return given[0].is_contiguous(memory_format=torch.channels_last)

    assert first_in_channels_last()
    assert first_in_channels_last()
    assert not first_in_channels_last(fast=False)


def test_short_jobs_and_models_in_other_states_get_none(
    always_a_copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert folded_copy.copy_to_attack(net(), IMAGES, 10) is not None
    assert folded_copy.copy_to_attack(net().double(), IMAGES.double(), 10) is None
    assert folded_copy.copy_to_attack(net().train(), IMAGES, 10) is None
    monkeypatch.setattr(folded_copy, "WORTHWHILE", 2e10)
    assert folded_copy.copy_to_attack(net(), IMAGES, 10) is None


def test_a_random_model_gets_none(always_a_copy) -> None:
    with torch.no_grad():
        assert folded_copy.copy_to_attack(net(Noisy()), IMAGES, 10) is None


def test_a_copy_follows_the_weights(always_a_copy) -> None:
    model = net()
    first = folded_copy.copy_to_attack(model, IMAGES, 10)
    assert folded_copy.copy_to_attack(model, IMAGES, 10) is first
    with torch.no_grad():
        model.body[0].weight.mul_(2)
    second = folded_copy.copy_to_attack(model, IMAGES, 10)
    assert second is not None
    assert second is not first
    with torch.no_grad():
        torch.testing.assert_close(second(IMAGES), spread(model), rtol=1e-4, atol=1e-5)
    model.body[0].weight.data.mul_(0)  # a write that leaves no trace but other logits
    assert folded_copy.copy_to_attack(model, IMAGES, 10) is None
    assert folded_copy.copy_to_attack(model, IMAGES, 10, logits=spread(model)) is None


def test_the_copy_follows_from_model_job_and_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    """No clock and no file: neither a busy machine nor a user's cache changes a number."""
    monkeypatch.setattr(folded_copy, "WORTHWHILE", 0.0)
    for native, low, wanted in (
        (True, True, ("bf16", "float32")),
        (True, False, ("float32",)),
        (False, True, ("float32",)),
    ):
        monkeypatch.setattr(folded_copy, "has_bf16", lambda device, native=native: native)
        assert folded_copy.precisions(net(), IMAGES, 10, low=low) == wanted
        made = folded_copy.copy_to_attack(net(), IMAGES, 10, low=low)
        assert made.precision == wanted[0]
    flat = build("linear", shape=SHAPE, classes=3, seed=0).eval()
    assert folded_copy.precisions(flat, IMAGES, 10) == ()


def test_where_low_precision_does_not_agree_the_exact_copy_does(
    always_a_copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(folded_copy, "has_bf16", lambda device: True)
    monkeypatch.setattr(folded_copy, "TOLERANCE", {"float32": 1e-3, "bf16": 0.0})
    assert folded_copy.copy_to_attack(net(), IMAGES, 10).precision == "float32"


def test_an_evaluation_names_the_copies_and_knows_itself_by_them(
    always_a_copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, threat = net(centred=True), Threat(Linf(), 0.02)
    data = ImageData(IMAGES, spread(model).argmax(dim=1), tuple("abcd"), "noise")
    attacks = [pgd(Linf(), 0.02, steps=3)]
    runs = [evaluate(model, data, threat, attacks=attacks, fast=fast) for fast in (True, False)]
    assert [run.as_json()["attacks"][0]["copy"] for run in runs] == ["float32", "own"]
    names = {identity(model, data, threat, attacks, 0, fast=fast) for fast in (True, False)}
    monkeypatch.setattr(folded_copy, "has_bf16", lambda device: True)
    monkeypatch.setitem(folded_copy.TOLERANCE, "bf16", 1.0)  # the centred logits lie close together
    names.add(identity(model, data, threat, attacks, 0))
    assert len(names) == 3
    assert evaluate(model, data, threat, attacks=attacks).as_json()["attacks"][0]["copy"] == "bf16"


def test_the_cost_of_a_model_is_its_own() -> None:
    """Not that of another with the same weights' shapes, which was looked at before."""
    wide, narrow = net(nn.Conv2d(6, 6, 3, padding=1)), net(nn.Conv2d(6, 6, 3, stride=4))
    assert folded_copy.work(narrow, IMAGES) < folded_copy.work(wide, IMAGES)
    assert folded_copy.work(wide, IMAGES) > folded_copy.work(net(), IMAGES)


def watched(monkeypatch: pytest.MonkeyPatch):
    """The copies that attacks are given from now on."""
    given, faster = [], room.copy_to_attack

    def noted(*values, **named):
        given.append(faster(*values, **named))
        return given[-1]

    monkeypatch.setattr(room, "copy_to_attack", noted)
    return given


def test_an_attack_through_a_copy_reports_what_the_model_says(
    always_a_copy, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = net(centred=True)
    y = spread(model).argmax(dim=1)
    attack = pgd(Linf(), 0.02, steps=10)
    given = watched(monkeypatch)
    found = attack(model, IMAGES, y, seed=1)
    assert [copy is None for copy in given] == [False]
    said = model.logits(found.x_adv).argmax(dim=1)
    assert torch.equal(found.success, said != y)
    plain = attack(model, IMAGES, y, seed=1, fast=False)
    assert found.attack_success_rate > 0
    assert abs(found.attack_success_rate - plain.attack_success_rate) <= 100 / N


@pytest.mark.parametrize("fast", ["float32", "bf16"])
def test_a_copy_that_is_asked_for_is_taken_for_short_jobs_too(fast) -> None:
    attack, y = pgd(Linf(), 0.02, steps=2), torch.zeros(N, dtype=torch.int64)
    model = net()
    assert folded_copy.copy_to_attack(model, IMAGES, 2) is None
    assert folded_copy.copy_to_attack(model, IMAGES, 2, fast=fast).precision == fast
    data = ImageData(IMAGES, spread(model).argmax(dim=1), tuple("abcd"), "noise")
    verdict = evaluate(model, data, Threat(Linf(), 0.02), attacks=[attack], fast=fast)
    assert verdict.attacks[0].copy == fast
    with pytest.raises(ValueError, match=r"Unknown fast 'bf17'. Did you mean 'bf16'"):
        attack(model, IMAGES, y, fast="bf17")
    with pytest.raises(TypeError, match=r"`fast` must be one of auto, float32, bf16, or None"):
        folded_copy.check_fast(torch.bfloat16)


def test_operations_are_counted_while_another_thread_differentiates() -> None:
    """torch's own counter puts hooks on the modules of all threads."""
    net, x = build("cnn", shape=(1, 8, 8), classes=3, seed=0), torch.rand(2, 1, 8, 8)
    failures: list[RuntimeError] = []
    done = Event()

    def differentiate() -> None:
        while not done.is_set():
            leaf = x.clone().requires_grad_()
            try:
                torch.autograd.grad(net.logits(leaf).sum(), leaf)
            except RuntimeError as error:
                failures.append(error)

    other = Thread(target=differentiate)
    other.start()
    try:
        for seed in range(30):
            linear = build("linear", shape=(1, 8, 8), classes=5, seed=seed)
            assert folded_copy.work(linear, x) == 2 * 64 * 5
    finally:
        done.set()
        other.join()
    assert failures == []

"""Stand-ins: cheaper copies that agree with the model, chosen by time."""

import json

import pytest
import torch
from torch import nn

from normed import IMAGES, Branching, N, Noisy, net
from notbugs.attacks import attack as room
from notbugs.attacks import pgd
from notbugs.data.download import cache_folder
from notbugs.engine import Linf
from notbugs.models import choices, frozen, standin


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
def eager(monkeypatch):
    """Every job is long enough, and the float32 copy is the fastest."""
    monkeypatch.setattr(standin, "WORTHWHILE", 0.0)
    monkeypatch.setattr(standin, "_timed", lambda *given: "float32")
    monkeypatch.setattr(choices, "_HERE", {})


@pytest.mark.parametrize(
    ("model", "left"),
    [(net(), 0), (net(shared=True), 1), (net(Branching()), 2)],
    ids=["folded", "a convolution used twice", "untraceable"],
)
def test_a_copy_has_the_models_logits_and_gradients(model, left):
    before = {name: value.clone() for name, value in model.state_dict().items()}
    logits = standin.copy_of(model, "float32")
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


def test_a_copy_in_low_precision_agrees_as_far_as_it_goes():
    model = net()
    logits = standin.copy_of(model, "bf16")
    with torch.no_grad():
        off = (logits(IMAGES) - spread(model)).abs().max()
    assert logits(IMAGES).dtype == torch.float32
    assert 0 < off < 0.1 * spread(model).std()
    assert standin.agrees(spread(model), logits, IMAGES, "bf16")
    assert not standin.agrees(spread(model), logits, IMAGES, "float32")


def test_other_weights_and_numbers_that_are_none_do_not_agree():
    model = net()
    logits = standin.copy_of(net(seed=1), "float32")
    assert not standin.agrees(spread(model), logits, IMAGES, "bf16")
    assert not standin.agrees(spread(model), lambda x: model.logits(x) * torch.nan, IMAGES, "bf16")
    assert standin.agrees(spread(model), standin.channels_last(model.logits), IMAGES, "float32")


def test_a_model_is_asked_in_channels_last_memory_once_a_stand_in_is_known(eager):
    model, given = net(), []
    model.body[0].register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    attack = pgd(Linf(), 0.05, steps=10)

    def first_in_channels_last(**named):
        given.clear()
        attack(model, IMAGES, torch.zeros(N, dtype=torch.int64), **named)
        return given[0].is_contiguous(memory_format=torch.channels_last)

    assert not first_in_channels_last()
    assert first_in_channels_last()
    assert not first_in_channels_last(fast=False)


def test_short_jobs_and_models_in_other_states_get_none(eager, monkeypatch):
    assert standin.faster(net(), IMAGES, 10) is not None
    assert standin.faster(net().double(), IMAGES.double(), 10) is None
    assert standin.faster(net().train(), IMAGES, 10) is None
    monkeypatch.setattr(standin, "WORTHWHILE", 2e10)
    assert standin.faster(net(), IMAGES, 10) is None


def test_a_random_model_gets_none(eager):
    with torch.no_grad():
        assert standin.faster(net(Noisy()), IMAGES, 10) is None


def test_a_stand_in_follows_the_weights(eager):
    model = net()
    first = standin.faster(model, IMAGES, 10)
    assert standin.faster(model, IMAGES, 10) is first
    with torch.no_grad():
        model.body[0].weight.mul_(2)
    second = standin.faster(model, IMAGES, 10)
    assert second is not None
    assert second is not first
    with torch.no_grad():
        torch.testing.assert_close(second(IMAGES), spread(model), rtol=1e-4, atol=1e-5)
    model.body[0].weight.data.mul_(0)  # a write that leaves no trace but other logits
    assert standin.faster(model, IMAGES, 10) is None
    assert standin.faster(model, IMAGES, 10, said=spread(model)) is None


def test_the_fastest_copy_that_agrees_is_chosen_once(monkeypatch, tmp_path):
    monkeypatch.setenv("NOTBUGS_CACHE", str(tmp_path))
    monkeypatch.setattr(choices, "_HERE", {})
    monkeypatch.setattr(standin, "WORTHWHILE", 0.0)
    monkeypatch.setattr(standin, "has_bf16", lambda device: True)
    model, timings = net(), []

    def seconds(logits, x):
        timings.append(logits)
        return [1.0, 0.8, 0.4][(len(timings) - 1) % 3]  # the model, float32, bf16

    monkeypatch.setattr(standin, "_seconds", seconds)
    logits = standin.faster(model, IMAGES, 10)
    assert len(timings) == 3
    with torch.no_grad():
        assert standin.agrees(spread(model), logits, IMAGES, "bf16")
        assert not standin.agrees(spread(model), logits, IMAGES, "float32")
    standin.faster(net(seed=2), IMAGES, 10)  # another model of the kind
    monkeypatch.setattr(choices, "_HERE", {})  # another process
    standin.faster(net(seed=3), IMAGES, 10)
    assert len(timings) == 3
    assert standin.faster(model, IMAGES, 10, low=False) is not None  # a question of its own
    assert len(timings) == 5
    (answer, _) = sorted(json.loads(f.read_text())["answer"] for f in tmp_path.rglob("*.json"))
    assert answer == "bf16"


def test_a_copy_that_saves_too_little_is_not_taken(monkeypatch):
    monkeypatch.setattr(choices, "_HERE", {})
    monkeypatch.setattr(standin, "has_bf16", lambda device: False)
    monkeypatch.setattr(
        standin, "_seconds", lambda logits, x: 1.0 if hasattr(logits, "__self__") else 0.95
    )
    assert standin._timed(net(), IMAGES, True) is None


def test_structures_tell_models_apart_by_cost_alone():
    assert standin.structure(net(seed=0)) == standin.structure(net(seed=1))
    assert standin.structure(net()) != standin.structure(net(nn.Conv2d(6, 6, 1)))
    assert standin.work(net(nn.Conv2d(6, 6, 3, padding=1)), IMAGES) > standin.work(net(), IMAGES)


def watched(monkeypatch):
    """The stand-ins that attacks are given from now on."""
    given, faster = [], room.faster

    def noted(*values, **named):
        given.append(faster(*values, **named))
        return given[-1]

    monkeypatch.setattr(room, "faster", noted)
    return given


def test_an_attack_through_a_stand_in_reports_what_the_model_says(eager, monkeypatch):
    model = net(centred=True)
    y = spread(model).argmax(dim=1)
    attack = pgd(Linf(), 0.02, steps=10)
    given = watched(monkeypatch)
    found = attack(model, IMAGES, y, seed=1)
    assert [stand_in is None for stand_in in given] == [False]
    said = model.logits(found.x_adv).argmax(dim=1)
    assert torch.equal(found.success, said != y)
    plain = attack(model, IMAGES, y, seed=1, fast=False)
    assert found.attack_success_rate > 0
    assert abs(found.attack_success_rate - plain.attack_success_rate) <= 1 / N


def test_answers_outlive_a_process_and_damage_is_no_answer(monkeypatch, tmp_path):
    monkeypatch.setenv("NOTBUGS_CACHE", str(tmp_path))
    monkeypatch.setattr(choices, "_HERE", {})
    assert choices.recall("q") is None
    choices.remember("q", "bf16")
    assert choices.recall("q") == "bf16"
    choices._HERE.clear()
    assert choices.recall("q") == "bf16"
    (kept,) = (cache_folder() / "choices").iterdir()
    for text in ("", "{}", '{"answer": 3}', "[1]"):
        kept.write_text(text)
        assert choices.recall("q") is None, text
    monkeypatch.setenv("NOTBUGS_CACHE", str(kept))  # a file, where no folder can be made
    choices.remember("other", "none")
    assert choices.recall("other") == "none"


def test_timing_leaves_the_models_gradients_alone():
    model = net()
    with frozen(model):
        assert standin._seconds(model.logits, IMAGES) > 0
    assert all(p.grad is None for p in model.parameters())

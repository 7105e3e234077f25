"""A result is verified by the model itself, which is not asked the same thing twice."""

import pytest
import torch

from notbugs.attacks import attack as room
from notbugs.attacks import pgd
from notbugs.core import random
from notbugs.engine import Linf
from notbugs.models import build, folded_copy

N = 20


def scene(monkeypatch: pytest.MonkeyPatch, noise):
    """A net, its images, and a stand-in whose logits are off by `noise`; questions counted."""
    model = build("mlp", shape=(1, 6, 6), classes=4, seed=2).eval()
    x = random.uniform(random.row_keys(N, "asked"), (1, 6, 6))
    with torch.no_grad():
        y = model.logits(x).argmax(dim=1)
    folded_copy.work(model, x)  # counted once a model, by a pass over one image
    body = model.body
    off = -noise * torch.nn.functional.one_hot(y.mode().values, 4)  # takes the commonest away

    def stand_in(x):
        return body(model.normalise(x)) + off

    monkeypatch.setattr(room, "copy_to_attack", lambda *given, **named: stand_in)
    asked = []
    model.register_forward_hook(lambda module, given, out: asked.append(given[0].detach()))
    return model, x, y, asked


def test_the_last_answer_serves_to_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y, asked = scene(monkeypatch, 0.0)
    found = pgd(Linf(), 0.05, steps=5)(model, x, y)
    # The clean images, two of them behind others, one's gradient, and the results: once each.
    assert [len(question) for question in asked] == [N, 4, 1, N]
    assert torch.equal(asked[-1], found.x_adv)
    assert found.forwards == (5 + 1 + 1 + 1) * N
    with torch.no_grad():
        assert torch.equal(found.success, model.logits(found.x_adv).argmax(dim=1) != y)


def test_a_stand_in_that_claims_too_much_is_not_believed(monkeypatch: pytest.MonkeyPatch) -> None:
    model, x, y, asked = scene(monkeypatch, 3.0)
    found = pgd(Linf(), 0.02, steps=5)(model, x, y)
    assert len(asked) > 3  # rows whose success was denied were attacked on the model
    # The whole batch was asked about twice: clean, and what the stand-in made of it. After
    # that the model is asked about the denied rows alone.
    assert [len(question) for question in asked].count(N) == 2
    assert 0 < len(asked[-1]) < N
    with torch.no_grad():
        said = model.logits(found.x_adv).argmax(dim=1)
    assert torch.equal(found.success, said != y)

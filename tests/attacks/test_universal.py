"""One perturbation for many images."""

import pytest
import torch

from nets import small_net
from notbugs.attacks import predicted
from notbugs.attacks.universal import universal
from notbugs.core import random
from notbugs.engine import L1, L2, Linf

N = 60
THREATS = [(Linf(), 0.15), (L2(), 1.0), (L1(), 8.0)]


def net():
    return small_net(N)


@pytest.mark.parametrize(("norm", "eps"), THREATS, ids=["linf", "l2", "l1"])
def test_one_change_fools_most_images_where_noise_fools_few(norm, eps) -> None:
    model, x, y = net()
    found = universal(model, x, norm, eps, epochs=5, batch=20)
    assert float(norm.size(found.delta)) <= eps * (1 + 1e-5)
    with torch.no_grad():
        after = predicted(model.logits(found.apply(x)))
        noise = norm.sample(x[:1], torch.tensor([eps]), random.row_keys(1, "noise"))
        by_noise = predicted(model.logits((x + noise).clamp(0, 1)))
    assert found.fooling_rate == pytest.approx(100 * float((after != y).float().mean()))
    assert found.fooling_rate > 50
    assert found.fooling_rate > 100 * float((by_noise != y).float().mean()) + 10


def test_it_also_fools_images_it_has_not_seen() -> None:
    model, x, y = net()
    found = universal(model, x[:30], Linf(), 0.2, epochs=5, batch=10)
    noise = Linf().sample(x[30:], torch.full((30,), 0.2), random.row_keys(30, "noise"))
    with torch.no_grad():
        after = predicted(model.logits(found.apply(x[30:])))
        by_noise = predicted(model.logits((x[30:] + noise.sign() * 0.2).clamp(0, 1)))
    fooled, by_chance = ((z != y[30:]).float().mean() for z in (after, by_noise))
    assert float(fooled) > float(by_chance) + 0.1


def test_a_target_is_reached_by_most_images() -> None:
    model, x, _ = net()
    found = universal(model, x, Linf(), 0.3, target=2, epochs=8, batch=20)
    with torch.no_grad():
        after = predicted(model.logits(found.apply(x)))
    assert found.fooling_rate == pytest.approx(100 * float((after == 2).float().mean()))
    assert found.fooling_rate > 80


def test_it_repeats_itself_counts_its_passes_and_leaves_the_model_alone() -> None:
    model, x, y = net()
    model.train()
    one, again = (universal(model, x, Linf(), 0.1, y=y, epochs=2, batch=32) for _ in range(2))
    assert torch.equal(one.delta, again.delta)
    assert (one.forwards, one.backwards) == (6 * N, 2 * N)
    assert model.training
    assert all(p.grad is None for p in model.parameters())
    other = universal(model, x, Linf(), 0.1, y=y, epochs=2, batch=32, seed=1)
    assert not torch.equal(one.delta, other.delta)


def test_bad_options_are_refused() -> None:
    model, x, _ = net()
    with pytest.raises(ValueError, match="`target` must lie in"):
        universal(model, x, Linf(), 0.1, target=5)
    with pytest.raises(ValueError, match="`epochs` must be at least 1"):
        universal(model, x, Linf(), 0.1, epochs=0)
    with pytest.raises(ValueError, match="`eps` must be"):
        universal(model, x, Linf(), 0.0)
    with pytest.raises(ValueError, match="`step_size` must be"):
        universal(model, x, Linf(), 0.1, step_size=-1.0)
    with pytest.raises(ValueError, match="`x` must lie in"):
        universal(model, 3 * x, Linf(), 0.1)

import pytest
import torch

from nets import small_net
from notbugs.attacks.cw_l2 import cw_l2
from notbugs.attacks.every_target import best_average_worst
from notbugs.attacks.pgd import pgd
from notbugs.core import random
from notbugs.engine import Linf

N = 6


def net():
    return small_net(N, classes=4)


def test_every_class_but_the_true_one_is_aimed_at_and_the_cases_follow() -> None:
    model, x, y = net()
    found = best_average_worst(cw_l2(steps=40, search_steps=6), model, x, y)
    assert found.distance.shape == found.success.shape == (N, 4)
    assert bool(found.distance.gather(1, y[:, None]).isinf().all())
    torch.testing.assert_close(found.best, found.distance.amin(dim=1))
    for row in range(N):
        reached = found.distance[row][found.success[row]]
        torch.testing.assert_close(found.average[row], reached.mean())
        worst = reached.max() if len(reached) == 3 else torch.tensor(float("inf"))
        torch.testing.assert_close(found.worst[row], worst)
    torch.testing.assert_close((found.x_best - x).flatten(1).norm(dim=1), found.best)
    with torch.no_grad():
        assert bool((model.logits(found.x_best).argmax(dim=1) == found.distance.argmin(1)).all())
    some, mean, every = found.attack_success_rate
    assert some == 100
    assert some >= mean >= every > 0


def test_targets_that_are_never_reached_are_infinite() -> None:
    model, x, y = net()
    found = best_average_worst(pgd(Linf(), 1e-5, steps=1), model, x, y)
    assert not bool(found.success.any())
    assert bool(found.average.isinf().all())
    assert bool(found.worst.isinf().all())
    assert bool((found.x_best == x).all())
    assert found.attack_success_rate == (0, 0, 0)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    model, x, y = net()
    keys, attack = random.row_keys(N, "keys"), pgd(Linf(), 0.1, steps=5)
    whole = best_average_worst(attack, model, x, y, keys=keys)
    part = torch.tensor([4, 1])
    again = best_average_worst(attack, model, x[part], y[part], keys=keys[part])
    torch.testing.assert_close(again.distance, whole.distance[part])


def test_bad_labels_are_refused() -> None:
    model, x, y = net()
    with pytest.raises(ValueError, match="y"):
        best_average_worst(cw_l2(steps=5), model, x, y + 4)

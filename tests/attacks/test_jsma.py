import pytest
import torch
from torch import nn

from nets import in_parts, small_net
from notbugs.attacks.jsma import jsma
from notbugs.core import random
from notbugs.engine.saliency import best_pair
from notbugs.engine.stalled import Stalled
from notbugs.models import wrap

N = 12
EACH_VARIANT = pytest.mark.parametrize("variant", ["Z", "F"])


class Weighted(nn.Module):
    """Two classes; class 1 leads when the weighted sum of pixels exceeds 1.5."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.layer = nn.Flatten(), nn.Linear(16, 2)
        with torch.no_grad():
            self.layer.weight[1] = torch.linspace(1, 0.1, 16)
            self.layer.weight[0] = -self.layer.weight[1]
            self.layer.bias.copy_(torch.tensor([1.5, -1.5]))

    def forward(self, x):
        return self.layer(self.flat(x))


def net():
    return small_net(N)


def all_pairs(gain, loss, room):
    a, b = gain[:, :, None] + gain[:, None], loss[:, :, None] + loss[:, None]
    fit = (a > 0) & (b > 0) & room[:, :, None] & room[:, None]
    fit &= ~torch.eye(gain.shape[1], dtype=torch.bool)
    return torch.where(fit, a * b, -torch.inf).flatten(1).amax(dim=1)


@pytest.mark.parametrize("slope", [1.0, 0.0, -1.0])
def test_the_pair_is_the_best_of_all(slope) -> None:
    keys = random.row_keys(60, "pairs")
    gain = random.normal(random.fold(keys, "gain"), (25,))
    loss = random.normal(random.fold(keys, "loss"), (25,)) * 0.6 + slope * gain
    loss[:10] = loss[:10].round()  # ties
    gain[:10] = gain[:10].round()
    room = random.uniform(keys, (25,)) < 0.7
    room[-1], loss[-2] = False, -5.0
    pair, found = best_pair(gain, loss, room)
    wanted = all_pairs(gain, loss, room)
    assert torch.equal(found, wanted > -torch.inf)
    assert bool(found.any())
    assert not bool(found[-2:].any())
    assert bool((pair[found, 0] != pair[found, 1]).all())
    assert bool(room.gather(1, pair)[found].all())
    score = gain.gather(1, pair).sum(dim=1) * loss.gather(1, pair).sum(dim=1)
    torch.testing.assert_close(score[found], wanted[found])


@EACH_VARIANT
@pytest.mark.parametrize("targeted", [False, True])
def test_the_heaviest_pixels_of_a_linear_model_are_lit_in_pairs(variant, targeted) -> None:
    model = wrap(Weighted(), shape=(1, 4, 4), classes=2, embedding="flat")
    x, y = torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64)
    x[1] = 0.05
    found = jsma(variant=variant, share=1.0)(model, x, y, targets=1 - y if targeted else None)
    assert bool(found.success.all())
    assert found.distance.tolist() == [2, 2]
    assert bool((found.x_adv.flatten(1)[:, :2] == 1).all())
    assert found.steps.tolist() == [1, 1]


@EACH_VARIANT
def test_a_net_falls_within_the_share_and_changes_go_one_way(variant) -> None:
    model, x, y = net()
    found = jsma(variant=variant, share=0.5)(model, x, y)
    assert found.attack_success_rate > 50
    assert bool((found.distance <= 32).all())
    assert bool((found.x_adv >= x).all())
    assert bool(((found.x_adv == x) | (found.x_adv == 1)).all())
    darker = jsma(variant=variant, share=0.5, change=-1.0)(model, x, y)
    assert darker.attack_success_rate > 30
    assert bool(((darker.x_adv == x) | (darker.x_adv == 0)).all())


def test_probabilities_cost_one_gradient_a_step_and_logits_two() -> None:
    model, x, y = net()
    for variant, cost in (("Z", 2), ("F", 1)):
        found = jsma(variant=variant, share=0.05)(model, x, y)
        # Two features of 64 at most: one step, on rows that still stand.
        assert found.backwards <= cost * N


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    model, x, y = net()
    whole, parts = in_parts(jsma(), model, x, y, 5)
    for part, again in parts:
        torch.testing.assert_close(again.x_adv, whole.x_adv[part])
        assert torch.equal(again.success, whole.success[part])


def test_a_row_without_a_pair_gives_up_early() -> None:
    model = wrap(Weighted(), shape=(1, 4, 4), classes=2, embedding="flat")
    with torch.no_grad():
        model.body.layer.weight.zero_()
    x = torch.full((1, 1, 4, 4), 0.5)
    found = jsma(share=1.0)(model, x, torch.tensor([0]))
    assert not bool(found.success)
    assert bool((found.x_adv == x).all())
    assert int(found.steps) <= 3


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="variant"):
        jsma(variant="X")
    with pytest.raises(ValueError, match="share"):
        jsma(share=0.0)
    with pytest.raises(ValueError, match="change"):
        jsma(change=0.0)
    with pytest.raises(ValueError, match="patience"):
        Stalled(0)

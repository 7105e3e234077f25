import pytest
import torch

from nets import in_parts, small_net
from notbugs.attacks.cw_l0 import cw_l0
from notbugs.models import wrap

N = 4


class Weighted(torch.nn.Module):
    """Two classes; the logits' difference is the sum of weighted pixels, less a bias a half."""

    def __init__(self) -> None:
        super().__init__()
        self.flat, self.layer = torch.nn.Flatten(), torch.nn.Linear(16, 2)
        with torch.no_grad():
            self.layer.weight.zero_()
            self.layer.weight[1] = torch.linspace(1, 0.1, 16)
            self.layer.bias.copy_(torch.tensor([0.0, -1.5]))

    def forward(self, x):
        return self.layer(self.flat(x))


def net():
    return small_net(N)


@pytest.mark.parametrize("targeted", [False, True])
def test_the_fewest_pixels_of_a_linear_model(targeted) -> None:
    model = wrap(Weighted(), shape=(1, 4, 4), classes=2, embedding="flat")
    x = torch.full((3, 1, 4, 4), 0.0)
    x[1], x[2] = 0.05, 0.1
    y = torch.zeros(3, dtype=torch.int64)
    # Greedily to 1, the heaviest first: the exact answer for a linear model.
    w = torch.linspace(1, 0.1, 16)
    room = ((1 - x.flatten(1)) * w).cumsum(dim=1) + (x.flatten(1) * w).sum(dim=1, keepdim=True)
    fewest = (room <= 1.5).sum(dim=1) + 1
    found = cw_l0(steps=50, initial_c=1.0, growth=10.0, largest_c=1e3)(
        model, x, y, targets=1 - y if targeted else None
    )
    assert bool(found.success.all())
    assert bool((found.distance <= fewest + 1).all())
    assert bool((found.distance >= fewest).all())


def test_a_net_falls_to_few_pixels_and_the_rest_is_untouched() -> None:
    model, x, y = net()
    found = cw_l0(steps=25, growth=10.0, largest_c=1e3)(model, x, y)
    assert found.attack_success_rate == 100
    assert float(found.distance.mean()) < 8
    assert bool(((found.x_adv != x).flatten(1).sum(dim=1) == found.distance).all())
    assert found.backwards > 0
    assert bool((found.steps > 0).all())


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    model, x, y = net()
    whole, parts = in_parts(cw_l0(steps=12, growth=10.0, largest_c=20.0), model, x, y, 2)
    for part, again in parts:
        # A count can move by one where rounding decides a rank.
        assert int((again.distance - whole.distance[part]).abs().max()) <= 1
        assert torch.equal(again.success, whole.success[part])


def test_images_that_need_no_change_are_returned_as_they_are() -> None:
    model, x, y = net()
    found = cw_l0(steps=5)(model, x, (y + 1) % 5)
    assert bool((found.distance == 0).all())
    assert found.backwards == 0


def test_bad_options_are_refused() -> None:
    with pytest.raises(ValueError, match="steps"):
        cw_l0(steps=0)
    with pytest.raises(ValueError, match="growth"):
        cw_l0(growth=0.5)
    with pytest.raises(ValueError, match="largest_c"):
        cw_l0(initial_c=10.0, largest_c=1.0)
    with pytest.raises(ValueError, match="objective"):
        cw_l0(objective="f0")

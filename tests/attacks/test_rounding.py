"""A success holds in a batch of another size, where rounding moves the logits."""

from dataclasses import dataclass

import pytest
import torch

from nets import PARTS, digits_net
from notbugs import attacks
from notbugs.attacks.decisions import Oracle
from notbugs.attacks.losses import margin
from notbugs.engine import L2, AbstractObjective, Evaluation, Linf
from notbugs.models.decision import rounding_tolerance

N = 128
X, Y = PARTS.test.pixels()[:N], PARTS.test.labels[:N]
NEAREST = {
    "fmn linf": attacks.fmn(Linf(), steps=50),
    "fmn l2": attacks.fmn(L2(), steps=50),
    "ddn": attacks.ddn(steps=50),
    "alma": attacks.alma(steps=50),
    "fab l2": attacks.fab(L2(), steps=10),
    "fab in a ball": attacks.fab(Linf(), 0.2, steps=10),
    "deepfool": attacks.deepfool(L2()),
    "cw": attacks.cw_l2(steps=20, search_steps=3),
    "hop skip jump": attacks.hop_skip_jump(Linf(), steps=2, draws=20),
    "pgd that stops": attacks.pgd(Linf(), 0.1, steps=10, stop_on_success=True),
}


@pytest.fixture(scope="module")
def net():
    return digits_net().eval()


def logits(model, x, size):
    with torch.no_grad():
        return torch.cat([model.logits(part) for part in x.split(size)])


def leads(model, x, size):
    """How far another class leads the true one, as a share of the largest logit."""
    z = logits(model, x, size)
    return margin(z, Y) / z.abs().amax(dim=1)


@dataclass(frozen=True)
class ByArgmax(AbstractObjective):
    """`Untargeted` as it was: any lead of another class is a success, however small."""

    inner: attacks.Untargeted

    def __call__(self, x, context, draw) -> Evaluation:
        found = self.inner(x, context, draw)
        said = found.outputs.detach().argmax(dim=1)
        return Evaluation(found.value, said != context["y"], found.outputs)


def test_without_a_bound_the_nearest_successes_hang_on_rounding(net) -> None:
    """The trouble: leads of a few units in the last place, which another batch undoes."""
    attack = NEAREST["fmn linf"]
    objective, context = attack.objective(net.logits, Y, None)
    keys = torch.arange(N)
    found = attack.solver.minimise(ByArgmax(objective), X, context, keys=keys)
    lead = leads(net, found.x, N)
    assert bool(found.success.all())
    assert int((lead < 1e-5).sum()) >= 5
    assert float(lead.min()) < 2e-6  # as far as logits were seen to move between batches


@pytest.mark.parametrize("name", NEAREST)
def test_a_success_leads_by_more_than_rounding_in_batches_of_any_size(name, net) -> None:
    found = NEAREST[name](net, X, Y)
    assert int(found.success.sum()) > N // 4
    for size in (1, 7, 64, N):
        z = logits(net, found.x_adv, size)
        # Half a tolerance when verified, less what another size changes.
        assert bool((margin(z, Y) > 0.4 * rounding_tolerance(z))[found.success].all())
        wrong = z.argmax(dim=1) != Y
        assert bool(wrong[found.success].all())


def test_the_bound_costs_next_to_no_distance(net) -> None:
    attack = NEAREST["fmn linf"]
    objective, context = attack.objective(net.logits, Y, None)
    loose = attack.solver.minimise(ByArgmax(objective), X, context, keys=torch.arange(N))
    nearest = Linf().size(loose.x - X).mean()
    found = attack(net, X, Y)
    assert bool(found.success.all())
    assert float(found.distance.mean()) < 1.001 * float(nearest)


def test_batches_of_one_report_what_a_batch_of_all_reports(net) -> None:
    attack, keys = NEAREST["fmn linf"], torch.arange(N)
    whole = attack(net, X, Y, keys=keys)
    again = attack(net, X[:16], Y[:16], keys=keys[:16])
    assert torch.equal(whole.success[:16], again.success)
    for row in range(4):
        one = slice(row, row + 1)
        assert bool(attack(net, X[one], Y[one], keys=keys[one]).success) == bool(whole.success[row])


def test_a_decision_that_hangs_on_rounding_is_not_reached() -> None:
    close = Oracle(lambda x: torch.tensor([[100.0, 100.0 + 5e-5]]).expand(len(x), 2), False)
    clear = Oracle(lambda x: torch.tensor([[100.0, 100.1]]).expand(len(x), 2), False)
    x, y = torch.zeros(3, 1, 2, 2), torch.zeros(3, dtype=torch.int64)
    assert close(x, y).tolist() == [False] * 3
    assert clear(x, y).tolist() == [True] * 3
    assert (close.forwards, clear.forwards) == (3, 3)

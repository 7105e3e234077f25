"""What an evaluation's own record tells of masking, and how a number that it taints is shown."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console
from scipy.special import bdtrc
from torch import nn

from nets import small_net
from notbugs.attacks import apgd, margin
from notbugs.attacks.square import square
from notbugs.cli.evaluate import Evaluate
from notbugs.core import random
from notbugs.data import ImageData
from notbugs.engine import Linf, Threat
from notbugs.judge import estimate, evaluate
from notbugs.judge.chance import at_least, noticed
from notbugs.judge.signs import LEVEL, MISSED, after_gradients, searched
from notbugs.judge.verdict import AttackRecord, Verdict
from notbugs.models import Classifier

EPS = 0.03
THREAT = Threat(Linf(), EPS)
NET, X, Y = small_net(40)
DATA = ImageData(X, Y, tuple("abcde"), "noise")
GRADIENTS, SEARCH = apgd(Linf(), EPS, steps=20, loss=margin), square(Linf(), EPS, steps=200)


class Around(nn.Module):
    """A net's logits with something done to them."""

    def __init__(self, net, change) -> None:
        super().__init__()
        self.net, self.change, self.flat = net, change, nn.Flatten()

    def forward(self, x):
        return self.change(self.net(x), x)


def around(net, change):
    body = Around(net, change)
    return Classifier(body, shape=net.shape, classes=net.classes, embedding="flat").eval()


def surrogate(net):
    """Forward by one net, backward by another."""
    other, _, _ = small_net(1, seed=5)
    return around(net, lambda z, x: z.detach() + other(x) - other(x).detach())


def judged(model, attacks=(GRADIENTS, SEARCH), data=DATA):
    return evaluate(model, data, THREAT, attacks=list(attacks))


def entry(verdict, name):
    return next((c for c in verdict.masking if c["check"] == name), None)


def test_what_a_search_breaks_after_gradients_is_evidence() -> None:
    verdict = judged(surrogate(NET))
    assert verdict.attacks[1].broken > 5
    line = entry(verdict, "search after gradients")
    assert line["verdict"] == "suspicious"
    assert line["evidence"].startswith(f"{verdict.attacks[1].broken} of ")
    assert "would be detected" in line["evidence"]
    assert verdict.is_upper_bound


def test_an_honest_model_gives_none() -> None:
    verdict = judged(NET)
    assert entry(verdict, "search after gradients")["verdict"] == "clear"
    assert not verdict.is_upper_bound


def test_only_a_search_after_gradients_counts() -> None:
    verdict = replace(
        verdict_with(), attacks=(AttackRecord("a", 2, 1.0), AttackRecord("b", 3, 1.0))
    )
    for kinds in ([True, True], [False, False], [False, True]):
        assert searched(verdict, kinds) is None
    found = searched(verdict, [True, False])
    assert found["verdict"] == "suspicious"
    assert found["evidence"].startswith("3 of 7 images")


def test_a_model_without_gradients_is_judged_by_what_needs_none() -> None:
    model = around(NET, lambda z, x: z.detach())
    verdict = judged(model)
    assert [a.name for a in verdict.attacks] == [SEARCH.name]
    assert verdict.attacks[0].broken > 0
    assert verdict.left_out == (GRADIENTS.name,)
    line = entry(verdict, "zero gradients")
    assert line["verdict"] == "suspicious"
    assert line["evidence"] == f"none at all: {GRADIENTS.name} left out"
    told = verdict.as_json()
    assert told["robust_accuracy_is_upper_bound"] is True
    assert told["left_out"] == [GRADIENTS.name]
    assert estimate(model, DATA, [GRADIENTS, SEARCH]) > 0
    with pytest.raises(ValueError, match=r"without gradients\. .*use square"):
        judged(model, [GRADIENTS])


def verdict_with(*checks) -> Verdict:
    right = torch.ones(4, dtype=torch.bool)
    found = tuple({"check": n, "evidence": "e", "verdict": v} for n, v in checks)
    record = (AttackRecord("PGD", 0, 1.0),)
    whole = torch.full((4,), -1)
    return Verdict(
        THREAT, right, right, whole, record, 1.0, 4, 0.0, ~right, ~right, diagnosis=found
    )


def test_any_firing_check_makes_the_number_an_upper_bound() -> None:
    clear = verdict_with(("a", "clear"), ("b", "clear"))
    fires = verdict_with(("a", "clear"), ("b", "suspicious"))
    assert not clear.is_upper_bound
    assert clear.as_json()["robust_accuracy_is_upper_bound"] is False
    assert fires.is_upper_bound
    assert fires.as_json()["robust_accuracy_is_upper_bound"] is True
    search = {"check": "s", "evidence": "e", "verdict": "suspicious"}
    assert replace(clear, search_check=search).is_upper_bound


@pytest.mark.parametrize("broken", [0, 1, 2, 3, 13])
def test_the_exact_test_of_what_gradients_left(broken) -> None:
    evidence, suspicious = after_gradients(broken, 40)
    assert suspicious == (broken >= 3)
    assert f"{broken} of 40 images" in evidence
    assert "would be detected" in evidence


def test_too_few_images_tell_nothing() -> None:
    assert after_gradients(0, 0) == (
        "0 of 0 images unbroken by gradients were broken without them (too few to tell)",
        False,
    )
    assert not after_gradients(1, 1)[1]
    assert after_gradients(2, 2)[1]


@pytest.mark.parametrize("n", [1, 7, 100, 5000])
@pytest.mark.parametrize("rate", [0.01, 0.3, 0.5])
def test_tails_are_scipys(n, rate) -> None:
    for k in {0, 1, n // 3, n // 2, n}:
        wanted = 1.0 if k == 0 else bdtrc(k - 1, n, rate)
        assert at_least(k, n, rate) == pytest.approx(wanted, rel=1e-9, abs=1e-300)


def test_edges_of_the_tail() -> None:
    assert at_least(3, 2, 0.5) == 0
    assert at_least(1, 4, 0.0) == 0
    assert at_least(4, 4, 1.0) == 1


def test_the_share_that_is_noticed_is_noticed() -> None:
    share = noticed(40, MISSED, LEVEL, 0.95)
    assert at_least(3, 40, share) == pytest.approx(0.95, abs=1e-2)
    assert noticed(1000, MISSED, LEVEL, 0.95) < share
    assert noticed(0, MISSED, LEVEL, 0.95) is None
    keys = random.row_keys(40 * 200, "power")
    draws = (random.scalar(keys) < share).reshape(200, 40).sum(dim=1)
    fired = sum(after_gradients(int(k), 40)[1] for k in draws)
    assert fired >= 0.9 * 200


def test_rows_that_depend_on_their_neighbours_are_refused_before_any_work() -> None:
    model = around(NET, lambda z, x: z - z.mean(dim=0, keepdim=True) / 2)
    with pytest.raises(ValueError, match=r"first in Around `body`"):
        judged(model)
    with pytest.raises(ValueError, match=r"first in Around `body`"):
        estimate(model, DATA, [SEARCH])


def test_the_terminal_says_at_most(capsys: pytest.CaptureFixture[str]) -> None:
    command = Evaluate(weights=Path("w"), threat="linf:0.03")
    for verdict, said in (
        (verdict_with(("a", "clear")), False),
        (verdict_with(("a", "suspicious")), True),
    ):
        command._print(Console(width=200), DATA, replace(verdict, left_out=("PGD-20",)))
        shown = capsys.readouterr().out
        assert ("Robust accuracy at most 100.00 %" in shown) == said
        assert ("not broken % (at most)" in shown) == said
        assert ("An upper bound, not a measurement: a" in shown) == said
        assert "has no gradients, so these were left out: PGD-20." in shown

"""Models random in themselves: judged by majorities, attacked on their average."""

from collections.abc import Iterator

import pytest
import torch
from torch import nn

from nets import PARTS
from notbugs.attacks import bim, feature_distance, pgd, predicted
from notbugs.engine import Linf, Never, Threat
from notbugs.judge import (
    diagnose,
    evaluate,
    evaluation_pgd,
    identity,
    measurements,
    standard_attacks,
)
from notbugs.judge.masked_models import noisy_model
from notbugs.models import wrap

DATA = PARTS.test.select(slice(0, 60))
X, Y = DATA.pixels(), DATA.labels
THREAT = Threat.parse("linf:0.04")
AGREE = "two passes agree"


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """Such models draw from the global generator."""
    with torch.random.fork_rng():
        torch.random.manual_seed(0)
        yield


@pytest.fixture(scope="module")
def noisy(plain_model):
    return noisy_model(plain_model).eval()


def wrong(model, x):
    """Rows that 101 fresh passes put in another class by majority: the truth, nearly."""
    with torch.no_grad():
        wrong = [predicted(model.logits(x)) != Y for _ in range(101)]
    return torch.stack(wrong).float().mean(dim=0) > 0.5


def fallen(verdict):
    return int((verdict.right & ~verdict.robust).sum())


def test_noise_alone_hardly_breaks_anything(noisy) -> None:
    """A radius too small to matter: what single passes call broken is luck."""
    tiny = Threat.parse("linf:0.0005")
    attacks = [evaluation_pgd(tiny, steps=3)] * 8
    single = evaluate(noisy, DATA, tiny, attacks=attacks)
    voted = evaluate(noisy, DATA, tiny, attacks=attacks, samples=25)
    assert fallen(single) >= 5
    assert fallen(voted) <= 3
    assert fallen(voted) < fallen(single)
    assert abs(60 - int(voted.right.sum()) - int(wrong(noisy, X).sum())) <= 2


def test_averaging_breaks_more_and_what_it_calls_broken_is(noisy) -> None:
    attack = evaluation_pgd(THREAT)
    single, averaged = attack(noisy, X, Y), attack.with_samples(9)(noisy, X, Y)
    before, after = wrong(noisy, single.x_adv), wrong(noisy, averaged.x_adv)
    assert int(after.sum()) >= int(before.sum()) + 4  # 22 of 60 where single passes have 13
    assert int((single.success != before).sum()) >= 5
    assert int((averaged.success != after).sum()) <= 3
    verdict = evaluate(noisy, DATA, THREAT, attacks=[attack], samples=9)
    assert int((~verdict.robust).sum()) >= int(before.sum())


def test_the_verdict_says_how_a_random_model_was_judged(noisy, plain_model) -> None:
    def line(verdict):
        return next(entry for entry in verdict.masking if entry["check"] == AGREE)

    attacks = [evaluation_pgd(THREAT, steps=2)]
    single = evaluate(noisy, DATA, THREAT, attacks=attacks)
    assert line(single)["verdict"] == "suspicious"
    assert (
        "judged by single passes: evaluate it with samples=8 (--samples 8)"
        in (line(single)["evidence"])
    )
    voted = evaluate(noisy, DATA, THREAT, attacks=attacks, samples=4)
    assert "judged by the majority of 4 passes" in line(voted)["evidence"]
    assert (voted.samples, voted.as_json()["samples"]) == (4, 4)
    honest = evaluate(plain_model, DATA, THREAT, attacks=attacks)
    assert line(honest)["verdict"] == "clear"
    assert "samples" not in line(honest)["evidence"]
    assert "samples" not in honest.as_json()
    # One look at the clean images; the attack's steps, last look and two verifications.
    right = int(voted.right.sum())
    assert voted.forwards == 4 * (60 + right * (2 + 1 + 2))


def test_the_diagnosis_names_what_was_done(noisy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measurements, "QUERIES", 10)  # of no use here
    found = diagnose(noisy, DATA.select(slice(0, 2)), THREAT, samples=3)
    (line,) = [entry for entry in found if entry["check"] == AGREE]
    assert line["verdict"] == "suspicious"
    assert "judged by the majority of 3 passes" in line["evidence"]


def test_passes_change_nothing_where_the_model_repeats_itself(plain_model) -> None:
    attacks = [evaluation_pgd(THREAT), pgd(Linf(), 0.04, stop_on_success=True)]
    once = evaluate(plain_model, DATA, THREAT, attacks=attacks)
    voted = evaluate(plain_model, DATA, THREAT, attacks=attacks, samples=3)
    assert 0 < fallen(once) < 60
    assert torch.equal(once.broken_by, voted.broken_by)
    assert torch.equal(once.right, voted.right)


class Turns(nn.Module):
    """A model whose every pass gives the next of a list of answers, whatever the images."""

    def __init__(self, answers) -> None:
        super().__init__()
        self.flat, self.answers, self.passes = nn.Flatten(), answers, 0

    def forward(self, x):
        answer = self.answers[self.passes % len(self.answers)]
        self.passes += 1
        sure = 9 * nn.functional.one_hot(torch.full((len(x),), answer), 3).to(x)
        return sure + 0 * self.flat(x).sum(dim=1, keepdim=True)


@pytest.mark.parametrize(
    ("answers", "right", "broken"),
    [
        ([1, 1, 1, 0], True, False),
        ([0, 0, 0, 1], False, True),
        ([0, 2, 0, 2], False, True),
        ([1, 0, 1, 0], False, False),  # neither right nor broken
    ],
)
def test_a_row_is_what_more_than_half_of_the_passes_say(answers, right, broken) -> None:
    model = wrap(Turns(answers), shape=(1, 2, 2), classes=3, embedding="flat")
    x, y = torch.full((2, 1, 2, 2), 0.5), torch.tensor([1, 1])
    model.body.passes = 0  # `wrap` tried it
    # Four on the clean images, one or four to see whether rows depend on their neighbours, one
    # to see a gradient, three of the attack, four at the end.
    found = pgd(Linf(), 0.1, steps=2)(model, x, y, votes=4, fast=False)
    assert model.body.passes in (13, 16)
    assert found.already_wrong.tolist() == [not right] * 2
    assert found.success.tolist() == [broken] * 2


def test_the_standard_evaluation_of_a_random_model() -> None:
    made = standard_attacks(THREAT, samples=8)
    assert [a.name for a in made] == ["APGD-100", "APGD-T-100", "Square-5000"]
    assert [a.votes for a in made] == [8, 8, 8]
    assert [a.passes for a in made] == [800, 7200, 40000]
    assert all(isinstance(a.solver.stop, Never) for a in made)
    with pytest.raises(ValueError, match=r"`samples` must be at least 1; got 0"):
        standard_attacks(THREAT, samples=0)


def test_averaging_keeps_what_an_attack_has_and_leaves_others_alone(plain_model) -> None:
    attack = evaluation_pgd(THREAT)
    assert attack.with_samples(1) is attack
    assert attack.with_samples(5).with_samples(3).samples == 5
    away = feature_distance(Linf(), 0.04, steps=2)
    assert away.with_samples(5) is away
    assert bim(0.04).with_samples(2).samples == 2
    base = identity(plain_model, DATA, THREAT, [attack], 0)
    assert identity(plain_model, DATA, THREAT, [attack], 0, 1) == base
    assert identity(plain_model, DATA, THREAT, [attack], 0, 2) != base


def test_bad_numbers_of_passes_are_named(plain_model) -> None:
    with pytest.raises(ValueError, match=r"`samples` must be at least 1; got 0"):
        evaluate(plain_model, DATA, THREAT, samples=0)
    with pytest.raises(ValueError, match=r"`votes` must be at least 1; got 0"):
        evaluation_pgd(THREAT)(plain_model, X, Y, votes=0)
    with pytest.raises(TypeError, match=r"`samples` must be an integer"):
        standard_attacks(THREAT, samples=True)

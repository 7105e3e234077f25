"""Attacks that give up, and the check that this costs no robust accuracy."""

import math
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch
from scipy import stats

from notbugs.attacks import AbstractAttack, cross_entropy, margin, pgd
from notbugs.attacks.apgd import apgd_targeted
from notbugs.attacks.fab import fab
from notbugs.attacks.square import square
from notbugs.core import random
from notbugs.data import ImageData
from notbugs.engine import L1, L2, GiveUp, Linf, OnSuccess, Plateau, Threat
from notbugs.engine.either import Either
from notbugs.judge import evaluate, standard_attacks
from notbugs.judge.ledger import Ledger
from notbugs.judge.missed import most_missed, share_checked
from notbugs.models import build

ROWS = 300
THREAT = Threat(L2(), 0.3)
CHECKED = math.ceil(share_checked(ROWS) * ROWS)


@pytest.fixture(scope="module")
def model_and_data():
    """A linear model and images that it has right by construction."""
    model = build("linear", shape=(1, 4, 4), classes=3, seed=0).eval()
    x = random.uniform(random.row_keys(ROWS, "given up"), (1, 4, 4))
    with torch.no_grad():
        y = model.logits(x).argmax(dim=1)
    return model, ImageData(x, y, tuple("abc"), "noise")


@dataclass(frozen=True)
class Lazy(AbstractAttack):
    """Returns the images as they are; its thorough form is another attack."""

    serious: AbstractAttack | None = None
    asked: tuple[list[int], ...] = ()

    @property
    def size(self):
        return self.threat.norm

    def find(self, victim, case):
        found = pgd(self.threat.norm, self.threat.eps, steps=1).find(victim, case)
        no = torch.zeros_like(found.success)
        return replace(found, x=case.x, success=no, gave_up=~no)

    def without_giving_up(self):
        return self if self.serious is None else self.serious


def test_where_a_checked_row_falls_all_rows_get_the_whole_attack(model_and_data) -> None:
    model, data = model_and_data
    serious = pgd(L2(), THREAT.eps, steps=10)
    found = evaluate(model, data, THREAT, attacks=[Lazy("Lazy", THREAT, serious)])
    alone = evaluate(model, data, THREAT, attacks=[serious])
    assert 0 < alone.robust_accuracy < 100
    assert found.attacks[0].checked == CHECKED
    assert found.attacks[0].broken_in_check > 0
    assert abs(found.robust_accuracy - alone.robust_accuracy) < 1  # other starts
    broken = found.attacks[0].broken_in_check
    assert found.as_json()["given_up"] == [
        {
            "name": "Lazy",
            "rows": 300,
            "checked": CHECKED,
            "broken_in_check": broken,
        }
    ]


def test_where_none_falls_the_others_are_left_alone(model_and_data) -> None:
    model, data = model_and_data
    serious = Lazy("Thorough", THREAT)
    found = evaluate(model, data, THREAT, attacks=[Lazy("Lazy", THREAT, serious)], diagnosis=False)
    assert (found.attacks[0].checked, found.attacks[0].broken_in_check) == (CHECKED, 0)
    assert found.robust_accuracy == 100
    # One pass for the clean image; 1 step, its look and the verification an attacked row.
    assert found.forwards == ROWS + 4 * (ROWS + CHECKED)


def test_on_few_images_no_attack_gives_up(model_and_data) -> None:
    """So many rows would be checked that giving up saves nothing."""
    model, data = model_and_data
    serious = pgd(L2(), THREAT.eps, steps=10)
    for rows in (7, 99, 199):
        few = data.select(slice(0, rows))
        found = evaluate(model, few, THREAT, attacks=[Lazy("Lazy", THREAT, serious)])
        assert (found.given_up, found.missed) == (0, 0)
        alone = evaluate(model, few, THREAT, attacks=[serious])
        assert torch.equal(found.robust, alone.robust)
    assert evaluate(model, data, THREAT, attacks=[Lazy("Lazy", THREAT)]).given_up == 0


def test_what_may_have_been_missed_is_at_most_one_percent_and_written(model_and_data) -> None:
    model, data = model_and_data
    attacks = [Lazy("Lazy", THREAT, Lazy("Thorough", THREAT)), Lazy("Last", THREAT)]
    found = evaluate(model, data, THREAT, attacks=attacks)
    assert (found.given_up, found.missed) == (ROWS, 3)
    assert found.as_json()["missed_at_most"] == {
        "images": 3, "percent_of_given_up": 1.0, "percent_of_judged": 1.0, "confidence": 95,
    }  # fmt: skip
    every = evaluate(model, data, THREAT, attacks=attacks[1:])
    assert "missed_at_most" not in every.as_json()


@pytest.mark.parametrize("images", [1, 50, 99, 100, 128, 1000, 10_000])
def test_the_share_that_is_checked_gives_the_bound(images) -> None:
    """Against the exact chance that a sample of given-up rows holds none of the missed ones."""
    share = share_checked(images)
    assert most_missed(share) <= images // 100
    for given_up in {1, max(images // 3, 1), images}:
        sample = math.ceil(share * given_up)
        missed = images // 100 + 1
        if missed <= given_up:
            assert stats.hypergeom.pmf(0, given_up, missed, sample) <= 0.05 + 1e-12
    assert most_missed(10 / 46) > 0.22 * 46  # what ten checked rows of 46 said
    assert most_missed(1.0) == 0


@pytest.mark.parametrize("parts", [(400, 0), (300, 100), (134, 133, 133)])
def test_the_bound_holds_for_the_rows_of_several_attacks_together(parts) -> None:
    """One missed row more than allowed, however spread: seldom overlooked by all checks."""
    share, overlooked = share_checked(400), 1.0
    missed = [5, 0] if 0 in parts else [6 - len(parts), *[1] * (len(parts) - 1)]
    assert sum(missed) == most_missed(share) + 1
    for given_up, bad in zip(parts, missed, strict=True):
        if given_up:
            overlooked *= stats.hypergeom.pmf(0, given_up, bad, math.ceil(share * given_up))
    assert overlooked <= 0.05


def test_where_one_attack_missed_a_row_the_rows_of_all_get_the_whole_attacks(
    model_and_data, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each attack's own check would leave the misses of several to add up beyond the bound."""
    model, data = model_and_data
    thorough, calls = Lazy("Thorough", THREAT), []
    serious = pgd(L2(), THREAT.eps, steps=10)
    whole = AbstractAttack.__call__

    def called(self, model, x, *given, **named):
        calls.append((self.name, len(x)))
        return whole(self, model, x, *given, **named)

    monkeypatch.setattr(AbstractAttack, "__call__", called)
    attacks = [Lazy("First", THREAT, thorough), Lazy("Second", THREAT, serious)]
    found = evaluate(model, data, THREAT, attacks=attacks, diagnosis=False)
    assert found.attacks[0].broken_in_check == 0 < found.attacks[1].broken_in_check
    shown = sum(n for name, n in calls if name == "Thorough")
    checked_and_broken = int((~found.robust[found.right]).sum())
    assert ROWS - checked_and_broken <= shown <= ROWS
    assert found.missed == 0


def test_a_later_attack_says_nothing_of_an_earlier_check(
    model_and_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the report nor when a run is cut in the later attack and goes on."""
    model, data = model_and_data
    attacks = [
        Lazy("Lazy", THREAT, Lazy("Thorough", THREAT)),
        pgd(L2(), THREAT.eps, steps=10),
        Lazy("Last", THREAT),
    ]
    whole = evaluate(model, data, THREAT, attacks=attacks)
    assert whole.robust_accuracy < 100
    assert (whole.attacks[0].checked, whole.attacks[0].broken_in_check) == (CHECKED, 0)
    add = Ledger.add

    def cut(self, attack, *given, **named) -> None:
        add(self, attack, *given, **named)
        if attack == 1:
            raise KeyboardInterrupt

    path = tmp_path / "state.json"
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add", cut)
        with pytest.raises(KeyboardInterrupt):
            evaluate(model, data, THREAT, attacks=attacks, save_to=path)
    found = evaluate(model, data, THREAT, attacks=attacks, save_to=path)
    assert torch.equal(found.broken_by, whole.broken_by)
    assert (found.forwards, found.zero_gradients) == (whole.forwards, whole.zero_gradients)
    assert found.attacks[0].broken_in_check == 0


def test_only_rows_that_were_given_up_are_checked(model_and_data) -> None:
    model, data = model_and_data
    attack = square(L2(), 0.3, steps=400, give_up=True)
    found = evaluate(model, data, THREAT, attacks=[attack], seed=1).attacks[0]
    assert 0 < found.given_up < ROWS - found.broken
    assert found.checked >= share_checked(ROWS) * found.given_up
    every = evaluate(model, data, THREAT, attacks=[attack], seed=1, thorough=True)
    assert every.attacks[0].given_up == 0


def test_a_sample_of_the_rows_given_up_gets_the_whole_attack(
    model_and_data, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, data = model_and_data
    attack, calls = square(L2(), 0.3, steps=400, give_up=True), []
    whole = AbstractAttack.__call__

    def called(self, model, x, *given, **named):
        calls.append((self, len(x)))
        return whole(self, model, x, *given, **named)

    monkeypatch.setattr(AbstractAttack, "__call__", called)
    found = evaluate(model, data, THREAT, attacks=[attack], seed=1).attacks[0]
    assert calls == [(attack, ROWS), (attack.without_giving_up(), found.checked)]
    assert found.checked == math.ceil(share_checked(ROWS) * found.given_up)


def test_where_a_checked_row_falls_late_all_rows_get_the_whole_attack(model_and_data) -> None:
    """Small steps of equal length bring success late: a forecast that they fade is wrong."""
    model, data = model_and_data
    attack = pgd(L2(), 0.3, steps=48, step_size=0.3 / 40, loss=margin, random_start=False)
    stop = Either(OnSuccess(), GiveUp("geometric", slack=1.0, continue_below=0.0))
    hasty = replace(attack, solver=replace(attack.solver, stop=stop))
    alone = evaluate(model, data, THREAT, attacks=[hasty.without_giving_up()])
    first = hasty(model, data.pixels(), data.labels)
    assert float(first.success.float().mean()) < alone.attacks[0].broken / ROWS
    found = evaluate(model, data, THREAT, attacks=[hasty])
    assert found.attacks[0].broken_in_check > 0
    assert torch.equal(found.robust, alone.robust)


def test_no_row_is_counted_twice(model_and_data) -> None:
    """Also where the model has fewer classes than the attack would try."""
    model, data = model_and_data
    attack = apgd_targeted(L2(), 0.3, steps=30, give_up=True)
    found = evaluate(model, data, THREAT, attacks=[attack]).attacks[0]
    assert 0 < found.given_up <= ROWS - found.broken
    assert share_checked(ROWS) * found.given_up <= found.checked <= found.given_up


def test_thorough_leaves_giving_up_out(model_and_data) -> None:
    model, data = model_and_data
    serious = pgd(L2(), THREAT.eps, steps=10)
    lazy = Lazy("Lazy", THREAT, serious)
    found = evaluate(model, data, THREAT, attacks=[lazy], thorough=True)
    assert torch.equal(found.robust, evaluate(model, data, THREAT, attacks=[serious]).robust)
    assert found.attacks[0].checked == 0


@pytest.mark.parametrize("stage", ["", "checked"])
def test_a_run_cut_at_any_stage_goes_on_to_the_same_end(
    model_and_data, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage
) -> None:
    model, data = model_and_data
    lazy = Lazy("Lazy", THREAT, pgd(L2(), THREAT.eps, steps=10))
    whole = evaluate(model, data, THREAT, attacks=[lazy])
    add = Ledger.add

    def cut(self, *given, **named) -> None:
        add(self, *given, **named)
        if named["stage"] == stage:
            raise KeyboardInterrupt

    path = tmp_path / "state.json"
    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "add", cut)
        with pytest.raises(KeyboardInterrupt):
            evaluate(model, data, THREAT, attacks=[lazy], save_to=path)
    found = evaluate(model, data, THREAT, attacks=[lazy], save_to=path)
    assert torch.equal(found.robust, whole.robust)
    assert (found.forwards, found.attacks[0].checked) == (whole.forwards, whole.attacks[0].checked)
    assert found.attacks[0].broken_in_check == whole.attacks[0].broken_in_check


@pytest.mark.parametrize("norm", [Linf(), L2(), L1()], ids=lambda norm: norm.name)
def test_thorough_forms_are_those_that_do_not_give_up(norm) -> None:
    for make in (apgd_targeted, fab, square):
        assert make(norm, 0.1, give_up=True).without_giving_up() == make(norm, 0.1)
        assert make(norm, 0.1).without_giving_up() == make(norm, 0.1)
    pairs = zip(
        standard_attacks(Threat(norm, 0.1)), standard_attacks(Threat(norm, 0.1), thorough=True),
        strict=True,
    )  # fmt: skip
    assert all(one.without_giving_up() == other for one, other in pairs)
    nested = Either(GiveUp(), Either(Plateau(5), GiveUp()))
    attack = pgd(norm, 0.1, steps=5)
    attack = replace(attack, solver=replace(attack.solver, stop=nested))
    assert attack.without_giving_up().solver.stop == Plateau(5)
    with pytest.raises(ValueError, match="Only the margin says how far"):
        square(norm, 0.1, loss=cross_entropy, give_up=True)
    assert square(norm, 0.1, stop_on_success=False, give_up=True).without_giving_up() == square(
        norm, 0.1, stop_on_success=False
    )


def test_giving_up_saves_most_of_the_passes_and_loses_no_row(model_and_data) -> None:
    model, data = model_and_data
    for attack in (
        apgd_targeted(L2(), 0.3, give_up=True),
        fab(L2(), 0.3, give_up=True),
        square(L2(), 0.3, steps=800, give_up=True),
    ):
        lazy = attack(model, data.pixels(), data.labels, seed=1)
        whole = attack.without_giving_up()(model, data.pixels(), data.labels, seed=1)
        assert torch.equal(lazy.success, whole.success), attack.name
        assert 0 < lazy.attack_success_rate < 100
        assert lazy.forwards < 0.5 * whole.forwards, attack.name

"""Claims decided and tables averaged by hand-made numbers."""

import random
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest

from notbugs.experiments import ilyas2019
from notbugs.experiments.config import config_for
from notbugs.experiments.numbers import Cell, Numbers, interval
from notbugs.experiments.rules import (
    AtLeast,
    AtMost,
    Claim,
    Decision,
    Exceeds,
    Given,
    decided,
)

CONFIG = replace(config_for("planted", "laptop"), eps_sets=(0.5, 1.0))
OURS, BOUND = Cell("t", "ours", "x"), Cell("t", "bound", "x")


def two(values, bound: float) -> Numbers:
    return Numbers({"t": {"ours": {"x": list(values)}, "bound": {"x": [bound] * len(values)}}})


def exceeds(values, bound: float = 0.0) -> bool | None:
    return Exceeds(OURS, BOUND).decide(two(values, bound)).holds


def at_least(values, bound: float) -> bool | None:
    return AtLeast(OURS, bound).decide(two(values, bound)).holds


def at_most(values, bound: float) -> bool | None:
    return AtMost(OURS, bound).decide(two(values, bound)).holds


def test_a_mean_is_decided_by_its_interval() -> None:
    assert exceeds([5.0, 5.0, 5.0]) is True
    assert exceeds([3.0, -3.0, 3.0, -3.0]) is None
    assert exceeds([5.0, float("nan"), 5.0]) is None
    assert exceeds([-5.0, -5.1, -5.2]) is False
    assert exceeds([0.0] * 3) is False
    assert at_least([0.0] * 3, 0.0) is at_most([0.0] * 3, 0.0) is True
    # mean 2, deviation 2 of 4 seeds: 2.353 standard errors of 1 each.
    values = [2 - 3**0.5, 2 + 3**0.5, 2 - 3**0.5, 2 + 3**0.5]
    assert exceeds(values, 2 - 2.36) is True
    assert exceeds(values, 2 - 2.35) is exceeds(values, 2 + 2.35) is None
    assert exceeds(values, 2 + 2.36) is False
    assert at_most(values, 2 + 2.36) is True
    assert at_least(values, 2 + 2.36) is False
    assert interval(values) == pytest.approx((2 - 2.3534, 2 + 2.3534), abs=1e-4)


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_decide_nothing(seeds) -> None:
    for values in ([5.0, 5.1], [-5.0, -5.1], [0.0, 100.0]):
        assert exceeds(values[:seeds]) is at_least(values[:seeds], 1) is None
        assert at_most(values[:seeds], 1) is None
        assert interval(values[:seeds]) is None


@pytest.mark.parametrize(("seeds", "before"), [(2, 0.15), (3, 0.09), (5, 0.058)])
def test_what_is_not_so_seldom_holds(seeds, before) -> None:
    """Differences of mean 0: two standard errors let far more than 5 % of them hold."""
    draws = np.random.default_rng(0).normal(size=(4000, seeds))
    held = sum(exceeds(values) is True for values in draws.tolist()) / len(draws)
    errors = draws.std(axis=1, ddof=1) / seeds**0.5
    old = (draws.mean(axis=1) > 2 * errors).mean()
    assert abs(old - before) < 0.015
    assert held == 0 if seeds < 3 else 0.04 < held < 0.06


def numbers() -> Numbers:
    parts = [
        (
            seed,
            {
                "sets": {
                    "D": {"clean": 90.0 + seed, "robust_half_eps": 10.0, "source_success": None},
                    **{
                        f"D_det at {eps}": {
                            "clean": 10.0 * eps + seed,
                            "shifted": 5.0,
                            "chance": 10.0,
                        }
                        for eps in (1, 4)
                    },
                }
            },
        )
        for seed in (0, 1, 2)
    ]
    return Numbers.collect(parts, 3)


def test_tables_hold_means_deviations_and_nulls() -> None:
    found = numbers()
    assert list(found.tables["sets"]) == ["D", "D_det at 1", "D_det at 4"]
    clean, success = Cell("sets", "D", "clean"), Cell("sets", "D", "source_success")
    assert found.mean(clean) == pytest.approx(91.0)
    assert found.spread(clean) == pytest.approx(1.0)
    assert found.mean(success) is None
    assert found.spread(success) is None
    assert found.columns("sets") == ["clean", "robust_half_eps", "shifted", "chance"]
    assert found.values(Cell("sets", "D_det at 4", "clean")) == (40.0, 41.0, 42.0)
    assert found.values(Cell("sets", "D_R", "clean")) == ()


def decisions(found: Numbers, radii: tuple[float, ...] = (0.5, 1.0)) -> Mapping[str, Decision]:
    return decided(ilyas2019.claims(replace(CONFIG, eps_sets=radii)), found)


def test_claims_are_decided_by_their_inequality_at_the_largest_radius() -> None:
    found = decisions(numbers(), (4.0, 1.0))
    shifted = found["det_shifted"]
    assert (shifted.holds, shifted.ours, shifted.control) == (True, (5.0,) * 3, None)
    assert found["det_true"].holds is False
    assert (found["r_over_d"].holds, found["r_over_d"].ours) == (None, None)
    assert "missing" in found["r_over_d"].why


def made(**columns: list[float]) -> Numbers:
    """Numbers of sets by "set__column", one value a seed, whose models learnt something."""
    tables: dict[str, dict[str, dict[str, list[float]]]] = {"sets": {}, "planted": {}}
    for place, values in columns.items():
        name, column = place.split("__")
        if name.split("_")[-1] in ("rand", "det", "other"):
            name += " at 1"
        name = name.replace("control_", "control of ")
        learnt = {"clean": [90.0] * len(values), "chance": [10.0] * len(values)}
        tables["sets"].setdefault(name, learnt)
        table = "planted" if column.startswith("planted") else "sets"
        tables[table].setdefault(name, {})[column] = values
    return Numbers(tables)


@pytest.mark.parametrize(
    ("claim", "numbers", "holds"),
    [
        # Three seeds alike: the mean alone decides.
        (
            "r_over_nr",
            made(D_R__robust_half_eps=[40.0] * 3, D_NR__robust_half_eps=[30.0] * 3),
            True,
        ),
        (
            "r_over_nr",
            made(D_R__robust_half_eps=[40.0] * 3, D_NR__robust_half_eps=[30.1] * 3),
            False,
        ),
        ("r_over_nr", made(D_R__robust_half_eps=[40.0] * 3), None),
        ("nr_clean", made(D_NR__clean=[80.0] * 3), True),
        ("nr_clean", made(D_NR__clean=[79.9] * 3), False),
        # The spread decides otherwise.
        ("nr_clean", made(D_NR__clean=[79.0, 81.0, 83.0]), None),
        ("nr_clean", made(D_NR__clean=[80.5, 81.5, 82.5]), None),
        ("nr_clean", made(D_NR__clean=[82.0, 83.0, 84.0]), True),
        ("nr_clean", made(D_NR__clean=[90.0, 90.0]), None),
        ("det_true", made(D_det__clean=[60.0] * 3), True),
        ("det_shifted", made(D_det__shifted=[25.0] * 3), True),
        ("det_shifted", made(D_det__shifted=[25.1] * 3), False),
        ("other_true", made(D_other__clean=[49.9] * 3), False),
        ("other_margin", made(D_other__clean=[60.0] * 3, control_D_other__clean=[40.0] * 3), True),
        ("other_margin", made(D_other__clean=[60.0] * 3, control_D_other__clean=[40.1] * 3), False),
        ("rand_margin", made(D_rand__clean=[60.0] * 3), None),
        ("det_margin", made(D_det__clean=[60.0] * 3, control_D_det__clean=[1.0] * 3), True),
        ("planted_r_robust", made(D_R__clean=[90.0] * 3), None),
        ("planted_det_nonrobust", made(D_det__planted_nonrobust=[80.0] * 3), True),
        ("planted_det_robust", made(D_det__planted_robust=[35.1] * 3), False),
        ("planted_r_robust", made(D_R__planted_robust=[80.0] * 3), True),
        ("planted_r_nonrobust", made(D_R__planted_nonrobust=[35.0] * 3), True),
    ],
)
def test_each_inequality_at_its_border(claim, numbers, holds) -> None:
    assert decisions(numbers)[claim].holds is holds


def test_margins_over_seeds_are_paired() -> None:
    """Seeds differ by far more than the sets do; within each seed D_R wins by 2 or so."""
    d, r = [10.0, 30.0, 50.0], [12.0, 32.1, 51.9]
    found = decisions(made(D__robust_half_eps=d, D_R__robust_half_eps=r))["r_over_d"]
    assert found.holds is True
    assert (found.ours, found.control) == (tuple(r), tuple(d))
    one = decisions(made(D__robust_half_eps=d[:1], D_R__robust_half_eps=r[:1]))["r_over_d"]
    assert one.holds is None
    assert "1 seed; 3 are needed" in one.why


LEARNT = "'the model of D_det at 1 is above chance on true or shifted labels'"


@pytest.mark.parametrize(
    ("clean", "holds", "why"),
    [
        ([10.0, 10.3, 9.8], None, f"{LEARNT} is undecided"),
        ([9.0, 9.1, 9.2], None, f"{LEARNT} does not hold"),
        ([60.0, 61.0, 62.0], True, ""),
    ],
)
def test_a_student_that_learnt_nothing_decides_nothing(clean, holds, why) -> None:
    """A guess among ten classes names few shifted labels, and is robust as well."""
    guess = [10.0] * 3
    rows = {
        "D_det at 1": {"clean": clean, "shifted": guess, "robust_half_eps": guess},
        "D_adv": {"clean": clean, "robust_half_eps": guess},
        "D": {"clean": [90.0] * 3, "robust_half_eps": [2.0] * 3},
    }
    found = decisions(Numbers({"sets": {n: {**row, "chance": guess} for n, row in rows.items()}}))
    for claim in ("det_shifted", "adv_robust"):
        assert found[claim].holds is holds
    assert found["det_shifted"].why == why


def test_a_missing_number_is_said_before_what_the_model_learnt() -> None:
    guess = [10.0] * 3
    found = decisions(Numbers({"sets": {"D_R": {"clean": guess, "chance": guess}}}))
    assert found["r_over_d"].why == "a number that it needs is missing"


def test_one_seed_whose_check_fires_makes_the_mean_an_upper_bound() -> None:
    fires = {"robust_eps": 90.0, "robust_eps_upper_bound": 1.0, "robust_half_eps": 95.0}
    clear = {"robust_eps": 40.0, "robust_eps_upper_bound": 0.0, "robust_half_eps": 60.0}
    at_eps, at_half = (Cell("sets", "D", name) for name in ("robust_eps", "robust_half_eps"))
    both = Numbers.collect([(0, {"sets": {"D": clear}}), (1, {"sets": {"D": fires}})], 2)
    assert both.mean(at_eps) == 65.0
    assert both.is_upper_bound(at_eps)
    assert not both.is_upper_bound(at_half)
    assert both.columns("sets") == ["robust_eps", "robust_half_eps"]
    one = Numbers.collect([(0, {"sets": {"D": clear}})], 1)
    assert not one.is_upper_bound(at_eps)


def condition(claim: Claim) -> Given:
    (need,) = claim.needs
    assert isinstance(need, Given)
    return need


@pytest.mark.parametrize("seeds", [3, 10])
def test_a_model_at_chance_is_seldom_said_to_have_learnt(seeds) -> None:
    """In at most about 5 % of runs, though the larger of two guesses lies above chance."""
    draws = random.Random(seeds)
    claims = {claim.id: claim for claim in ilyas2019.claims(CONFIG)}
    learnt = condition(claims["det_true"]).rule

    def guesses():
        return [100 * sum(draws.random() < 0.1 for _ in range(200)) / 200 for _ in range(seeds)]

    said = [
        learnt.decide(
            Numbers(
                {
                    "sets": {
                        "D_det at 1": {
                            "clean": guesses(),
                            "shifted": guesses(),
                            "chance": [10.0] * seeds,
                        }
                    }
                }
            )
        ).holds
        for _ in range(200)
    ]
    assert said.count(True) <= 20


def test_every_claim_asks_whether_its_own_model_learnt() -> None:
    for claim in ilyas2019.claims(CONFIG):
        row = claim.rule.cells[0].row
        assert {cell.row for cell in condition(claim).rule.cells} == {row}

"""Claims decided and tables averaged by hand-made numbers."""

import random
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from notbugs.experiments import ilyas2019
from notbugs.experiments.config import CONTROLS, DATASETS, PRESETS, SETS, config_for
from notbugs.experiments.model_training import Net
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

CONFIG = replace(
    config_for("planted", "laptop"),
    eps_sets=(0.5, 1.0),
    eps_headline=None,
    students=(),
    sets=SETS,
    controls=CONTROLS,
)
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


def decisions(found: Numbers, **changes: Any) -> Mapping[str, Decision]:
    return decided(ilyas2019.claims(replace(CONFIG, **changes)), found)


def test_the_crossover_is_that_of_the_largest_radius() -> None:
    def crossover(found: Numbers, *radii: float) -> Decision:
        return decisions(found, eps_sets=radii, eps_headline=0.5)["det_crossover"]

    found = Numbers({"radii": numbers().tables["sets"]})
    decision = crossover(found, 4.0, 1.0)
    assert (decision.holds, decision.ours) == (True, (40.0, 41.0, 42.0))
    assert decision.control == (5.0,) * 3
    assert crossover(found, 2.0, 1.0).why == "a number that it needs is missing"
    alone = decisions(found, eps_sets=(1.0,), eps_headline=4.0)  # nothing beyond the headline
    assert "det_crossover" not in alone
    missing = decisions(found)["r_over_d"]
    assert (missing.holds, missing.ours) == (None, None)
    assert "missing" in missing.why


def made(**columns: list[float]) -> Numbers:
    """Numbers by "set__column", one value a seed, whose models learnt something."""
    tables: dict[str, dict[str, dict[str, list[float]]]] = {"sets": {}, "robust": {}, "planted": {}}
    for place, values in columns.items():
        name, column = place.split("__")
        table = "planted" if column.startswith("planted") else "sets"
        if name in ("D", "D_adv", "D_R", "D_NR") and table == "sets":
            table = "robust"
        if table == "planted" and name == "D_det":
            name += " at 1"
        learnt = {"clean": [90.0] * len(values), "chance": [10.0] * len(values)}
        name = name.replace("leak_", "leak:").replace("_by_", "/")
        tables[table].setdefault(name, learnt)[column] = values
    return Numbers(tables)


def against(ours: float, **controls: float) -> Numbers:
    """D_other and its controls, which give 1 % where nothing else is said; three seeds."""
    names = ["leak_D_other", *(f"D_other_by_{control}" for control in CONTROLS[1:])]
    shares = {"D_other": ours, **dict.fromkeys(names, 1.0), **controls}
    return made(**{f"{name}__clean": [share] * 3 for name, share in shares.items()})


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
        ("other_true", made(D_other__clean=[49.9] * 3), False),
        ("noise_true", made(D_noise__clean=[50.0] * 3), True),
        ("other_margin", against(60.0, leak_D_other=40.0), True),
        ("other_margin", against(60.0, leak_D_other=40.1), False),
        ("other_margin", against(60.0, D_other_by_shuffled=40.1), False),
        ("other_margin", against(60.0, D_other_by_span=40.1), False),
        ("other_margin", against(60.0, D_other_by_universal=59.0), True),  # it carries features
        ("other_margin", made(D_other__clean=[60.0] * 3), None),
        ("rand_margin", made(D_rand__clean=[60.0] * 3), None),
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


def test_a_claim_on_students_wants_every_one_of_them() -> None:
    students = Net("mlp"), Net("linear")
    rows = {"D_other__clean": [60.0] * 3, "D_other__clean_mlp": [50.0] * 3}

    def true(linear: float) -> bool | None:
        found = made(**rows, D_other__clean_linear=[linear] * 3)
        return decisions(found, students=students)["other_true"].holds

    assert (true(50.0), true(49.9)) == (True, False)
    assert decisions(made(**rows), students=students)["other_true"].holds is None
    assert decisions(made(**rows), students=students[:1])["other_true"].holds is True


@pytest.mark.parametrize("preset", PRESETS)
def test_every_run_has_claims_and_each_of_them_cells(preset: str) -> None:
    for data in DATASETS:
        for controls in ((), ("leak",), ("universal",), CONTROLS):
            config = replace(config_for(data, preset), controls=controls)
            claims = ilyas2019.claims(config)
            assert claims
            assert all(claim.rule.cells for claim in claims)


def test_a_run_claims_what_it_has() -> None:
    ids = [claim.id for claim in ilyas2019.claims(config_for("digits", "demo"))]
    assert ids == ["other_true", "other_margin", "noise_true", "noise_margin"]
    chosen = replace(config_for("digits", "laptop"), eps_headline=0.5)
    laptop = {claim.id for claim in ilyas2019.claims(chosen)}
    assert {*ids, "r_over_d", "r_over_d_standard", "det_crossover", "rand_margin"} < laptop
    assert not any(name.startswith("planted") for name in laptop)


LEARNT = "'the model of D_other is above chance'"


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
        "D_other": {"clean": clean, "shifted": guess},
        "D_adv": {"clean": clean, "robust_half_eps": guess},
        "D": {"clean": [90.0] * 3, "robust_half_eps": [2.0] * 3},
    }
    named = {name: {**row, "chance": guess} for name, row in rows.items()}
    found = decisions(Numbers({"sets": named, "robust": named}))
    for claim in ("other_true", "adv_robust"):
        assert found[claim].holds is holds
    assert found["other_true"].why == why


def test_a_missing_number_is_said_before_what_the_model_learnt() -> None:
    guess = [10.0] * 3
    found = decisions(Numbers({"robust": {"D_R": {"clean": guess, "chance": guess}}}))
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
                        "D_det": {
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
        first = claim.rule.cells[0]
        if first.table == "planted":  # of images
            assert not claim.needs
            continue
        cells = condition(claim).rule.cells
        assert {(cell.table, cell.row) for cell in cells} == {(first.table, first.row)}

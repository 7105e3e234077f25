"""Claims and tables: decided and averaged by hand-made numbers."""

import random

import numpy as np
import pytest

from notbugs.experiments import ilyas2019
from notbugs.experiments.claims import Claim, Finding, at_least, at_most, exceeds, row
from notbugs.experiments.tables import Measured, Numbers

FORTY = [40.0] * 3
CLAIMS = {c.id: c for c in ilyas2019.CLAIMS}


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


@pytest.mark.parametrize("seeds", [1, 2])
def test_fewer_than_three_seeds_decide_nothing(seeds) -> None:
    for values in ([5.0, 5.1], [-5.0, -5.1], [0.0, 100.0]):
        assert exceeds(values[:seeds]) is at_least(values[:seeds], 1) is None
        assert at_most(values[:seeds], 1) is None


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
    rows = [
        Measured("D", None, s, {"clean": 90.0 + s, "robust_half_eps": 10.0, "source_success": None})
        for s in (0, 1, 2)
    ]
    rows += [
        Measured("D_det", eps, s, {"clean": 10 * eps + s, "shifted": 5.0})
        for eps in (1.0, 4.0)
        for s in (0, 1, 2)
    ]
    return Numbers(tuple(rows))


def test_tables_hold_means_deviations_and_nulls() -> None:
    table = numbers().table()
    assert [(r["set"], r["eps"]) for r in table] == [("D", None), ("D_det", 1.0), ("D_det", 4.0)]
    assert table[0]["clean"] == pytest.approx(91.0)
    assert table[0]["clean_std"] == pytest.approx(1.0)
    assert table[0]["source_success"] is None
    assert table[0]["source_success_std"] is None
    assert table[0]["seeds"] == 3
    assert numbers().seeds("D_det", "clean") == [40.0, 41.0, 42.0]
    assert numbers().seeds("D_R", "clean") == []


def test_claims_are_decided_by_their_inequality() -> None:
    claims = {c.id: c for c in ilyas2019.CLAIMS}
    shifted = row(claims["det_shifted"], numbers(), 3)
    assert (shifted["holds"], shifted["ours"], shifted["control"]) == (True, 5.0, None)
    assert row(claims["det_true"], numbers(), 3)["holds"] is False
    assert row(claims["r_over_d"], numbers(), 3) is None
    undecided = Claim("x", "s", "p", lambda _: Finding([1.0], None, None, "rule"))
    assert row(undecided, None, 1)["holds"] is None
    assert row(undecided, None, 1)["std"] is None


def made(**columns) -> Numbers:
    """Numbers of sets by "set.column", one value a seed."""
    rows = []
    for place, values in columns.items():
        name, column = place.split("__")
        eps = 1.0 if "_det" in name or "_other" in name or "_rand" in name else None
        name = name.replace("leak_", "leak:")
        rows += [Measured(name, eps, s, {column: v}) for s, v in enumerate(values)]
    return Numbers(tuple(rows))


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
        ("other_margin", made(D_other__clean=[60.0] * 3, leak_D_other__clean=[40.0] * 3), True),
        ("other_margin", made(D_other__clean=[60.0] * 3, leak_D_other__clean=[40.1] * 3), False),
        ("rand_margin", made(D_rand__clean=[60.0] * 3), None),
        ("det_margin", made(D_det__clean=[60.0] * 3, leak_D_det__clean=[1.0] * 3), True),
        ("planted_r_robust", made(D_R__clean=[90.0] * 3), None),
        ("planted_det_nonrobust", made(D_det__planted_nonrobust=[80.0] * 3), True),
    ],
)
def test_each_inequality_at_its_border(claim, numbers, holds) -> None:
    found = row(CLAIMS[claim], numbers, 1)
    assert (None if found is None else found["holds"]) is holds


def test_margins_over_seeds_are_paired() -> None:
    """Seeds differ by far more than the sets do; within each seed D_R wins by 2 or so."""
    d, r = [10.0, 30.0, 50.0], [12.0, 32.1, 51.9]
    found = row(CLAIMS["r_over_d"], made(D__robust_half_eps=d, D_R__robust_half_eps=r), 3)
    assert found["holds"] is True
    assert (found["ours"], found["control"]) == (pytest.approx(32.0), pytest.approx(30.0))
    assert found["per_seed"] == r
    one = row(CLAIMS["r_over_d"], made(D__robust_half_eps=d[:1], D_R__robust_half_eps=r[:1]), 1)
    assert (one["holds"], one["std"]) == (None, None)


@pytest.mark.parametrize(
    ("clean", "holds", "why"),
    [
        ([10.0, 10.3, 9.8], None, "; open: the model may be at chance"),
        ([9.0, 9.1, 9.2], None, "; open: the model is not above chance"),
        ([60.0, 61.0, 62.0], True, "t-intervals over seeds"),
    ],
)
def test_a_student_that_learnt_nothing_decides_nothing(clean, holds, why) -> None:
    """A guess among ten classes names few shifted labels, and is robust as well."""
    rows = [
        Measured("D_det", 1.0, s, {"clean": c, "shifted": 10.0, "robust_half_eps": 10.0})
        for s, c in enumerate(clean)
    ]
    rows += [
        Measured("D_adv", None, s, {"clean": c, "robust_half_eps": 10.0})
        for s, c in enumerate(clean)
    ]
    rows += [Measured("D", None, s, {"clean": 90.0, "robust_half_eps": 2.0}) for s in range(3)]
    found = Numbers(tuple(rows), chance=10.0)
    for claim in ("det_shifted", "adv_robust"):
        assert row(CLAIMS[claim], found, 3)["holds"] is holds
    assert row(CLAIMS["det_shifted"], found, 3)["rule"].endswith(why)


def test_tables_keep_the_order_of_the_report() -> None:
    names = ("leak:D_other", "D_R", "D_other", "D_adv", "D_rand", "D")
    numbers = Numbers(tuple(Measured(name, None, 0, {"clean": 1.0}) for name in names))
    order = [r["set"] for r in numbers.table()]
    assert order == ["D", "D_adv", "D_R", "D_rand", "D_other", "leak:D_other"]
    assert set(numbers.tables()) == {"sets"}


def test_one_seed_whose_check_fires_makes_the_mean_an_upper_bound() -> None:
    fires = {"robust_eps": 90.0, "robust_eps_upper_bound": 1.0, "robust_half_eps": 95.0}
    clear = {"robust_eps": 40.0, "robust_eps_upper_bound": 0.0, "robust_half_eps": 60.0}
    both = Numbers((Measured("D", None, 0, clear), Measured("D", None, 1, fires)))
    (row,) = both.table()
    assert (row["robust_eps"], row["robust_eps_upper_bound"]) == (65.0, 1.0)
    assert "robust_half_eps_upper_bound" not in row
    (row,) = Numbers((Measured("D", None, 0, clear),)).table()
    assert "robust_eps_upper_bound" not in row


@pytest.mark.parametrize("seeds", [3, 10])
def test_a_model_at_chance_is_seldom_said_to_have_learnt(seeds) -> None:
    """In at most about 5 % of runs, though the larger of two guesses lies above chance."""
    draws = random.Random(seeds)

    def guess():
        return 100 * sum(draws.random() < 0.1 for _ in range(200)) / 200

    said = [
        Numbers(
            tuple(
                Measured("D_det", 1.0, seed, {"clean": guess(), "shifted": guess()})
                for seed in range(seeds)
            ),
            chance=10.0,
        ).learnt("D_det")
        for _ in range(200)
    ]
    assert said.count(True) <= 20

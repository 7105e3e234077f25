"""Rules decide by intervals over paired seeds, and say why they cannot."""

from dataclasses import replace

import pytest

from notbugs.core.errors import DataError
from notbugs.experiments.numbers import Cell, Numbers, interval
from notbugs.experiments.rules import (
    AbstractRule,
    AllOf,
    AnyOf,
    AtLeast,
    AtMost,
    Below,
    Claim,
    EverySeed,
    Exceeds,
    Given,
    Ordered,
    decided,
)

A, B, C = (Cell("t", name, "x") for name in "abc")


def numbers(**rows: list[float | None]) -> Numbers:
    return Numbers({"t": {name: {"x": values} for name, values in rows.items()}})


FAR = numbers(a=[10.0, 10.2, 9.9], b=[5.0, 5.3, 4.8], c=[1.0, 1.1, 0.9])


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        (AtLeast(A, 9.0), True),
        (AtLeast(A, 10.0), None),
        (AtLeast(A, 11.0), False),
        (AtMost(A, 11.0), True),
        (AtMost(A, 9.0), False),
        (Exceeds(A, B), True),
        (Exceeds(B, A), False),
        (Exceeds(A, B, 4.5), True),
        (Exceeds(A, B, 6.0), False),
        (Ordered((A, B, C)), True),
        (Ordered((A, C, B)), False),
        (AllOf((AtLeast(A, 9.0), AtLeast(B, 4.0))), True),
        (AllOf((AtLeast(A, 10.0), AtLeast(B, 4.0))), None),
        (AllOf((AtLeast(A, 10.0), AtLeast(B, 9.0))), False),
        (AnyOf((AtLeast(A, 11.0), AtLeast(B, 4.0))), True),
        (AnyOf((AtLeast(A, 10.0), AtLeast(B, 9.0))), None),
        (AnyOf((AtLeast(A, 11.0), AtLeast(B, 9.0))), False),
        (EverySeed(AtLeast(A, 9.9)), True),
        (EverySeed(AtLeast(A, 9.95)), False),
        (EverySeed(Exceeds(A, B)), True),
        (EverySeed(Exceeds(A, B, 5.0)), False),
    ],
)
def test_a_rule_holds_where_its_interval_does(rule: AbstractRule, holds: bool | None) -> None:
    decision = rule.decide(FAR)
    assert decision.holds is holds
    assert not (decision.holds and decision.why) or decision.why.startswith("least clear: ")
    assert decision.why or decision.holds is not None


EVERY = [
    AtLeast(A, 1.0),
    AtMost(A, 1.0),
    Exceeds(A, B),
    Exceeds(B, A),
    Ordered((B, A)),
    AllOf((AtLeast(B, 0.0), AtLeast(A, 0.0))),
    AnyOf((AtLeast(B, 99.0), AtLeast(A, 0.0))),
    EverySeed(AtLeast(A, 0.0)),
    EverySeed(Exceeds(B, A)),
]


@pytest.mark.parametrize("rule", EVERY, ids=lambda rule: rule.text)
@pytest.mark.parametrize("values", [[], [9.0, None, 9.0]])
def test_a_missing_number_leaves_it_undecided(
    rule: AbstractRule, values: list[float | None]
) -> None:
    tables = numbers(a=values, b=[5.0, 5.1, 4.9], c=[1.0, 1.1, 0.9])
    decision = rule.decide(tables)
    assert decision.holds is None
    assert "missing" in decision.why


@pytest.mark.parametrize("rule", EVERY, ids=lambda rule: rule.text)
def test_two_seeds_decide_nothing(rule: AbstractRule) -> None:
    decision = rule.decide(numbers(a=[9.0, 9.1], b=[5.0, 5.1], c=[1.0, 1.1]))
    assert decision.holds is None
    assert "3" in decision.why


def test_equal_values_do_not_exceed() -> None:
    assert Exceeds(A, B).decide(numbers(a=[1.0, 2.0, 3.0], b=[1.0, 2.0, 3.0])).holds is False


def test_differences_are_paired() -> None:
    """A gap of one in every seed is clear however the seeds differ."""
    tables = numbers(a=[1.1, 50.0, 99.0], b=[0.0, 49.0, 97.9])
    assert Exceeds(A, B).decide(tables).holds
    tables = numbers(a=[1.1, 50.0, 99.0], b=[49.0, 97.9, 0.0])
    assert Exceeds(A, B).decide(tables).holds is None


def test_the_share_of_false_verdicts_is_that_of_the_level() -> None:
    """Of a true difference of 0, at most one in twenty is said to exceed it."""
    import torch

    draws = torch.randn(2000, 3, generator=torch.Generator().manual_seed(0)).tolist()
    held = [Exceeds(A, B).decide(numbers(a=row, b=[0.0] * 3)).holds for row in draws]
    assert 0.035 < held.count(True) / len(held) < 0.065
    either = AnyOf((AtLeast(A, 0.0), AtLeast(B, 0.0)))
    pairs = zip(draws[::2], draws[1::2], strict=True)
    held = [either.decide(numbers(a=a, b=b)).holds for a, b in pairs]
    assert held.count(True) / len(held) < 0.075


def test_four_true_parts_are_seldom_said_to_fail() -> None:
    """At their bounds: the level at which a conjunction fails is shared among its parts."""
    import torch

    draws = torch.randn(1000, 4, 3, generator=torch.Generator().manual_seed(1)).tolist()
    rule = AllOf(tuple(AtLeast(Cell("t", name, "x"), 0.0) for name in "abcd"))
    failed = [
        rule.decide(numbers(**dict(zip("abcd", parts, strict=True)))).holds is False
        for parts in draws
    ]
    assert sum(failed) / len(failed) < 0.07


def test_a_number_that_is_not_finite_is_missing() -> None:
    for rule in (AtMost(A, 11.0), EverySeed(AtMost(A, 11.0)), Exceeds(A, B)):
        decision = rule.decide(numbers(a=[float("nan"), 10.0, 10.0], b=[1.0, 1.1, 0.9]))
        assert decision.holds is None
        assert "missing" in decision.why


def test_a_claim_is_open_unless_what_it_needs_holds() -> None:
    learnt = Claim("learnt", "It learnt", "section 1", AtLeast(A, 11.0))
    better = Claim("better", "It is better", "section 1", Exceeds(A, B), needs=("learnt",))
    decisions = decided([learnt, better], FAR)
    assert (decisions["learnt"].holds, decisions["better"].holds) == (False, None)
    assert "learnt" in decisions["better"].why
    weaker = Claim("learnt", "It learnt", "section 1", AtLeast(A, 9.0))
    assert decided([weaker, better], FAR)["better"].holds


def test_a_claim_is_open_unless_its_condition_holds() -> None:
    def needing(rule: AbstractRule) -> Claim:
        given = Given("it learnt", rule)
        return Claim("better", "It is better", "section 1", Exceeds(A, B), needs=(given,))

    for rule, holds, why in (
        (AtLeast(A, 9.0), True, ""),
        (AtLeast(A, 10.0), None, "'it learnt' is undecided"),
        (AtLeast(A, 11.0), None, "'it learnt' does not hold"),
    ):
        decision = decided([needing(rule)], FAR)["better"]
        assert (decision.holds, decision.why) == (holds, why)


def test_numbers_are_collected_by_seed() -> None:
    parts = [
        (1, {"t": {"a": {"x": 2.0, "y": None}}}),
        (0, {"t": {"a": {"x": 1.0}}}),
        (0, {"t": {"b": {"x": 3.0}}}),
    ]
    tables = Numbers.collect(parts, 2)
    assert tables.values(A) == (1.0, 2.0)
    assert tables.values(B) == ()
    assert tables.mean(B) == 3.0
    assert tables.columns("t") == ["x"]
    assert tables.spread(A) == pytest.approx(0.5**0.5)


def test_a_number_that_is_below_another_says_so_in_the_same_direction() -> None:
    tables = {"t": {"a": {"x": [1.0, 2.0, 3.0]}, "b": {"x": [2.0, 1.0, 4.5]}}}
    rule = Below(Cell("t", "a", "x"), Cell("t", "b", "x"))
    decision = rule.decide(Numbers(tables))
    bounds = interval([-1.0, 1.0, -1.5])
    assert bounds is not None
    assert rule.text == "mean - control < 0"
    assert f"{bounds[0]:.3g} and {bounds[1]:.3g}" in decision.why
    assert decision.holds is None
    by = Below(Cell("t", "a", "x"), Cell("t", "b", "x"), 2.0)
    apart = Numbers({"t": {"a": {"x": [1.0, 2.0, 3.0]}, "b": {"x": [4.0, 5.0, 6.1]}}})
    assert by.text == "mean - control <= -2"
    assert by.decide(apart).holds is True
    assert replace(by, points=4.0).decide(apart).holds is False
    far = {"t": {"a": {"x": [1.0, 2.0, 3.0]}, "b": {"x": [11.0, 12.0, 13.1]}}}
    assert rule.decide(Numbers(far)).holds is True


def test_parts_of_one_number_name_their_controls() -> None:
    first = Cell("t", "a", "x")
    both = AllOf((Exceeds(first, Cell("t", "b", "x")), Exceeds(first, Cell("u", "a", "x"))))
    assert both.text == (
        "mean - control > 0 (control: t / b / x), and mean - control > 0 (control: u / a / x)"
    )


def test_of_many_comparisons_the_one_that_decides_is_named() -> None:
    each = AllOf((AtLeast(A, 1.0), AtLeast(B, 1.0), AtLeast(C, 1.0)))
    assert each.text == "each of 3 comparisons: mean >= 1"
    assert AnyOf(each.rules).text == "one of 3 comparisons: mean >= 1"
    failed = each.decide(numbers(a=[2.0, 2.1, 2.2], b=[0.5, 0.4, 0.3], c=[2.0] * 3))
    assert (failed.holds, failed.why) == (False, "b (x)")
    unclear = each.decide(numbers(a=[2.0, 2.1, 2.2], b=[2.0] * 3, c=[0.5, 1.6, 1.1]))
    assert unclear.holds is None
    assert unclear.why.startswith("c (x); the one-sided 95 % bounds")
    against = AllOf((Exceeds(A, B, 1.0), Exceeds(C, B, 1.0)))
    failed = against.decide(numbers(a=[9.0] * 3, b=[5.0] * 3, c=[1.0] * 3))
    assert failed.why == "c (x) against b (x)"
    held = against.decide(numbers(a=[9.0] * 3, b=[5.0] * 3, c=[7.0, 7.1, 7.2]))
    assert (held.ours, held.why) == ((7.0, 7.1, 7.2), "least clear: c (x) against b (x)")
    most = AllOf((AtMost(A, 9.0), AtMost(B, 9.0))).decide(numbers(a=[1.0] * 3, b=[8.0] * 3))
    assert (most.holds, most.ours) == (True, (8.0,) * 3)


def test_rows_of_one_name_are_not_merged() -> None:
    first, other = {"t": {"a": {"x": 1.0}}}, {"t": {"a": {"x": 2.0}}}
    assert Numbers.collect([(0, first), (0, first)], 1).values(A) == (1.0,)
    with pytest.raises(DataError, match="Two rows of the table 't' are called 'a'"):
        Numbers.collect([(0, first), (0, other)], 1)

"""Claims as rules over a run's numbers, decided by one-sided t-intervals over paired seeds.

A rule that needs a number that is not there is undecided, never held.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, final

from notbugs.experiments.numbers import (
    FEWEST,
    LEVEL,
    Cell,
    Numbers,
    SeedValues,
    interval,
    mean,
)


@dataclass(frozen=True)
class Decision:
    """What a rule says of a run.

    - `ours`, `control`: the values that were compared, one a seed; None where there is none
    - `holds`: None is undecided, for the reason in `why`
    """

    ours: SeedValues | None
    control: SeedValues | None
    holds: bool | None
    why: str = ""


MISSING = "a number that it needs is missing"


class AbstractRule(ABC):
    """An inequality over cells."""

    @property
    @abstractmethod
    def text(self) -> str:
        """The rule in words, made of its settings."""

    @property
    @abstractmethod
    def cells(self) -> tuple[Cell, ...]:
        """The cells that it reads."""

    @abstractmethod
    def decide(self, numbers: Numbers, level: float = LEVEL) -> Decision:
        """Whether it holds, at a confidence `level` of the one-sided intervals."""


def _decision(
    ours: SeedValues,
    control: SeedValues | None,
    bounds: tuple[float, float] | None,
    limit: float,
    at_least: bool,
    level: float,
) -> Decision:
    """Holds where the whole interval is on one side of the limit."""
    if bounds is None:
        few = f"{len(ours)} seed{'s' * (len(ours) != 1)}; {FEWEST} are needed"
        return Decision(ours, control, None, few)
    low, high = ((b >= limit) if at_least else (b <= limit) for b in bounds)
    if low == high:
        return Decision(ours, control, low)
    low_text, high_text = (f"{bound:.3g}" for bound in bounds)
    why = f"the one-sided {100 * level:g} % bounds, {low_text} and {high_text}, disagree"
    return Decision(ours, control, None, why)


@dataclass(frozen=True)
class _Bounded(AbstractRule):
    cell: Cell
    bound: float
    control: Cell | None = None
    """What is shown beside; it decides nothing."""
    is_least: ClassVar[bool]

    @property
    def cells(self) -> tuple[Cell, ...]:
        return (self.cell,)

    @property
    def text(self) -> str:
        return f"mean {'>=' if self.is_least else '<='} {self.bound:g}"

    def decide(self, numbers: Numbers, level: float = LEVEL) -> Decision:
        ours = numbers.values(self.cell)
        if not ours:
            return Decision(None, None, None, MISSING)
        control = None if self.control is None else numbers.values(self.control)
        bounds = interval(ours, level)
        return _decision(ours, control or None, bounds, self.bound, self.is_least, level)


@final
@dataclass(frozen=True)
class AtLeast(_Bounded):
    """The mean over seeds is at least a bound."""

    is_least: ClassVar[bool] = True


@final
@dataclass(frozen=True)
class AtMost(_Bounded):
    """The mean over seeds is at most a bound."""

    is_least: ClassVar[bool] = False


@final
@dataclass(frozen=True)
class Exceeds(AbstractRule):
    """A cell exceeds another, seed by seed: by `points`, or by any amount (None)."""

    cell: Cell
    other: Cell
    points: float | None = None

    @property
    def cells(self) -> tuple[Cell, ...]:
        return (self.cell, self.other)

    @property
    def text(self) -> str:
        return "mean - control " + ("> 0" if self.points is None else f">= {self.points:g}")

    def decide(self, numbers: Numbers, level: float = LEVEL) -> Decision:
        return _compared(self, numbers, self.points, True, level)


@final
@dataclass(frozen=True)
class Below(AbstractRule):
    """A cell is below another, seed by seed: by `points`, or by any amount (None)."""

    cell: Cell
    other: Cell
    points: float | None = None

    @property
    def cells(self) -> tuple[Cell, ...]:
        return (self.cell, self.other)

    @property
    def text(self) -> str:
        return "mean - control " + ("< 0" if self.points is None else f"<= {-self.points:g}")

    def decide(self, numbers: Numbers, level: float = LEVEL) -> Decision:
        return _compared(self, numbers, self.points, False, level)


def _compared(
    rule: Exceeds | Below, numbers: Numbers, points: float | None, above: bool, level: float
) -> Decision:
    """By differences of paired seeds: at least `points`, or (None) strictly on one side of 0."""
    ours, control = numbers.values(rule.cell), numbers.values(rule.other)
    if not ours or len(control) != len(ours):
        return Decision(ours or None, None, None, MISSING)
    bounds = interval([a - b for a, b in zip(ours, control, strict=True)], level)
    if points is None and bounds == (0.0, 0.0):
        return Decision(ours, control, False, "the two are equal")
    least = points or 0.0
    return _decision(ours, control, bounds, least if above else -least, above, level)


def _in_every_seed(ours: SeedValues, control: SeedValues | None, each: Sequence[bool]) -> Decision:
    if len(ours) < FEWEST:
        return Decision(ours, control, None, f"{FEWEST} seeds are needed")
    return Decision(ours, control, all(each))


@final
@dataclass(frozen=True)
class BeyondErrors(AbstractRule):
    """In every seed, a cell differs from another by more than two standard errors.

    - `error`: the standard error of their difference over images
    - `above`: False where the cell is to be the smaller one
    """

    cell: Cell
    other: Cell
    error: Cell
    above: bool = True

    @property
    def cells(self) -> tuple[Cell, ...]:
        return (self.cell, self.other, self.error)

    @property
    def text(self) -> str:
        difference = "mean - control" if self.above else "control - mean"
        return f"in every seed: {difference} > 2 standard errors over images"

    def decide(self, numbers: Numbers, level: float = LEVEL) -> Decision:
        ours, control, errors = map(numbers.values, self.cells)
        if not ours or not len(ours) == len(control) == len(errors):
            return Decision(ours or None, None, None, MISSING)
        sign = 1 if self.above else -1
        seeds = zip(ours, control, errors, strict=True)
        return _in_every_seed(ours, control, [sign * (a - b) > 2 * e for a, b, e in seeds])


@final
@dataclass(frozen=True)
class AtLeastBest(AbstractRule):
    """A cell is at least the best of others, seed by seed: that of the largest mean."""

    cell: Cell
    others: tuple[Cell, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        return (self.cell, *self.others)

    @property
    def text(self) -> str:
        return "mean - mean of the best control >= 0"

    def decide(self, numbers: Numbers, level: float = LEVEL) -> Decision:
        known = [cell for cell in self.others if numbers.values(cell)]
        if len(known) < len(self.others):
            return Decision(numbers.values(self.cell) or None, None, None, MISSING)
        best = max(known, key=lambda cell: mean(numbers.values(cell)))
        return Exceeds(self.cell, best, 0.0).decide(numbers, level)


@final
@dataclass(frozen=True)
class Ordered(AbstractRule):
    """Each cell exceeds the next."""

    order: tuple[Cell, ...]

    @property
    def cells(self) -> tuple[Cell, ...]:
        return self.order

    @property
    def text(self) -> str:
        return " > ".join(cell.row for cell in self.order) + ", each difference of means > 0"

    def decide(self, numbers: Numbers, level: float = LEVEL) -> Decision:
        pairs = zip(self.order, self.order[1:], strict=False)
        decision = AllOf(tuple(Exceeds(a, b) for a, b in pairs)).decide(numbers, level)
        ours, control = numbers.values(self.order[0]), numbers.values(self.order[-1])
        return Decision(ours or None, control or None, decision.holds, decision.why)


@final
@dataclass(frozen=True)
class EverySeed(AbstractRule):
    """A bound or a comparison that holds in each seed by itself."""

    rule: AtLeast | AtMost | Exceeds

    @property
    def cells(self) -> tuple[Cell, ...]:
        return self.rule.cells

    @property
    def text(self) -> str:
        return f"in every seed: {self.rule.text.removeprefix('mean').strip()}"

    def decide(self, numbers: Numbers, level: float = LEVEL) -> Decision:
        decision, rule = self.rule.decide(numbers, level), self.rule
        ours, control = decision.ours, decision.control
        if ours is None or decision.why == MISSING:
            return decision
        if isinstance(rule, Exceeds):
            assert control is not None
            least = rule.points or 0.0
            gaps = [a - b for a, b in zip(ours, control, strict=True)]
            each = [gap > 0 if rule.points is None else gap >= least for gap in gaps]
        else:
            each = [v >= rule.bound if rule.is_least else v <= rule.bound for v in ours]
        return _in_every_seed(ours, control, each)


@dataclass(frozen=True)
class _Combined(AbstractRule):
    rules: tuple[AbstractRule, ...]
    word: ClassVar[str]
    each: ClassVar[str]

    @property
    def is_many(self) -> bool:
        """Whether they are about several numbers, and not one beside several."""
        return len({rule.cells[0] for rule in self.rules}) > 1

    @property
    def cells(self) -> tuple[Cell, ...]:
        return tuple(cell for rule in self.rules for cell in rule.cells)

    @property
    def text(self) -> str:
        texts = [rule.text for rule in self.rules]
        if self.is_many and len(set(texts)) == 1:
            return f"{self.each} of {len(texts)} comparisons: {texts[0]}"
        if self.is_many:
            texts = [f"{r.cells[0].row}, {r.cells[0].column}: {r.text}" for r in self.rules]
        elif len(set(texts)) < len(texts):  # one number beside several
            texts = [f"{r.text} (control: {r.cells[-1]})" for r in self.rules]
        return f", {self.word} ".join(texts)


def _place(rule: AbstractRule) -> str:
    return " against ".join(f"{cell.row} ({cell.column})" for cell in rule.cells)


@final
@dataclass(frozen=True)
class AllOf(_Combined):
    """Every rule holds.

    It does not where one of them fails, for which the level is shared among them (Bonferroni).
    """

    word: ClassVar[str] = "and"
    each: ClassVar[str] = "each"

    def decide(self, numbers: Numbers, level: float = LEVEL) -> Decision:
        shared = 1 - (1 - level) / len(self.rules)
        strict = [self._placed(rule, rule.decide(numbers, shared)) for rule in self.rules]
        failed = next((d for d in strict if d.holds is False), None)
        decisions = [self._placed(rule, rule.decide(numbers, level)) for rule in self.rules]
        unclear = next((d for d in decisions if not d.holds), None)
        if failed or unclear is None:
            return failed or self._least(decisions)
        alone = "" if unclear.holds is None else "one part alone speaks against it"
        return replace(unclear, holds=None, why="; ".join(filter(None, (unclear.why, alone))))

    def _least(self, decisions: Sequence[Decision]) -> Decision:
        """Of decisions that hold, the one that is nearest to failing, with its place."""
        if not self.is_many or len({type(rule) for rule in self.rules}) > 1:
            return decisions[0]

        def lead(i: int) -> float:
            ours, control = decisions[i].ours, decisions[i].control
            assert ours is not None
            gap = mean(ours) - mean(control or [0.0])
            return -gap if isinstance(self.rules[i], AtMost | Below) else gap

        least = min(range(len(decisions)), key=lead)
        return replace(decisions[least], why=f"least clear: {_place(self.rules[least])}")

    def _placed(self, rule: AbstractRule, decision: Decision) -> Decision:
        """A decision that says of which of several numbers it is, unless it holds."""
        if decision.holds or not self.is_many or decision.why == MISSING:
            return decision
        return replace(decision, why="; ".join(filter(None, (_place(rule), decision.why))))


@final
@dataclass(frozen=True)
class AnyOf(_Combined):
    """At least one rule holds; the level of the intervals is shared among them (Bonferroni)."""

    word: ClassVar[str] = "or"
    each: ClassVar[str] = "one"

    def decide(self, numbers: Numbers, level: float = LEVEL) -> Decision:
        shared = 1 - (1 - level) / len(self.rules)
        decisions = [rule.decide(numbers, shared) for rule in self.rules]
        held = next((d for d in decisions if d.holds), None)
        unclear = next((d for d in decisions if d.holds is None), None)
        return held or unclear or decisions[0]


@dataclass(frozen=True)
class Given:
    """A condition of claims, in words, and the rule that decides it."""

    text: str
    rule: AbstractRule


@dataclass(frozen=True)
class Claim:
    """One statement of a paper and the rule that decides it.

    - `published`: the paper's numbers as text, with the table or section
    - `needs`: ids of claims, or conditions, without which this one says nothing: it is undecided
      unless they hold
    - `fixed`: when and from what the rule's bound was fixed
    """

    id: str
    statement: str
    published: str
    rule: AbstractRule
    needs: tuple[str | Given, ...] = ()
    fixed: str = ""


def decided(claims: Sequence[Claim], numbers: Numbers) -> Mapping[str, Decision]:
    """The decision of each claim by id; claims that need others come after those."""
    decisions: dict[str, Decision] = {}
    for claim in claims:
        decision = claim.rule.decide(numbers)
        for need in claim.needs:
            met = decisions[need] if isinstance(need, str) else need.rule.decide(numbers)
            if decision.holds is not None and not met.holds:
                state = "does not hold" if met.holds is False else "is undecided"
                name = need if isinstance(need, str) else need.text
                decision = replace(decision, holds=None, why=f"'{name}' {state}")
        decisions[claim.id] = decision
    return decisions

"""The base of every attack: it checks the arguments and verifies the result on the model."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from jaxtyping import Int
from torch import Tensor

from notbugs.attacks.goals import check_goals
from notbugs.attacks.neighbours import check_rows
from notbugs.attacks.result import AttackResult
from notbugs.core import random
from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Images, Keys, Labels, Logits, Mask, Rows
from notbugs.engine import (
    AbstractSet,
    AbstractSize,
    Box,
    Observer,
    Solution,
    Threat,
    on_rows,
)
from notbugs.models import Classifier, Fast, frozen, prepared
from notbugs.models.decision import classified_as, decided, misclassified, predicted
from notbugs.models.folded_copy import channels_last, copy_to_attack, precisions
from notbugs.models.predictions import clean_logits
from notbugs.models.validation import check_gradients, check_loss

FEASIBLE = 1e-5
"""Relative tolerance on the radius when a result is verified (float32 rounding of a norm)."""
SPACINGS = 16.0
"""Smallest radius, in spacings of the floating-point type just below 1."""
VERIFIED = 0.5
"""Margin of a verified success, in rounding tolerances; smaller than during the attack."""
FOLD = 64
"""Passes whose counts are added up together."""


@dataclass(frozen=True)
class Victim:
    """A model under attack, frozen.

    - `logits`: images [n, c, h, w] in [0, 1] -> logits [n, k]; perhaps in low precision
    - `exact`: the original model's logits where `logits` is a faster copy, else None
    - `model`: the original, for anything else an attack needs (such as its embedding)
    """

    logits: Callable[[Images], Logits]
    exact: Callable[[Images], Logits] | None
    model: Classifier

    @property
    def true_logits(self) -> Callable[[Images], Logits]:
        """The original model's logits."""
        return self.logits if self.exact is None else self.exact


@dataclass(frozen=True)
class AttackInputs:
    """The rows to attack: images, labels and random keys, one entry per row.

    At least one of `y` (true classes) and `targets` is set; with `targets` the attack is
    targeted. Pass `observe` to every solve: it identifies rows by their index in the batch
    of the whole call.
    """

    x: Images
    y: Labels | None
    targets: Labels | None
    keys: Keys
    observe: Observer | None = None

    def select(self, index: Int[Tensor, " m"]) -> "AttackInputs":
        """The rows `index`."""
        y, targets = (None if v is None else v[index] for v in (self.y, self.targets))
        observe = on_rows(self.observe, index)
        return AttackInputs(self.x[index], y, targets, self.keys[index], observe)

    def again(self, *names: object) -> "AttackInputs":
        """The same rows with new random keys for the named purpose."""
        return replace(self, keys=random.fold(self.keys, *names))


@dataclass
class CachedLogits:
    """The model's logits, with the last result for the whole batch of `rows` cached.

    A solver that uses a fast copy evaluates its results on the model at the end: images that
    do not change afterwards need not be evaluated again for verification.
    """

    model: Callable[[Images], Logits]
    rows: int
    x: Images | None = None
    cached: Logits | None = None

    def __call__(self, x: Images) -> Logits:
        logits = self.model(x)
        if len(x) == self.rows:
            self.x, self.cached = x.detach(), logits.detach()
        return logits

    def verify(self, x: Images) -> tuple[Logits, int]:
        """(logits of the whole batch, how many rows were not cached)."""
        if self.x is None or self.cached is None:
            return self.model(x), len(x)
        new = (x != self.x).flatten(1).any(dim=1).nonzero()[:, 0]
        if not len(new):
            return self.cached, 0
        return self.cached.index_copy(0, new, self.model(x[new])), len(new)


@dataclass
class CountedLogits:
    """Logits, with a count of the points at which they are not finite.

    A point counts if a logit is NaN or the largest is infinite (`decided`).
    """

    logits: Callable[[Images], Logits]
    _tops: list[Rows] = field(default_factory=list[Rows])
    _counted: int = 0

    def __call__(self, x: Images) -> Logits:
        logits = self.logits(x)
        self._tops.append(logits.detach().amax(dim=1))
        if len(self._tops) == FOLD:
            self._counted, self._tops = self.non_finite, []
        return logits

    @property
    def non_finite(self) -> int:
        """Points so far at which the logits were not finite."""
        if not self._tops:
            return self._counted
        return self._counted + int((~torch.cat(self._tops).isfinite()).sum())


class Outcome(NamedTuple):
    """The model's verdict on adversarial images, each [n]; see `AttackResult`."""

    success: Mask
    within_rounding: Mask
    non_finite: Mask


@dataclass(frozen=True)
class Requirements:
    """What a method requires of the model, and which options it supports.

    - `gradients`: the model must be differentiable; `classes`: its minimum number of classes
    - `low_precision`: the fast copy of the model may be in bf16
    - `observable`: it runs the engine's solver and passes it `observe`
    """

    gradients: bool = True
    classes: int = 2
    low_precision: bool = True
    observable: bool = True


@dataclass(frozen=True)
class AbstractAttack(ABC):
    """A method with its settings: frozen, printable, free of models and tensors.

    A subclass implements `size` and `find`; `threat` is None for a minimum-norm method.
    A call checks the arguments, freezes the model, and verifies the result of `find` on the
    original model in its own precision: a success must have a margin above rounding
    (`rounding_tolerance`), so that it also holds in a batch of another size.
    """

    name: str
    threat: Threat | None

    @property
    def requirements(self) -> Requirements:
        """What it requires of the model."""
        return Requirements()

    @property
    @abstractmethod
    def size(self) -> AbstractSize:
        """The norm in which the result's distance is measured."""

    @property
    def passes(self) -> int:
        """Estimated forward passes per row, to decide whether a fast copy pays off."""
        return 100

    @property
    def votes(self) -> int:
        """Passes of the model for a majority vote: more than one if the model is random."""
        return 1

    def with_samples(self, samples: int) -> "AbstractAttack":
        """This attack on the average of at least `samples` passes, if it supports that."""
        return self

    def without_giving_up(self) -> "AbstractAttack":
        """This attack without giving up on a row before its budget is spent."""
        return self

    @abstractmethod
    def find(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The best point of each row, not yet verified."""

    def within(self) -> AbstractSet:
        """The set of allowed results around each image."""
        return Box() if self.threat is None else self.threat.within()

    @property
    def is_minimum_norm(self) -> bool:
        """Whether the perturbation is minimised rather than bounded."""
        return self.within() == Box()

    def measured(self, x_adv: Images, x: Images) -> Rows:
        """The distance of each row of `x_adv` from that of `x`, as in the result, [n]."""
        return self.size.size(x_adv - x)

    @prepared("x")
    def __call__(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor | None = None,
        *,
        targets: Tensor | None = None,
        seed: int = 0,
        keys: Keys | None = None,
        fast: Fast = "auto",
        votes: int | None = None,
        observe: Observer | None = None,
    ) -> AttackResult:
        """Attacks every row of `x` and returns a verified `AttackResult`.

        Methods within a threat return the best point they visited: a success if there is one,
        then the lowest objective. Minimum-norm methods return the nearest success.

        - `x` [n, c, h, w] in [0, 1], in the model's precision or a coarser one; the result
          is in the model's
        - `y` [n]: true classes, integers; needed without `targets`
        - `targets` [n]: target classes, for a targeted attack. With both, no target may
          equal its row's `y`; pass `targets` alone to allow it.
        - `seed` or `keys` [n]: randomness; row i of seed s is the same in any batch
          only through `keys` (see `notbugs.core.random.row_keys`)
        - `fast`: the fast copy of the model to attack (`notbugs.models.Fast`); every success
          is confirmed by the model itself. None: attack the model itself.
        - `votes`: passes of a randomised model; a row's result is that of more than half of
          them. None: as many as the attack averages.
        - `observe`: called with a `StepInfo` at every step of every solve (a restart, a
          target class, a constant of a search), e.g. a `Trace`. Its values are those of the
          fast copy, or of the model itself with `fast=None`.

        **Raises** ValueError for images outside [0, 1], labels out of range, a missing
        label, targets equal to labels, logits that are not finite on a clean image or not
        of shape (n, classes), a model of too few classes for the loss, without gradients,
        or whose logits of an image depend on the other images of the batch
        (`neighbours.check_rows`), and `observe` for a method that does not use the engine's
        solver. TypeError for what is no module.
        The model's modes, parameters and gradients are not changed.
        """
        check_goals(len(x), model.classes, y, targets)
        check_loss(model.classes, self.requirements.classes, self.name)
        # Losses index by int64; labels of any integer type are welcome.
        y, targets = (None if v is None else v.long() for v in (y, targets))
        self._check_radius(x)
        keys = random.row_keys(len(x), seed, "attack") if keys is None else keys
        if keys.shape != x.shape[:1]:
            raise bad_value(
                "keys", f"have shape ({len(x)},)", tuple(keys.shape), "One key per row."
            )
        if observe is not None and not self.requirements.observable:
            raise bad_value(
                "observe",
                f"be left out for {self.name}, which runs a loop of its own",
                observe,
                "Trace a method of gradient steps, such as pgd, apgd, fmn or cw_l2.",
            )
        inputs = AttackInputs(x, y, targets, keys.to(x.device), observe)
        votes = self.votes if votes is None else votes
        check_count(votes, "votes")
        with frozen(model):
            low_precision, model_logits = self.requirements.low_precision, model.logits
            # If a copy can use channels-last memory, so can the model.
            if precisions(model, x, self.passes, fast=fast, low=low_precision):
                model_logits = channels_last(model.logits)
            logits = clean_logits(model, x, model_logits)
            check_rows(model, x, logits)
            already_wrong = wrong_clean(model, x, y, votes, logits)
            if self.requirements.gradients:
                check_gradients(model, x[:1], self.name)
            copy = copy_to_attack(
                model, x, self.passes, fast=fast, low=low_precision, logits=logits
            )
            cached = CachedLogits(model_logits, len(x))
            counted = CountedLogits(model.logits if copy is None else copy)
            exact = None if copy is None else CountedLogits(cached)
            solution = self.find(Victim(counted, exact, model), inputs)
            non_finite = counted.non_finite + (0 if exact is None else exact.non_finite)
            return self._verified(cached, inputs, already_wrong, solution, votes, non_finite)

    def _verified(
        self,
        cached: "CachedLogits",
        inputs: AttackInputs,
        already_wrong: Mask,
        solution: Solution,
        votes: int,
        non_finite: int,
    ) -> AttackResult:
        x = inputs.x
        x_adv = self.within().project(solution.x.to(x.dtype), x)
        if votes == 1:
            with torch.no_grad():
                logits, checked = cached.verify(x_adv)
            outcome = _outcome(logits, inputs.y, inputs.targets)
        else:
            outcome = majority_of(cached.model, x_adv, inputs.y, inputs.targets, votes)
            checked = votes * len(x)
        self._check_feasible(x, x_adv)
        forwards = solution.forwards + votes * len(x) + checked
        return AttackResult(
            x_adv=x_adv,
            success=outcome.success,
            within_rounding=outcome.within_rounding,
            non_finite=outcome.non_finite,
            already_wrong=already_wrong,
            distance=self.measured(x_adv, x),
            loss=solution.value,
            queries=forwards / len(x),
            zero_grads=solution.zero_grads,
            steps=solution.steps,
            gave_up=(solution.gave_up | solution.success) & ~outcome.success,
            forwards=forwards,
            backwards=solution.backwards,
            non_finite_points=non_finite,
        )

    def _check_radius(self, x: Images) -> None:
        """Refuses a radius that is too small for the precision of the images."""
        least = SPACINGS * torch.finfo(x.dtype).eps
        if self.threat is not None and self.threat.eps < least:
            raise bad_value(
                "eps",
                f"be at least {least:.2g} for images in {x.dtype}, which hold no finer steps",
                f"{self.threat.eps:g}",
                "Use a larger radius, or model.double().",
            )

    def _check_feasible(self, x: Images, x_adv: Images) -> None:
        violation = self.within().violation(x_adv, x)
        eps = 1.0 if self.threat is None else self.threat.eps
        bad = ~(violation <= FEASIBLE * max(1.0, eps))
        if bool(bad.any()):
            row = int(bad.nonzero()[0, 0])
            raise RuntimeError(
                f"{self.name} left its set by {float(violation[row]):.2e} in row {row} "
                f"(threat: {self.threat}). This is a bug in notbugs or a model that returns "
                "NaN; please report it."
            )


@torch.no_grad()
def majority_of(
    logits_of: Callable[[Images], Logits],
    x: Images,
    y: Labels | None,
    targets: Labels | None,
    votes: int,
) -> Outcome:
    """The outcome at `x` in more than half of `votes` passes."""
    return _majority([_outcome(logits_of(x), y, targets) for _ in range(votes)])


def _outcome(logits: Logits, y: Labels | None, targets: Labels | None) -> Outcome:
    """The outcome of one pass: the goal is reached, reached within rounding, or neither."""
    finite, predictions = decided(logits), predicted(logits)
    if targets is not None:
        success, reached = classified_as(logits, targets, VERIFIED), predictions == targets
    else:
        assert y is not None
        success, reached = misclassified(logits, y, VERIFIED), predictions != y
    return Outcome(success & finite, reached & ~success & finite, ~finite)


def _majority(passes: list[Outcome]) -> Outcome:
    """The outcome of more than half of the passes; within rounding if there is no such majority."""
    success, within, non_finite = (
        torch.stack(outcomes).float().mean(dim=0) for outcomes in zip(*passes, strict=True)
    )
    succeeded, invalid = success > 0.5, non_finite > 0.5
    return Outcome(
        succeeded, (success + within + non_finite >= 0.5) & ~succeeded & ~invalid, invalid
    )


def wrong_clean(model: Classifier, x: Images, y: Labels | None, votes: int, logits: Logits) -> Mask:
    """Which clean images are classified as `y` in at most half of `votes` passes, [n].

    `logits` [n, k] are those of one pass. False where `y` is not known.
    """
    if y is None:
        return torch.zeros(len(x), dtype=torch.bool, device=x.device)
    passes = [logits, *(clean_logits(model, x) for _ in range(votes - 1))]
    correct = torch.stack([predicted(z) == y for z in passes])
    return ~(correct.float().mean(dim=0) > 0.5)

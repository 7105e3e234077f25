"""What every attack shares: checked arguments, and a result verified on the model itself."""

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
"""Spacings of the type's numbers below 1 that a radius holds at least."""
VERIFIED = 0.5
"""Rounding tolerances by which a verified success leads: fewer than on the way, to lose none."""
FOLD = 64
"""Passes whose sums are held before they are counted."""


@dataclass(frozen=True)
class Victim:
    """A model under attack, held still.

    - `logits`: images [n, c, h, w] in [0, 1] -> logits [n, k]; perhaps in low precision
    - `exact`: the original model's logits where `logits` is a faster copy, else None
    - `model`: the original, for what else an attack may need (its embedding)
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
    """The rows to attack: images, what is known of them, and their randomness.

    At least one of `y` (true classes) and `targets` is given; with `targets` the attack
    wants those. All have one entry a row. `observe`, where it is given, is to be handed to
    every solve: it is told of the rows by their places in the whole call.
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
        """The same rows with fresh randomness for the named purpose."""
        return replace(self, keys=random.fold(self.keys, *names))


@dataclass
class CachedLogits:
    """The model's own logits, with the last answer about the whole batch of `rows` kept.

    A solver that works on a copy asks the model about its results at the end: images
    that are returned as they were asked about need not be asked again to verify them.
    """

    model: Callable[[Images], Logits]
    rows: int
    x: Images | None = None
    said: Logits | None = None

    def __call__(self, x: Images) -> Logits:
        said = self.model(x)
        if len(x) == self.rows:
            self.x, self.said = x.detach(), said.detach()
        return said

    def again(self, x: Images) -> tuple[Logits, int]:
        """(logits of the whole batch, for how many rows the model had to be asked)."""
        if self.x is None or self.said is None:
            return self.model(x), len(x)
        new = (x != self.x).flatten(1).any(dim=1).nonzero()[:, 0]
        if not len(new):
            return self.said, 0
        return self.said.index_copy(0, new, self.model(x[new])), len(new)


@dataclass
class CountedLogits:
    """Logits handed on as they are, with the points counted at which they decide nothing.

    That is a row with a NaN, or whose largest logit is infinite (`decided`).
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
        """Points seen so far at which the logits decided nothing."""
        if not self._tops:
            return self._counted
        return self._counted + int((~torch.cat(self._tops).isfinite()).sum())


class Outcome(NamedTuple):
    """What the model says of images at which an attack arrived, each [n]; see `AttackResult`."""

    success: Mask
    within_rounding: Mask
    non_finite: Mask


@dataclass(frozen=True)
class Requirements:
    """What a method asks of the model, and what can be asked of it.

    - `gradients`: the model must be differentiable; `classes`: the fewest that it may have
    - `low_precision`: the copy of the model that it works on may be in bf16
    - `observable`: it steps through the engine's solver and hands it the inputs's `observe`
    """

    gradients: bool = True
    classes: int = 2
    low_precision: bool = True
    observable: bool = True


@dataclass(frozen=True)
class AbstractAttack(ABC):
    """A method with its settings: frozen, printable, free of models and tensors.

    A subclass gives `size` and `find`; `threat` is None for a minimum-norm method.
    Calling it checks the arguments, holds the model still, and verifies what `find`
    returned on the original model in its own precision: a success must lead by more than
    rounding (`rounding_tolerance`), so that it holds in a batch of another size.
    """

    name: str
    threat: Threat | None

    @property
    def requirements(self) -> Requirements:
        """What it asks of the model."""
        return Requirements()

    @property
    @abstractmethod
    def size(self) -> AbstractSize:
        """What the distance in the result is measured in."""

    @property
    def passes(self) -> int:
        """About how many forward passes a row costs: to choose a fast path, and estimate."""
        return 100

    @property
    def votes(self) -> int:
        """Passes of the model whose majority decides: more than one where it is random."""
        return 1

    def with_samples(self, samples: int) -> "AbstractAttack":
        """This attack by the average of at least `samples` passes, where it has such a form."""
        return self

    def without_giving_up(self) -> "AbstractAttack":
        """This attack without giving up on a row before its budget is spent."""
        return self

    @abstractmethod
    def find(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The best point of each row as the solver sees it, unverified."""

    def within(self) -> AbstractSet:
        """The set of allowed results around each image."""
        return Box() if self.threat is None else self.threat.within()

    @property
    def is_minimum_norm(self) -> bool:
        """Whether only the image's distance counts, and no bound holds it."""
        return self.within() == Box()

    def measured(self, x_adv: Images, x: Images) -> Rows:
        """The distance of each row of `x_adv` from its row of `x` that the result names, [n]."""
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

        Methods within a threat return the best point on the way, a success before any other and
        else the lowest objective, not the last one; minimum-norm methods the nearest success.

        - `x` [n, c, h, w] in [0, 1], in the model's precision or a coarser one; the result
          is in the model's
        - `y` [n]: true classes, integers; needed without `targets`
        - `targets` [n]: wanted classes: a targeted attack. With both, no target may
          equal its row's `y`; pass `targets` alone to allow it.
        - `seed` or `keys` [n]: randomness; row i of seed s is the same in any batch
          only through `keys` (see `notbugs.core.random.row_keys`)
        - `fast`: the copy of the model that does the work (`notbugs.models.Fast`); every
          success is confirmed by the model itself, and None leaves copies out
        - `votes`: passes of a model that is random in itself; what is said of a row holds
          in more than half of them. None takes as many as the attack averages.
        - `observe`: called with a `StepInfo` at every step of every solve (a restart, a
          class tried, a constant of a search), e.g. a `Trace`. What it sees are the values
          the attack works with: those of the model itself with `fast=None`.

        **Raises** ValueError for images outside [0, 1], labels out of range, a missing
        label, targets equal to labels, logits that are not finite on a clean image or not
        of shape (n, classes), a model of too few classes for the loss, without gradients,
        or whose logits of an image depend on its neighbours (`neighbours.check_rows`), and
        `observe` for a method that runs a loop of its own. TypeError for a
        module that is no `Classifier`.
        The model's modes, parameters and gradients are left as they were.
        """
        check_goals(len(x), model.classes, y, targets)
        check_loss(model.classes, self.requirements.classes, self.name)
        # Losses index by int64; labels of any integer type are welcome.
        y, targets = (None if v is None else v.long() for v in (y, targets))
        self._check_radius(x)
        keys = random.row_keys(len(x), seed, "attack") if keys is None else keys
        if keys.shape != x.shape[:1]:
            raise bad_value("keys", f"have shape ({len(x)},)", tuple(keys.shape), "One key a row.")
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
            low, own = self.requirements.low_precision, model.logits
            # What a copy does in channels-last memory the model can too.
            if precisions(model, x, self.passes, fast=fast, low=low):
                own = channels_last(model.logits)
            logits = clean_logits(model, x, own)
            check_rows(model, x, logits)
            wrong = wrong_clean(model, x, y, votes, logits)
            if self.requirements.gradients:
                check_gradients(model, x[:1], self.name)
            copy = copy_to_attack(model, x, self.passes, fast=fast, low=low, logits=logits)
            cached = CachedLogits(own, len(x))
            counted = CountedLogits(model.logits if copy is None else copy)
            exact = None if copy is None else CountedLogits(cached)
            found = self.find(Victim(counted, exact, model), inputs)
            seen = counted.non_finite + (0 if exact is None else exact.non_finite)
            return self._verified(cached, inputs, wrong, found, votes, seen)

    def _verified(
        self,
        cached: "CachedLogits",
        inputs: AttackInputs,
        wrong: Mask,
        best: Solution,
        votes: int,
        seen: int,
    ) -> AttackResult:
        x = inputs.x
        x_adv = self.within().project(best.x.to(x.dtype), x)
        if votes == 1:
            with torch.no_grad():
                logits, checked = cached.again(x_adv)
            outcome = _outcome(logits, inputs.y, inputs.targets)
        else:
            outcome = majority_of(cached.model, x_adv, inputs.y, inputs.targets, votes)
            checked = votes * len(x)
        self._check_feasible(x, x_adv)
        forwards = best.forwards + votes * len(x) + checked
        return AttackResult(
            x_adv=x_adv,
            success=outcome.success,
            within_rounding=outcome.within_rounding,
            non_finite=outcome.non_finite,
            already_wrong=wrong,
            distance=self.measured(x_adv, x),
            loss=best.value,
            queries=forwards / len(x),
            zero_grads=best.zero_grads,
            steps=best.steps,
            gave_up=best.gave_up & ~outcome.success,
            forwards=forwards,
            backwards=best.backwards,
            non_finite_points=seen,
        )

    def _check_radius(self, x: Images) -> None:
        """Refuses a radius that is lost in the spacing of the images' own numbers."""
        least = SPACINGS * torch.finfo(x.dtype).eps
        if self.threat is not None and self.threat.eps < least:
            raise bad_value(
                "eps",
                f"be at least {least:.2g} for images in {x.dtype}, which hold no finer steps",
                f"{self.threat.eps:g}",
                "Use a larger radius, or model.double().",
            )

    def _check_feasible(self, x: Images, x_adv: Images) -> None:
        over = self.within().violation(x_adv, x)
        eps = 1.0 if self.threat is None else self.threat.eps
        bad = ~(over <= FEASIBLE * max(1.0, eps))
        if bool(bad.any()):
            row = int(bad.nonzero()[0, 0])
            raise RuntimeError(
                f"{self.name} left its set by {float(over[row]):.2e} in row {row} "
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
    """What more than half of `votes` passes say of the images `x`."""
    return _majority([_outcome(logits_of(x), y, targets) for _ in range(votes)])


def _outcome(logits: Logits, y: Labels | None, targets: Labels | None) -> Outcome:
    """What one pass says: the goal is reached beyond rounding, within it, or neither."""
    finite, led = decided(logits), predicted(logits)
    if targets is not None:
        success, reached = classified_as(logits, targets, VERIFIED), led == targets
    else:
        assert y is not None
        success, reached = misclassified(logits, y, VERIFIED), led != y
    return Outcome(success & finite, reached & ~success & finite, ~finite)


def _majority(passes: list[Outcome]) -> Outcome:
    """What more than half of the passes say; within rounding where they do not agree so far."""
    success, within, odd = (
        torch.stack(seen).float().mean(dim=0) for seen in zip(*passes, strict=True)
    )
    done, bad = success > 0.5, odd > 0.5
    return Outcome(done, (success + within + odd >= 0.5) & ~done & ~bad, bad)


def wrong_clean(model: Classifier, x: Images, y: Labels | None, votes: int, said: Logits) -> Mask:
    """Which clean images are not classified as `y` in more than half of `votes` passes, [n].

    `said` [n, k] are the logits of one pass. False where `y` is not known.
    """
    if y is None:
        return torch.zeros(len(x), dtype=torch.bool, device=x.device)
    passes = [said, *(clean_logits(model, x) for _ in range(votes - 1))]
    right = torch.stack([predicted(logits) == y for logits in passes])
    return ~(right.float().mean(dim=0) > 0.5)

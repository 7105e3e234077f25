"""What every attack shares: checks at the door, and a result verified on the model itself."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from notbugs.attacks.losses import predicted, predicted_clean
from notbugs.attacks.result import AttackResult
from notbugs.core import random
from notbugs.core.errors import (
    bad_value,
    check_images,
    check_labels,
    check_targets,
)
from notbugs.core.types import Images, Keys, Labels, Logits
from notbugs.engine import AbstractSet, AbstractSize, Box, Observer, Solution, Threat, on_rows
from notbugs.models import Classifier, frozen
from notbugs.models.standin import faster

FEASIBLE = 1e-5
"""Relative tolerance on the radius when a result is verified (float32 rounding of a norm)."""


@dataclass(frozen=True)
class Victim:
    """A model under attack, held still.

    - `logits`: images [n, c, h, w] in [0, 1] -> logits [n, k]; perhaps in low precision
    - `exact`: the original model's logits where `logits` is a faster stand-in, else None
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
class Case:
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

    def select(self, index: Tensor) -> "Case":
        """The rows `index`."""
        y, targets = (None if v is None else v[index] for v in (self.y, self.targets))
        observe = on_rows(self.observe, index)
        return Case(self.x[index], y, targets, self.keys[index], observe)

    def again(self, *names: object) -> "Case":
        """The same rows with fresh randomness for the named purpose."""
        return replace(self, keys=random.fold(self.keys, *names))


@dataclass(frozen=True)
class AbstractAttack(ABC):
    """A method with its settings: frozen, printable, free of models and tensors.

    A subclass gives `size` and `find`; `threat` is None for a minimum-norm method.
    Calling it checks the arguments, holds the model still, and verifies what `find`
    returned on the original model in its own precision.
    """

    name: str
    threat: Threat | None

    gains_from_speed: ClassVar[bool] = True
    """Whether the stand-in of the model may be of low precision."""

    can_be_observed: ClassVar[bool] = True
    """Whether it steps through the engine's solver, and hands it the case's `observe`."""

    @property
    def needs_grad(self) -> bool:
        """Whether the model must be differentiable."""
        return True

    @property
    @abstractmethod
    def size(self) -> AbstractSize:
        """What the distance in the result is measured in."""

    @property
    def passes(self) -> int:
        """About how many forward passes a row costs: to choose a fast path, and estimate."""
        return 100

    @property
    def least_classes(self) -> int:
        """The fewest classes that the method is defined for."""
        return 2

    @abstractmethod
    def find(self, victim: Victim, case: Case) -> Solution:
        """The best point of each row as the solver sees it, unverified."""

    def within(self) -> AbstractSet:
        """The set of allowed results around each image."""
        return Box() if self.threat is None else self.threat.within()

    def __call__(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor | None = None,
        *,
        targets: Tensor | None = None,
        seed: int = 0,
        keys: Keys | None = None,
        fast: bool = True,
        observe: Observer | None = None,
    ) -> AttackResult:
        """Attacks every row of `x` and returns a verified `AttackResult`.

        - `x` [n, c, h, w] in [0, 1]
        - `y` [n]: true classes, integers; needed without `targets`
        - `targets` [n]: wanted classes: a targeted attack. With both, no target may
          equal its row's `y`; pass `targets` alone to allow it.
        - `seed` or `keys` [n]: randomness; row i of seed s is the same in any batch
          only through `keys` (see `notbugs.core.random.row_keys`)
        - `fast`: let a cheaper stand-in of the model (folded norms, channels-last, bf16)
          do the work where it pays; every success is confirmed by the model itself
        - `observe`: called with a `StepInfo` at every step of every solve (a restart, a
          class tried, a constant of a search), e.g. a `Trace`. What it sees are the values
          the attack works with: those of the model itself with `fast=False`.

        **Raises** ValueError for images outside [0, 1], labels out of range, a missing
        label, targets equal to labels, a model that gives NaN for a clean image, logits
        of another shape than (n, classes), a model without gradients, or `observe` for a
        method that runs a loop of its own.
        The model's modes, parameters and gradients are left as they were.
        """
        self._check(model, x, y, targets)
        x = x.detach()
        # Losses index by int64; labels of any integer type are welcome.
        y, targets = (None if v is None else v.long() for v in (y, targets))
        keys = random.row_keys(len(x), seed, "attack") if keys is None else keys
        if keys.shape != x.shape[:1]:
            raise bad_value("keys", f"have shape ({len(x)},)", tuple(keys.shape), "One key a row.")
        if observe is not None and not self.can_be_observed:
            raise bad_value(
                "observe",
                f"be left out for {self.name}, which runs a loop of its own",
                observe,
                "Trace a method of gradient steps, such as pgd, apgd, fmn or cw_l2.",
            )
        case = Case(x, y, targets, keys.to(x.device), observe)
        with frozen(model):
            clean = predicted_clean(model, x)
            if self.needs_grad:
                check_gradients(model, x[:1], self.name)
            stand_in = None
            if fast:
                stand_in = faster(model, x, self.passes, low=self.gains_from_speed)
            victim = Victim(
                model.logits if stand_in is None else stand_in,
                None if stand_in is None else model.logits,
                model,
            )
            return self._verified(model, case, clean, self.find(victim, case))

    def _check(
        self, model: Classifier, x: Tensor, y: Tensor | None, targets: Tensor | None
    ) -> None:
        check_images(x)
        if model.mean.dtype not in (torch.float32, torch.float64):
            raise bad_value(
                "model",
                "compute in float32 or float64",
                f"{model.mean.dtype}",
                "Use model.float(); on hardware that has bf16 the attack takes it by itself.",
            )
        if torch.promote_types(x.dtype, model.mean.dtype) != model.mean.dtype:
            raise bad_value(
                "x",
                f"be no finer than the model's {model.mean.dtype}",
                f"{x.dtype}",
                f"Use x.to({model.mean.dtype}), or model.to({x.dtype}).",
            )
        for name, labels in (("y", y), ("targets", targets)):
            if labels is not None:
                check_labels(labels, rows=len(x), classes=model.classes, argument=name)
        if y is not None and targets is not None:
            check_targets(targets, y)
        if y is None and targets is None:
            raise bad_value("y", "be given", None, "Pass true labels, or `targets`.")
        if model.classes < self.least_classes:
            raise bad_value(
                "model",
                f"have at least {self.least_classes} classes for {self.name}",
                model.classes,
                "Its loss is undefined for fewer: use loss=margin or cross_entropy.",
            )

    def _verified(
        self, model: Classifier, case: Case, clean: Labels, best: Solution
    ) -> AttackResult:
        x, y, targets = case.x, case.y, case.targets
        x_adv = self.within().project(best.x.to(x.dtype), x)
        with torch.no_grad():
            after = predicted(model.logits(x_adv))
        wrong = torch.zeros_like(best.success) if y is None else clean != y
        success = after == targets if targets is not None else after != y
        self._check_feasible(x, x_adv)
        forwards = best.forwards + 2 * len(x)
        return AttackResult(
            x_adv=x_adv,
            success=success,
            already_wrong=wrong,
            distance=self.size.size(x_adv - x),
            loss=best.value,
            queries=forwards / len(x),
            zero_grads=best.zero_grads,
            steps=best.steps,
            forwards=forwards,
            backwards=best.backwards,
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


def check_gradients(model: Classifier, x: Images, method: str) -> None:
    """Refuses a model whose logits cannot be differentiated by the image.

    **Raises** ValueError, which advises Square.
    """
    with torch.enable_grad():
        logits = model.logits(x.detach().clone().requires_grad_())
    if not logits.requires_grad:
        raise bad_value(
            "model",
            f"give logits that can be differentiated by the image, for {method}",
            "logits without gradients",
            "Use square(norm, eps), which needs none, or remove no_grad/detach from the model.",
        )

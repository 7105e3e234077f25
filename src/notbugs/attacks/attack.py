"""An attack: a solver, a loss and a number of restarts; its result is verified, not believed."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from notbugs.attacks.losses import (
    Away,
    Towards,
    ValueOfLogits,
    cross_entropy,
    predicted,
    predicted_clean,
)
from notbugs.attacks.result import AttackResult, better
from notbugs.core import random
from notbugs.core.errors import (
    bad_value,
    check_count,
    check_images,
    check_labels,
    check_targets,
)
from notbugs.core.types import Images, Keys, Labels
from notbugs.engine import AtCenter, Solution, Solver, StepInfo, Threat, UniformIn
from notbugs.models import Classifier, frozen

FEASIBLE = 1e-5
"""Relative tolerance on the radius when a result is verified (float32 rounding of a norm)."""


@dataclass(frozen=True)
class Attack:
    """A method with its settings: frozen, printable, free of models and tensors.

    `random_start` draws the first point uniformly from the ball; every restart draws
    anew. A restart keeps the first success, else the lowest objective.
    """

    name: str
    threat: Threat
    solver: Solver
    loss: ValueOfLogits = cross_entropy
    random_start: bool = True
    restarts: int = 1

    def __post_init__(self) -> None:
        """Refuses an empty number of restarts."""
        check_count(self.restarts, "restarts")

    def __call__(
        self,
        model: Classifier,
        x: Tensor,
        y: Tensor | None = None,
        *,
        targets: Tensor | None = None,
        seed: int = 0,
        keys: Keys | None = None,
    ) -> AttackResult:
        """Attacks every row of `x` and returns a verified `AttackResult`.

        - `x` [n, c, h, w] in [0, 1]
        - `y` [n]: true classes, integers; needed without `targets`
        - `targets` [n]: wanted classes: a targeted attack. With both, no target may
          equal its row's `y`; pass `targets` alone to allow it.
        - `seed` or `keys` [n]: randomness; row i of seed s is the same in any batch
          only through `keys` (see `notbugs.core.random.row_keys`)

        **Raises** ValueError for images outside [0, 1], labels out of range, a missing
        label, targets equal to labels, or a model that gives NaN for a clean image.
        The model's modes, parameters and gradients are left as they were.
        """
        self._check(model, x, y, targets)
        x = x.detach()
        # Losses index by int64; labels of any integer type are welcome.
        y, targets = (None if v is None else v.long() for v in (y, targets))
        keys = random.row_keys(len(x), seed, "attack") if keys is None else keys
        if keys.shape != x.shape[:1]:
            raise bad_value("keys", f"have shape ({len(x)},)", tuple(keys.shape), "One key a row.")
        with frozen(model):
            clean = predicted_clean(model, x)
            best, cost = self._restarts(model, x, y, targets, keys.to(x.device))
            return self._verified(model, x, y, targets, clean, best, cost)

    def craft(
        self,
        model: Callable[[Images], Tensor],
        x: Images,
        y: Labels | None = None,
        *,
        targets: Labels | None = None,
        keys: Keys,
        observe: Callable[[StepInfo], None] | None = None,
    ) -> Solution:
        """One restart as the solver returns it: no checks, no verification, no mode change.

        For training loops, which call it under `frozen(model)` themselves.
        """
        if targets is not None:
            objective, context = Towards(model, self.loss), {"targets": targets}
        elif y is not None:
            objective, context = Away(model, self.loss), {"y": y}
        else:
            raise bad_value("y", "be given without `targets`", None)
        start = UniformIn() if self.random_start else AtCenter()
        return self.solver.minimise(objective, x, context, keys=keys, start=start, observe=observe)

    def _check(
        self, model: Classifier, x: Tensor, y: Tensor | None, targets: Tensor | None
    ) -> None:
        check_images(x)
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

    def _restarts(
        self,
        model: Classifier,
        x: Images,
        y: Labels | None,
        targets: Labels | None,
        keys: Keys,
    ) -> tuple[Solution, tuple[int, int]]:
        """The best of all restarts; later ones only see the rows that still stand."""
        best = self.craft(model, x, y, targets=targets, keys=keys)
        forwards, backwards = best.forwards, best.backwards
        for restart in range(1, self.restarts):
            left = (~best.success).nonzero()[:, 0]
            if not len(left):
                break
            part_y, part_t = (None if v is None else v[left] for v in (y, targets))
            again = self.craft(
                model, x[left], part_y, targets=part_t, keys=random.fold(keys[left], restart)
            )
            forwards, backwards = forwards + again.forwards, backwards + again.backwards
            best = better(best, again, left)
        return best, (forwards, backwards)

    def _verified(
        self,
        model: Classifier,
        x: Images,
        y: Labels | None,
        targets: Labels | None,
        clean: Labels,
        best: Solution,
        cost: tuple[int, int],
    ) -> AttackResult:
        x_adv = self.threat.within().project(best.x.to(x.dtype), x)
        with torch.no_grad():
            after = predicted(model.logits(x_adv))
        wrong = torch.zeros_like(best.success) if y is None else clean != y
        success = after == targets if targets is not None else after != y
        self._check_feasible(x, x_adv)
        forwards = cost[0] + 2 * len(x)
        return AttackResult(
            x_adv=x_adv,
            success=success,
            already_wrong=wrong,
            distance=self.threat.norm.size(x_adv - x),
            loss=best.value,
            queries=forwards / len(x),
            zero_grads=best.zero_grads,
            forwards=forwards,
            backwards=cost[1],
        )

    def _check_feasible(self, x: Images, x_adv: Images) -> None:
        over = self.threat.within().violation(x_adv, x)
        bad = ~(over <= FEASIBLE * max(1.0, self.threat.eps))
        if bool(bad.any()):
            row = int(bad.nonzero()[0, 0])
            raise RuntimeError(
                f"{self.name} left its threat {self.threat} by {float(over[row]):.2e} in row "
                f"{row}. This is a bug in notbugs or a model that returns NaN; please report it."
            )

"""Szegedy et al.'s attack: box-constrained L-BFGS on a penalised loss, one row at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notbugs.attacks.attack import AbstractAttack, AttackInputs, Requirements, Victim
from notbugs.attacks.binary_search import BinarySearch
from notbugs.attacks.cw_common import context
from notbugs.attacks.cw_objectives import CW_OBJECTIVES, reached
from notbugs.core.errors import check_count, check_positive
from notbugs.core.rows import at_least_float32
from notbugs.core.types import Images, Logits
from notbugs.engine import L2, AbstractSize, Solution

Vector = NDArray[np.float64]


@dataclass
class _Row:
    """One row's problem and its best point so far.

    That is the point of the lowest loss until the first success, then the nearest success.
    """

    logits: Callable[[Images], Logits]
    inputs: AttackInputs
    best: Tensor
    value: float = float("inf")
    distance: float = float("inf")
    evaluations: int = 0
    steps: int = 0
    zero_grads: int = 0
    succeeded: bool = False

    def penalised(self, flat: Vector, c: float) -> tuple[float, Vector]:
        """||x' - x||_2^2 + c * loss(x') and its gradient; stores the point if it is the best."""
        start = self.inputs.x
        x = torch.from_numpy(flat).to(start).reshape(start.shape).clamp_(0, 1).requires_grad_()
        with torch.enable_grad():
            z = self.logits(x)
            loss = self._loss(at_least_float32(z))
            (grad,) = torch.autograd.grad(loss, x)
        penalty = float(loss.detach())
        change = x.detach() - start
        self._update_best(x.detach(), z.detach(), penalty, float(change.norm()))
        self.zero_grads += not bool(grad.any())
        slope = (2 * change + c * grad).double().flatten().cpu().numpy()
        return float(change.double().square().sum()) + c * penalty, slope

    def _loss(self, z: Logits) -> Tensor:
        """Cross-entropy of the target, or of not being the true class, in nats."""
        form, inputs = CW_OBJECTIVES["f5"], self.inputs
        if inputs.targets is not None:
            return form.towards(z, inputs.targets).sum()
        if inputs.y is None:
            raise RuntimeError("A row needs a target or a true class.")
        return form.away(z, inputs.y).sum()

    def _update_best(self, x: Tensor, z: Logits, loss: float, distance: float) -> None:
        self.evaluations += 1
        success = bool(reached(z, self.inputs.y, self.inputs.targets, 0.0))
        self.succeeded |= success
        had_success = self.distance < float("inf")
        if distance < self.distance if success else not had_success and loss < self.value:
            self.best, self.value = x, loss
            self.distance = distance if success else self.distance


@dataclass(frozen=True)
class LBFGS(AbstractAttack):
    """See `lbfgs`."""

    steps: int
    search_steps: int
    initial_c: float

    @property
    def requirements(self) -> Requirements:
        return Requirements(low_precision=False, observable=False)

    @property
    def size(self) -> AbstractSize:
        return L2()

    @property
    def passes(self) -> int:
        return self.steps * self.search_steps

    def find(self, victim: Victim, inputs: AttackInputs) -> Solution:
        """The nearest success of each row, one row after the other."""
        context(inputs, inputs.keys)  # refuses rows with neither labels nor targets
        index = torch.arange(len(inputs.x), device=inputs.x.device)
        results = [self._row(victim, inputs.select(i)) for i in index.split(1)]
        device = inputs.x.device
        count = torch.tensor([row.steps for row in results], device=device)
        return Solution(
            x=torch.cat([row.best for row in results]),
            value=torch.tensor([row.value for row in results], device=device),
            success=torch.tensor([row.distance < float("inf") for row in results], device=device),
            gave_up=torch.zeros_like(count, dtype=torch.bool),
            steps=count,
            zero_grads=torch.tensor([row.zero_grads for row in results], device=device),
            forwards=sum(row.evaluations for row in results),
            backwards=sum(row.evaluations for row in results),
        )

    def _row(self, victim: Victim, inputs: AttackInputs) -> _Row:
        from scipy.optimize import minimize  # slow to import: half a second

        row = _Row(victim.true_logits, inputs, inputs.x)
        start = inputs.x.double().flatten().cpu().numpy()
        row.penalised(start, 1.0)
        if row.succeeded:
            return row
        search = BinarySearch.around(self.initial_c, inputs.keys.cpu())
        for _ in range(self.search_steps):
            row.succeeded = False
            minimum: Any = minimize(
                row.penalised,
                start,
                args=(float(search.c),),
                method="L-BFGS-B",
                jac=True,
                bounds=[(0.0, 1.0)] * len(start),
                options={"maxiter": self.steps, "maxfun": 2 * self.steps},
            )
            row.steps += int(minimum.nit)
            search = search.narrowed(torch.tensor([row.succeeded]))
        return row


def lbfgs(*, steps: int = 50, search_steps: int = 12, initial_c: float = 1e-2) -> LBFGS:
    """The first attack of all: L-BFGS in the pixel box, with a binary search for the loss's weight.

    For `search_steps` constants c, separately for each row:

        minimise over x' in [0, 1]   ||x' - x||_2^2 + c * loss(x')

    by at most `steps` steps of L-BFGS-B from the image itself; c grows tenfold until the
    row is broken, then the interval between failure and success is halved. Of all points
    evaluated, the success nearest to the image is returned.

    - the loss: -log F_t with targets, else -log(1 - F_y), in nats, F the probabilities
    - `steps`: per constant; a step costs a forward and a backward pass, rarely two
    - `initial_c`: the first constant, squared pixel units per nat

    It runs row by row on the CPU (scipy), so it is slow: `cw_l2` is its successor.

    **Source**: Szegedy et al. 2013 (arXiv 1312.6199), section 4.1.
    **Differs from the paper**: the squared distance, which is smooth at the image, instead
    of the distance; c weighs the loss instead of the distance; the untargeted form is
    ours; all evaluated points count, not only the minimiser.

    **Raises** ValueError for counts and constants that are not above 0.

    >>> lbfgs(steps=20).name
    'L-BFGS-12x20'
    """
    check_count(steps, "steps")
    check_count(search_steps, "search_steps")
    check_positive(initial_c, "initial_c")
    return LBFGS(f"L-BFGS-{search_steps}x{steps}", None, steps, search_steps, initial_c)

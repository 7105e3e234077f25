"""Szegedy et al.'s attack: box-constrained L-BFGS on a penalised loss, one row at a time."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from notbugs.attacks.attack import AbstractAttack, Case, Demands, Victim
from notbugs.attacks.bracket import Bracket
from notbugs.attacks.cw_common import context
from notbugs.attacks.cw_objectives import CW_OBJECTIVES, reached
from notbugs.attacks.losses import fine
from notbugs.core.errors import check_count, check_positive
from notbugs.core.types import Images, Logits
from notbugs.engine import L2, AbstractSize, Solution, Status

Vector = NDArray[np.float64]


@dataclass
class _Row:
    """One row's problem, and the best point that was evaluated for it.

    Until the first success that is the point of the lowest loss, then the nearest success.
    """

    logits: Callable[[Images], Logits]
    case: Case
    best: Tensor
    value: float = float("inf")
    distance: float = float("inf")
    evaluations: int = 0
    steps: int = 0
    zero_grads: int = 0
    broken_now: bool = False

    def penalised(self, flat: Vector, c: float) -> tuple[float, Vector]:
        """||x' - x||_2^2 + c * loss(x') and its gradient; remembers the point if it is the best."""
        start = self.case.x
        x = torch.from_numpy(flat).to(start).reshape(start.shape).clamp_(0, 1).requires_grad_()
        with torch.enable_grad():
            z = self.logits(x)
            loss = self._loss(fine(z))
            (grad,) = torch.autograd.grad(loss, x)
        penalty = float(loss.detach())
        change = x.detach() - start
        self._remember(x.detach(), z.detach(), penalty, float(change.norm()))
        self.zero_grads += not bool(grad.any())
        slope = (2 * change + c * grad).double().flatten().cpu().numpy()
        return float(change.double().square().sum()) + c * penalty, slope

    def _loss(self, z: Logits) -> Tensor:
        """Cross-entropy of the target, or of not being the true class, in nats."""
        form, case = CW_OBJECTIVES["f5"], self.case
        if case.targets is not None:
            return form.towards(z, case.targets).sum()
        if case.y is None:
            raise RuntimeError("A row needs a target or a true class.")
        return form.away(z, case.y).sum()

    def _remember(self, x: Tensor, z: Logits, loss: float, distance: float) -> None:
        self.evaluations += 1
        success = bool(reached(z, self.case.y, self.case.targets, 0.0))
        self.broken_now |= success
        broken = self.distance < float("inf")
        if distance < self.distance if success else not broken and loss < self.value:
            self.best, self.value = x, loss
            self.distance = distance if success else self.distance


@dataclass(frozen=True)
class LBFGS(AbstractAttack):
    """See `lbfgs`."""

    steps: int
    search_steps: int
    initial_c: float

    @property
    def demands(self) -> Demands:
        return Demands(low_precision=False, observable=False)

    @property
    def size(self) -> AbstractSize:
        return L2()

    @property
    def passes(self) -> int:
        return self.steps * self.search_steps

    def find(self, victim: Victim, case: Case) -> Solution:
        """The nearest success of each row, one row after the other."""
        context(case, case.keys)  # refuses a case with neither labels nor targets
        index = torch.arange(len(case.x), device=case.x.device)
        done = [self._row(victim, case.select(i)) for i in index.split(1)]
        device = case.x.device
        count = torch.tensor([row.steps for row in done], device=device)
        return Solution(
            x=torch.cat([row.best for row in done]),
            value=torch.tensor([row.value for row in done], device=device),
            success=torch.tensor([row.distance < float("inf") for row in done], device=device),
            status=torch.full_like(count, Status.STOPPED),
            steps=count,
            zero_grads=torch.tensor([row.zero_grads for row in done], device=device),
            forwards=sum(row.evaluations for row in done),
            backwards=sum(row.evaluations for row in done),
        )

    def _row(self, victim: Victim, case: Case) -> _Row:
        from scipy.optimize import minimize  # half a second that every import would wait for

        row = _Row(victim.true_logits, case, case.x)
        start = case.x.double().flatten().cpu().numpy()
        row.penalised(start, 1.0)
        if row.broken_now:
            return row
        bracket = Bracket.around(self.initial_c, case.keys.cpu())
        for _ in range(self.search_steps):
            row.broken_now = False
            ended: Any = minimize(
                row.penalised,
                start,
                args=(float(bracket.c),),
                method="L-BFGS-B",
                jac=True,
                bounds=[(0.0, 1.0)] * len(start),
                options={"maxiter": self.steps, "maxfun": 2 * self.steps},
            )
            row.steps += int(ended.nit)
            bracket = bracket.narrowed(torch.tensor([row.broken_now]))
        return row


def lbfgs(*, steps: int = 50, search_steps: int = 12, initial_c: float = 1e-2) -> LBFGS:
    """The first attack of all: L-BFGS within the pixel box, a search for the weight of the loss.

    For `search_steps` constants c, each row having its own:

        minimise over x' in [0, 1]   ||x' - x||_2^2 + c * loss(x')

    by at most `steps` steps of L-BFGS-B from the image itself; c grows tenfold until the
    row is broken, then the interval between failure and success is halved. Of all points
    evaluated, the success nearest to the image is returned.

    - the loss: -log F_t with targets, else -log(1 - F_y), in nats, F the probabilities
    - `steps`: at one constant; a step costs a forward and a backward pass, seldom two
    - `initial_c`: the first constant, squared pixel units a nat

    It works row by row on the CPU (scipy), so it is slow: `cw_l2` is its successor.

    **Source**: Szegedy et al. 2013 (arXiv 1312.6199), section 4.1.
    **Differs from the paper**: the squared distance, which is smooth at the image, instead
    of the distance; c weighs the loss instead of the distance; the untargeted form is
    ours; successes on the way count, not only the minimiser's.

    **Raises** ValueError for counts and constants that are not above 0.

    >>> lbfgs(steps=20).name
    'L-BFGS-12x20'
    """
    check_count(steps, "steps")
    check_count(search_steps, "search_steps")
    check_positive(initial_c, "initial_c")
    return LBFGS(f"L-BFGS-{search_steps}x{steps}", None, steps, search_steps, initial_c)

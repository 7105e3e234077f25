"""Attacks with gradients of transformed images, for transferability."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import final

from notbugs.attacks.attack import AttackInputs, Victim
from notbugs.attacks.factory import takes_norm
from notbugs.attacks.fixed import Attack
from notbugs.attacks.losses import ValueOfLogits, cross_entropy
from notbugs.attacks.mim import check_decay
from notbugs.attacks.transforms import Blurred, Imaged, Resized
from notbugs.core.errors import check_count
from notbugs.core.types import Images, Labels, Logits, RowTree
from notbugs.engine import (
    AbstractKeep,
    AbstractNorm,
    AbstractObjective,
    LowestValue,
    Momentum,
    Solution,
    Solver,
    SuccessThenLowest,
    Threat,
    Transform,
    Transformed,
)


@final
@dataclass(frozen=True)
class TransformedAttack(Attack):
    """An `Attack` whose gradients pass through a transformation of the image.

    `draws` transformations are averaged at each step.
    """

    transform: Transform = Resized()  # noqa: RUF009 (frozen, stateless)
    draws: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.draws, "draws")

    @property
    def passes(self) -> int:
        return super().passes * (self.draws + 1)

    def objective(
        self, logits: Callable[[Images], Logits], y: Labels | None, targets: Labels | None
    ) -> tuple[AbstractObjective, RowTree]:
        """(the objective through the transformation, its per-row context)."""
        inner, context = super().objective(logits, y, targets)
        return Transformed(inner, self.transform, self.draws, judged_plain=True), context

    def _run(self, victim: Victim, inputs: AttackInputs) -> Solution:
        solution = super()._run(victim, inputs)
        more = (self.draws - 1) * solution.backwards  # more passes per gradient
        return replace(
            solution, forwards=solution.forwards + more, backwards=solution.backwards + more
        )


@takes_norm
def di_fgsm(
    norm: AbstractNorm,
    eps: float,
    *,
    steps: int = 20,
    step_size: float | None = None,
    decay: float = 0.0,
    probability: float = 0.5,
    smallest: float = 0.9,
    draws: int = 1,
    loss: ValueOfLogits = cross_entropy,
    keep: AbstractKeep = SuccessThenLowest(),  # noqa: B008 (frozen, stateless)
) -> TransformedAttack:
    """An attack on randomly resized and padded images, for transferability.

    x <- project(x + step_size * steepest(gradient of the loss of T(x))), with a fresh T for
    each row and step. Success is measured on the image itself.

    - `norm`: Linf(), L2() or L1()
    - `eps`, `step_size`: pixel units of [0, 1]; without `step_size`, 1.25 * eps / steps
    - `steps`: gradient steps; each costs one more forward pass, of the untransformed image
    - `decay`: momentum as in `mim`; 1: the paper's M-DI2-FGSM
    - `probability`: share of the steps at which a row is transformed, 0..1
    - `smallest`: smallest side of the resized image as a share of the original, in (0, 1]
    - `draws`: transformations averaged at each step
    - `loss`, `keep`: as in `pgd`

    **Source**: Xie et al. 2018 (arXiv 1803.06978), Algorithm 1: 299 of 330 pixels.
    **Differs from the paper**: the image shrinks within its own size, where the paper's
    grows, because most models take only one size; height and width shrink by the same factor;
    bilinear resizing; the best visited point is returned (`keep=Last()`: the last).

    **Raises** ValueError for `eps`, `steps`, `step_size` or `draws` that are not above 0,
    a negative `decay`, and `probability` or `smallest` out of their range.

    >>> from notbugs.engine import Linf
    >>> di_fgsm(Linf(), 15 / 255, decay=1.0).name
    'DI-FGSM-20'
    """
    solver = _solver(norm, eps, steps, step_size, decay, keep)
    resized = Resized(probability, smallest)
    return _attack(resized, f"DI-FGSM-{steps}", Threat(norm, eps), solver, loss, draws)


@takes_norm
def ti_fgsm(
    norm: AbstractNorm,
    eps: float,
    *,
    steps: int = 10,
    step_size: float | None = None,
    decay: float = 1.0,
    radius: int = 7,
    probability: float = 0.0,
    smallest: float = 0.9,
    draws: int = 1,
    loss: ValueOfLogits = cross_entropy,
    keep: AbstractKeep = SuccessThenLowest(),  # noqa: B008 (frozen, stateless)
) -> TransformedAttack:
    """An attack with gradients blurred by a Gaussian, for invariance to translations.

    x <- project(x + step_size * steepest(g)), g <- decay * g + W * gradient / ||.||_1.

    - `norm`, `eps`, `step_size`, `steps`, `loss`, `keep`: as in `di_fgsm`
    - `decay`: momentum as in `mim`; 0: the paper's TI-FGSM
    - `radius`: half the side of the kernel, in pixels: 2 radius + 1 per side, standard deviation
      radius / sqrt(3). The paper's 7 is for images of 299 pixels; use less for smaller ones.
    - `probability`, `smallest`, `draws`: as in `di_fgsm`; 0.5: the paper's TI-DIM

    **Source**: Dong et al. 2019 (arXiv 1904.02884), equations 7-8 and section 3.2.
    **Differs from the paper**: the steps add up to 1.25 eps, not eps; the best visited
    point is returned (`keep=Last()`: the last).

    **Raises** ValueError as `di_fgsm`, and for a `radius` below 1.

    >>> from notbugs.engine import Linf
    >>> ti_fgsm(Linf(), 16 / 255, radius=2).name
    'TI-FGSM-10'
    """
    solver = _solver(norm, eps, steps, step_size, decay, keep)
    blurred = Blurred(radius, Resized(probability, smallest))
    return _attack(blurred, f"TI-FGSM-{steps}", Threat(norm, eps), solver, loss, draws)


@takes_norm
def eot(
    norm: AbstractNorm,
    eps: float,
    *,
    steps: int = 20,
    step_size: float | None = None,
    decay: float = 0.0,
    transform: Transform = Imaged(),  # noqa: B008 (frozen, stateless)
    draws: int = 4,
    loss: ValueOfLogits = cross_entropy,
    keep: AbstractKeep = LowestValue(),  # noqa: B008 (frozen, stateless)
) -> TransformedAttack:
    """An attack on the average over random transformations, so that images survive them.

    - `norm`, `eps`, `step_size`, `steps`, `decay`, `loss`: as in `di_fgsm`
    - `transform`: (images, keys) -> images, differentiable, one draw per row; by default what a
      print and a camera do
    - `draws`: transformations averaged at each step
    - `keep`: by default the point of the lowest average that was visited

    **Source**: Athalye et al. 2017 (arXiv 1707.07397), section 2: expectation over transformation.
    **Differs from the paper**: sign steps within a ball in place of a penalty on the distance.

    **Raises** ValueError as `di_fgsm`.

    >>> from notbugs.engine import Linf
    >>> eot(Linf(), 16 / 255).name
    'EOT-20'
    """
    solver = _solver(norm, eps, steps, step_size, decay, keep)
    return _attack(transform, f"EOT-{steps}", Threat(norm, eps), solver, loss, draws)


def _solver(
    norm: AbstractNorm,
    eps: float,
    steps: int,
    step_size: float | None,
    decay: float,
    keep: AbstractKeep,
) -> Solver:
    check_count(steps, "steps")
    check_decay(decay)
    within = Threat(norm, eps).within()
    size = 1.25 * eps / steps if step_size is None else step_size
    return Solver(within=within, rule=Momentum(norm, size, decay), max_steps=steps, keep=keep)


def _attack(
    transform: Transform,
    name: str,
    threat: Threat,
    solver: Solver,
    loss: ValueOfLogits,
    draws: int,
) -> TransformedAttack:
    """The attack from the image itself, without a random start."""
    return TransformedAttack(
        name, threat, solver, loss, random_start=False, transform=transform, draws=draws
    )

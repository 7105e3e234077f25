"""Attacks on encoders and autoencoders, and on the embedding of a classifier."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from notbugs.attacks.factory import takes_norm
from notbugs.attacks.losses import column
from notbugs.attacks.result import restarted
from notbugs.core import random, rows
from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Images, Keys, Rows, RowTree
from notbugs.engine import (
    APGD,
    AbstractNorm,
    AbstractObjective,
    AbstractStepRule,
    AtCenter,
    Draw,
    Evaluation,
    LowestValue,
    Solution,
    Solver,
    Threat,
    UniformIn,
)
from notbugs.models import frozen, prepared
from notbugs.models.validation import why_no_gradient

Encoder: TypeAlias = Callable[[Images], Tensor]
"""images [n, c, h, w] -> codes [n, ...]: an encoder, an embedding, a whole autoencoder."""


@final
@dataclass(frozen=True)
class CodeDistance(AbstractObjective):
    """||encoder(x) - code||_2 of each row. Context: `code` [n, ...]."""

    encoder: Encoder

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        return Evaluation(code_distance(self.encoder(x), column(context, "code")))


def code_distance(codes: Float[Tensor, "n ..."], targets: Float[Tensor, "n ..."]) -> Rows:
    """The Euclidean distance of two batches of codes [n, ...], row by row, [n]."""
    return torch.linalg.vector_norm(rows.flatten(codes) - rows.flatten(targets), dim=1)


@dataclass(frozen=True)
class LatentResult:
    """The result of `latent`: perturbed images, and how near their codes are to the targets.

    - `x_adv` [n, c, h, w]: in [0, 1] and within the threat of `x`
    - `code` [n, ...]: the encoder's output there
    - `before`, `after` [n]: Euclidean distance to the target code from `x` and from `x_adv`
    - `distance` [n]: size of x_adv - x in the threat's norm, pixel units of [0, 1]
    - `reconstruction`: the decoder's output for `code`; None without a decoder
    - `forwards`, `backwards`: passes of the encoder, summed over rows and restarts
    """

    x_adv: Images
    code: Float[Tensor, "n ..."]
    before: Rows
    after: Rows
    distance: Rows
    reconstruction: Float[Tensor, "n ..."] | None
    forwards: int
    backwards: int

    @property
    def closed(self) -> Rows:
        """Share of the distance to the target code that was closed, [n]: 1 reaches it."""
        return 1 - self.after / self.before.clamp(min=1e-12)


@takes_norm
@prepared("x", model="encoder", kind=object)
def latent(
    encoder: Encoder,
    x: Images,
    target: Float[Tensor, "n ..."],
    norm: AbstractNorm,
    eps: float,
    *,
    steps: int = 100,
    rule: AbstractStepRule[object] | None = None,
    decoder: Callable[[Tensor], Tensor] | None = None,
    restarts: int = 1,
    seed: int = 0,
    keys: Keys | None = None,
) -> LatentResult:
    """Images near `x` whose code is as near as possible to `target`.

    Minimises ||encoder(x') - target||_2 subject to norm(x' - x) <= eps and 0 <= x' <= 1,
    row by row; the nearest visited point is returned, never one farther than `x`.

    - `encoder`: differentiable, images [n, c, h, w] to a tensor [n, ...]. A module (or
      the module of a method) is frozen in eval mode during the attack; pass the mean of a
      randomised one.
    - `target`: the target code, in the shape of the encoder's output. To reach another
      image's code pass `encoder(other)`; to reach its reconstruction pass the whole
      autoencoder as `encoder` and the other image as `target`.
    - `norm`: Linf(), L2() or L1()
    - `eps`: pixel units of [0, 1]
    - `steps`: gradient steps of each restart
    - `rule`: any step rule of the engine, e.g. `Adam(0.01)`; None takes Auto-PGD
    - `decoder`: codes to reconstructions, for the result only
    - `restarts`: the first starts at `x`, later ones at random points of the ball
    - `seed` or `keys` [n]: randomness of the restarts

    **Source**: Sabour et al. 2015 (arXiv 1511.05122), equations 1-2, for a code; Kos et al.
    2017 (arXiv 1702.06832), section 4, for codes and reconstructions of autoencoders.
    **Differs from the papers**: Auto-PGD instead of L-BFGS (Sabour) and of Adam with a
    penalty on the change (Kos); the code's distance is not squared.

    **Raises** ValueError for images outside [0, 1], a target that is not finite or not of
    the codes' shape, an encoder without gradients, and budgets that are not above 0.

    >>> from notbugs.engine import Linf
    >>> near = latent(nn.Flatten(), torch.zeros(1, 1, 2, 2), torch.ones(1, 4), Linf(), 0.25)
    >>> near.closed.tolist()
    [0.25]
    """
    check_count(steps, "steps")
    check_count(restarts, "restarts")
    keys = random.row_keys(len(x), seed, "latent") if keys is None else keys
    solver = Solver(
        within=Threat(norm, eps).within(),
        rule=APGD(norm, eps) if rule is None else rule,
        max_steps=steps,
        keep=LowestValue(),
    )
    target = target.detach().to(x)
    with frozen_encoder(encoder):
        before = code_distance(_checked(encoder, x, target), target)
        solution = _nearest(encoder, x, target, solver, restarts, keys.to(x.device))
        with torch.no_grad():
            code = encoder(solution.x)
            reconstruction = None if decoder is None else _decoded(decoder, code)
    return LatentResult(
        x_adv=solution.x,
        code=code,
        before=before,
        after=code_distance(code, target),
        distance=norm.size(solution.x - x),
        reconstruction=reconstruction,
        forwards=solution.forwards + 2 * len(x),
        backwards=solution.backwards,
    )


def _nearest(
    encoder: Encoder, x: Images, target: Tensor, solver: Solver, restarts: int, keys: Keys
) -> Solution:
    """The best of all restarts for each row; without successes, each restart runs on all rows."""
    objective = CodeDistance(encoder)

    def run(restart: int, index: Tensor) -> Solution:
        restart_keys = random.fold(keys[index], restart)
        context = {"code": target[index]}
        return solver.minimise(objective, x[index], context, keys=restart_keys, start=UniformIn())

    first = solver.minimise(objective, x, {"code": target}, keys=keys, start=AtCenter())
    return restarted(first, restarts, run)


def _checked(encoder: Encoder, x: Images, target: Tensor) -> Tensor:
    """The codes of `x`, after checks of the target and of the gradients."""
    reason = why_no_gradient(encoder, x[:1])
    if reason is not None:
        raise bad_value(
            "encoder",
            "give codes that can be differentiated by the image",
            f"codes without gradients{reason}",
            "Remove no_grad or detach from it.",
        )
    with torch.no_grad():
        codes = encoder(x)
    if codes.shape != target.shape:
        raise bad_value(
            "target",
            f"have shape {tuple(codes.shape)}, as the encoder's output has",
            f"shape {tuple(target.shape)}",
            "Pass encoder(other image), or the other image itself for an autoencoder.",
        )
    if not bool(target.isfinite().all()):
        row = int((~rows.flatten(target).isfinite()).any(dim=1).nonzero()[0, 0])
        raise bad_value("target", "be finite", f"NaN or infinity, first in row {row}")
    return codes


def _decoded(decoder: Callable[[Tensor], Tensor], code: Tensor) -> Tensor:
    with frozen_encoder(decoder):
        return decoder(code)


def frozen_encoder(function: object) -> AbstractContextManager[object]:
    """Freezes the module that is a function, or whose method it is, in eval mode."""
    owner = getattr(function, "__self__", function)  # of a method such as model.embed
    return frozen(owner) if isinstance(owner, nn.Module) else nullcontext()

"""Representation inversion: searches for an image with a given embedding."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Embeddings, Images, Keys, Rows, RowTree
from notbugs.engine import (
    L2,
    AbstractObjective,
    Box,
    Draw,
    Evaluation,
    FromImages,
    LowestValue,
    Solution,
    Solver,
    Steepest,
)
from notbugs.models import prepared
from notbugs.representations.batches import check_differentiable


@final
@dataclass(frozen=True)
class EmbeddingDistance(AbstractObjective):
    """||embed(x) - embedding||_2 of each row. Context: `embedding` [n, d]."""

    embed: Callable[[Images], Embeddings]

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        if context is None:
            raise KeyError("This objective needs the per-row tensor 'embedding' in its context.")
        embedding, target = self.embed(x), context["embedding"]
        if embedding.shape != target.shape:  # would broadcast
            raise bad_value(
                "target",
                f"have shape {tuple(embedding.shape)}, as the embeddings have",
                f"shape {tuple(target.shape)}",
                "Compute it with the same `embed`.",
            )
        return Evaluation(torch.linalg.vector_norm(embedding - target, dim=1))


def inversion(steps: int, step_size: float, *, schedule: str = "constant") -> Solver:
    """A solver of normalised L2 gradient steps within the pixel box.

    **Source**: Ilyas et al. 2019 (arXiv 1905.02175), Appendix C.1; Engstrom et al. 2019
    (arXiv 1906.00945), section 3. `schedule="cosine"` shrinks the step, which reaches a
    given distance in far fewer steps than the papers' constant one.
    """
    check_count(steps, "steps")
    return Solver(
        within=Box(), rule=Steepest(L2(), step_size, schedule), max_steps=steps, keep=LowestValue()
    )


@prepared("start", model="embed", kind=object)
def invert(
    embed: Callable[[Images], Embeddings],
    target: Tensor,
    start: Images,
    *,
    solver: Solver,
    keys: Keys,
) -> Solution:
    """Images near which the embedding is `target`: minimise ||embed(x) - target||_2, x in [0, 1].

    - `embed`: images to embeddings [n, d], differentiable; call under `frozen(model)`
    - `target` [n, d]: the embeddings to reach; `start` [n, c, h, w]: the first images

    The solution's `value` is the distance reached; `relative_error` puts it in units of
    the target's norm.

    **Raises** ValueError for start images outside [0, 1] and for targets that are not finite
    or not one embedding a start image.
    """
    if len(target) != len(start):
        raise bad_value("target", f"have {len(start)} rows, one a start image", len(target))
    if not bool(target.isfinite().all()):
        row = int((~rows.flatten(target).isfinite()).any(dim=1).nonzero()[0, 0])
        raise bad_value("target", "be finite", f"NaN or infinity, first in row {row}")
    objective, context = EmbeddingDistance(embed), {"embedding": target.detach()}
    check_differentiable(objective, start[:1], {"embedding": context["embedding"][:1]}, keys[:1])
    return solver.minimise(objective, start, context, keys=keys, start=FromImages(start))


def relative_error(solution: Solution, target: Embeddings) -> Rows:
    """||embed(x) - target|| / ||target|| of each row (Engstrom et al. 2019, eq. 4)."""
    return solution.value / torch.linalg.vector_norm(rows.flatten(target), dim=1).clamp(min=1e-12)

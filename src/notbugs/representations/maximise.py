"""The search behind all visualisations, and its result."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from notbugs.core import rows
from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Images, Mask, Rows
from notbugs.engine import AbstractObjective, RandomCrop, Solution, Solver, Transformed
from notbugs.models import Classifier
from notbugs.representations.batches import generated, solve, values
from notbugs.representations.priors import Priors
from notbugs.representations.reading import first_images
from notbugs.representations.solvers import default_visualisation_solver

RELAXED_STEPS = 16
"""Steps with open ReLUs for units that have no gradient at the start, as in Olah et al. 2017."""


@dataclass(frozen=True)
class Visualisation:
    """The result of a visualisation.

    - `x` [k, c, h, w]; `start` [k, c, h, w]: where the search started
    - `activation` [k]: the maximised quantity of `x`, without priors; `before` [k]: at the start
    - `solution`: as the solver returned it
    - `attribution` [k, h, w]: the absolute gradients of all steps, added up, the penalties' left
      out; `opacity` makes a transparency map of it
    - `dead` [k]: no step had a gradient and the activation did not rise; `x` is the start then
    - `units` [k]: the unit or channel of each image; None for directions and layers
    """

    x: Images
    start: Images
    activation: Rows
    before: Rows
    solution: Solution
    attribution: Float[Tensor, "k h w"]
    dead: Mask
    units: Tensor | None = None


@dataclass(frozen=True)
class Search:
    """How images are searched for."""

    solver: Solver | None
    priors: Priors
    seed: int
    batch_size: int
    canvas: tuple[int, int] | None
    relaxed_steps: int

    def maximised(
        self,
        model: nn.Module,
        objective: AbstractObjective,
        context: dict[str, Tensor],
        start: str | Tensor,
    ) -> Visualisation:
        """The images that maximise minus the objective, one for each row of the context."""
        check_count(self.relaxed_steps, "relaxed_steps", 0)
        count, seed, size = len(next(iter(context.values()))), self.seed, self.batch_size
        like, objective = self._whole(model, objective, count)
        first = first_images(start, count, model, seed, like)
        first = generated(self.priors, first, seed, size)
        solver = self.solver or default_visualisation_solver(self.priors, first.shape[-2:])
        if self.priors.generator is None:
            first = _as_variables(solver, first, size)
        context = {name: _placed(tensor, first) for name, tensor in context.items()}
        attribution = first.new_zeros(count, *first.shape[-2:])
        solution = solve(
            model,
            objective,
            first,
            context,
            solver,
            seed=seed,
            batch_size=size,
            priors=self.priors,
            attribution=attribution,
            relaxed_steps=self.relaxed_steps,
        )
        before, reached = (-values(model, objective, x, context, size) for x in (first, solution.x))
        # The relaxed steps may have led to where nothing rises any more.
        stuck = (solution.zero_grads == solution.steps) & (solution.steps > 0)
        dead = stuck & ~(reached > before)
        return Visualisation(
            x=rows.where(dead, first, solution.x),
            start=first,
            activation=torch.where(dead, before, reached),
            before=before,
            solution=solution,
            attribution=attribution,
            dead=dead,
            units=context.get("unit"),
        )

    def _whole(
        self, model: nn.Module, objective: AbstractObjective, count: int
    ) -> tuple[Images | None, AbstractObjective]:
        """Empty canvases, and the objective of canvases: of the whole one, resized."""
        if self.canvas is None:
            return None, objective
        model = check_canvas(model, self.canvas)
        c, h, w = model.shape
        like = torch.zeros(count, c, *self.canvas, dtype=model.mean.dtype, device=model.device)
        return like, Transformed(objective, RandomCrop(1.0, 1.0, (h, w)), is_random=False)


def check_canvas(model: nn.Module, canvas: tuple[int, int]) -> Classifier:
    """The model, which must say the size of its images."""
    for side in canvas:
        check_count(side, "canvas")
    if not isinstance(model, Classifier):
        raise bad_value(
            "canvas",
            "be left out, for this model does not say the shape of its images",
            canvas,
            "`wrap` the model with its shape.",
        )
    return model


@torch.no_grad()
def _as_variables(solver: Solver, images: Images, batch_size: int) -> Images:
    """The images as the solver can write them: with `MaCo` of its magnitudes."""
    code = solver.parameterization
    parts = images.split(batch_size)
    return torch.cat([code.decode(code.encode(x)).to(x) for x in parts]).clamp(0, 1)


def _placed(tensor: Tensor, like: Images) -> Tensor:
    return tensor.to(like) if tensor.is_floating_point() else tensor.to(like.device)

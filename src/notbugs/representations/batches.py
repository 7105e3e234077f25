"""Runs a solver, or a model, over many images in batches."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import fields, replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from notbugs.core import random
from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Images, Keys, Rows
from notbugs.engine import AbstractObjective, Draw, FromImages, Solution, Solver
from notbugs.models import frozen
from notbugs.models.validation import why_no_gradient
from notbugs.representations.priors import (
    NO_PRIORS,
    LatentObjective,
    Priors,
    check_solver,
    first_codes,
)
from notbugs.representations.reading import Read
from notbugs.representations.relaxed import revived
from notbugs.representations.transparency import ROW, Attributed


def solve(
    model: nn.Module,
    objective: AbstractObjective,
    start: Images,
    context: Mapping[str, Tensor] | Callable[[Tensor], Mapping[str, Tensor]],
    solver: Solver,
    *,
    seed: int,
    batch_size: int,
    priors: Priors = NO_PRIORS,
    beside: AbstractObjective | None = None,
    attribution: Tensor | None = None,
    relaxed_steps: int = 0,
) -> Solution:
    """The solver's best points from `start` [n, c, h, w], `batch_size` rows at a time.

    The model (and the priors' networks) are frozen meanwhile, and every row's random draws
    depend on the seed and its index only, not on the batch size. With a generator the search is
    over its latent codes, starting from those of `generated`; the solution's `x` are still
    images.

    - `context`: of all rows, or a function that makes that of some rows, by their numbers
    - `beside`: an objective of the image as it is, without the random transformations
    - `attribution` [n, h, w]: the absolute gradients of the objective alone are added to it
    - `relaxed_steps`: steps with open ReLUs for rows that have no gradient at the start
    """
    check_count(batch_size, "batch_size")
    keys = random.row_keys(len(start), seed, "representations", device=start.device)
    seen, generator = priors.seen(objective), priors.generator
    if attribution is not None:
        seen = Attributed(seen, attribution)
    objective, plain = priors.penalised(seen), priors.of(objective)
    if beside is not None:
        objective, plain = objective + beside, plain + beside
    if generator is not None:
        check_solver(solver)
        objective, plain = (
            LatentObjective(part, generator.decode, priors.pull) for part in (objective, plain)
        )
        start = first_codes(generator, len(start), seed, start)
    parts: list[Solution] = []

    def part_of(rows: Tensor) -> Mapping[str, Tensor]:
        if callable(context):
            return context(rows)
        return {ROW: rows} | {name: tensor[rows] for name, tensor in context.items()}

    with ExitStack() as stack:
        for module in (model, *priors.modules):
            stack.enter_context(frozen(module))
        every = torch.arange(len(start), device=start.device)
        check_differentiable(plain, start[:1], part_of(every[:1]), keys[:1])
        for rows in every.split(batch_size):
            first, part, spent = start[rows], part_of(rows), list[Solution]()
            if relaxed_steps:
                first, spent = revived(solver, plain, first, part, keys[rows], relaxed_steps)
            solution = solver.minimise(
                objective, first, part, keys=keys[rows], start=FromImages(first)
            )
            solution = replace(
                solution,
                forwards=solution.forwards + sum(each.forwards for each in spent),
                backwards=solution.backwards + sum(each.backwards for each in spent),
            )
            if generator is not None:
                with torch.no_grad():
                    solution = replace(solution, x=generator.decode(solution.x))
            parts.append(solution)
    return _one(parts)


def check_differentiable(
    objective: AbstractObjective, x: Tensor, context: Mapping[str, Tensor], keys: Keys
) -> None:
    """Refuses a model whose activations have no gradient with respect to the image."""
    reason = why_no_gradient(lambda x: objective(x, context, Draw(keys)).value, x)
    if reason is not None:
        raise bad_value(
            "model",
            "have activations that are differentiable with respect to the image",
            f"activations without gradients{reason}",
            "Models in int8, or with no_grad or detach inside, have none: use the model before "
            "it was converted. `most_activating` and `find_attribute` need none.",
        )


def generated(priors: Priors, start: Images, seed: int, batch_size: int) -> Images:
    """The images where a search starts, [n, c, h, w]: `start`, or a generator's first images.

    **Raises** ValueError for a generator of images of another shape.
    """
    generator = priors.generator
    if generator is None:
        return start
    with ExitStack() as stack, torch.no_grad():
        for module in priors.modules:
            stack.enter_context(frozen(module))
        codes = first_codes(generator, len(start), seed, start)
        images = torch.cat([generator.decode(part) for part in codes.split(batch_size)])
    if images.shape != start.shape:
        raise bad_value(
            "generator",
            f"make images of shape {tuple(start.shape[1:])}, as the model takes them",
            tuple(images.shape[1:]),
        )
    return images


def read_all(
    model: nn.Module, read: Read, images: Images, batch_size: int
) -> Float[Tensor, "n ..."]:
    """The activations of all images, [n, ...], without gradients, the model frozen."""
    check_count(batch_size, "batch_size")
    with frozen(model), torch.no_grad():
        return torch.cat([read(part) for part in images.split(batch_size)])


def values(
    model: nn.Module,
    objective: AbstractObjective,
    images: Images,
    context: Mapping[str, Tensor],
    batch_size: int,
) -> Rows:
    """The objective of the images themselves, [n], without gradients, the model frozen."""
    batch_values: list[Rows] = []
    with frozen(model), torch.no_grad():
        for rows in torch.arange(len(images), device=images.device).split(batch_size):
            part = {name: tensor[rows] for name, tensor in context.items()}
            draw = Draw(random.row_keys(len(rows), device=images.device))
            batch_values.append(objective(images[rows], part, draw).value)
    return torch.cat(batch_values)


def _one(parts: list[Solution]) -> Solution:
    columns: dict[str, Tensor] = {}
    for field in fields(Solution):
        if field.name not in ("forwards", "backwards"):
            columns[field.name] = torch.cat([getattr(part, field.name) for part in parts])
    return Solution(
        **columns,
        forwards=sum(part.forwards for part in parts),
        backwards=sum(part.backwards for part in parts),
    )

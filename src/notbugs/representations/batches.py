"""Solves over many images, a part at a time."""

from collections.abc import Mapping
from dataclasses import fields

import torch
from torch import Tensor, nn

from notbugs.core import random
from notbugs.core.errors import check_count
from notbugs.core.types import Images, Rows
from notbugs.engine import AbstractObjective, Draw, FromImages, Solution, Solver
from notbugs.models import frozen
from notbugs.representations.reading import Read


def solve(
    model: nn.Module,
    objective: AbstractObjective,
    start: Images,
    context: Mapping[str, Tensor],
    solver: Solver,
    *,
    seed: int,
    batch_size: int,
) -> Solution:
    """The solver's best points from `start` [n, c, h, w], `batch_size` rows at a time.

    The model is frozen meanwhile, and every row's random draws follow from the seed and its
    place, so that the size of a batch does not matter.
    """
    check_count(batch_size, "batch_size")
    keys = random.row_keys(len(start), seed, "representations", device=start.device)
    parts: list[Solution] = []
    with frozen(model):
        for rows in torch.arange(len(start), device=start.device).split(batch_size):
            part = {name: tensor[rows] for name, tensor in context.items()}
            first = start[rows]
            parts.append(
                solver.minimise(objective, first, part, keys=keys[rows], start=FromImages(first))
            )
    return _one(parts)


def read_all(model: nn.Module, read: Read, images: Images, batch_size: int) -> Tensor:
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
    found: list[Rows] = []
    with frozen(model), torch.no_grad():
        for rows in torch.arange(len(images), device=images.device).split(batch_size):
            part = {name: tensor[rows] for name, tensor in context.items()}
            draw = Draw(random.row_keys(len(rows), device=images.device))
            found.append(objective(images[rows], part, draw).value)
    return torch.cat(found)


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

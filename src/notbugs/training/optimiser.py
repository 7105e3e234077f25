"""The optimiser of a recipe: SGD with a fused step."""

from typing import Any

import torch
from torch import nn

from notbugs.training.recipe import Recipe

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def sgd(model: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """SGD with Nesterov momentum; a group's `times` is the factor on its learning rate."""
    norms = [m for m in model.modules() if isinstance(m, NORMS)]
    bias_ids = {id(m.bias) for m in norms if recipe.norm_bias_times != 1}
    groups: list[dict[str, Any]] = [
        {"params": [p for p in model.parameters() if id(p) not in bias_ids], "times": 1.0}
    ]
    if bias_ids:
        biases = [p for p in model.parameters() if id(p) in bias_ids]
        decay = recipe.weight_decay / recipe.norm_bias_times
        groups.append({"params": biases, "times": recipe.norm_bias_times, "weight_decay": decay})
    optimiser = torch.optim.SGD(
        groups,
        lr=recipe.lr,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
        nesterov=recipe.momentum > 0,
        fused=True,
    )
    # The fused step fails for a weight whose first gradient comes later than the others'.
    for p in (p for group in groups for p in group["params"] if p.requires_grad):
        if recipe.momentum:
            optimiser.state[p]["momentum_buffer"] = torch.zeros_like(p)
    return optimiser

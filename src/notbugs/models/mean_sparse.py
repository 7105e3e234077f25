"""MeanSparse: features near their channel's mean become the mean, before activations."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any, NotRequired, TypedDict

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_value, check_positive, unknown_name
from notbugs.models.classifier import JSON, Classifier
from notbugs.models.frozen import frozen
from notbugs.models.layers import INPUT, recorded

ACTIVATIONS = (
    nn.ELU,
    nn.GELU,
    nn.Hardswish,
    nn.LeakyReLU,
    nn.Mish,
    nn.ReLU,
    nn.SELU,
    nn.SiLU,
    nn.Sigmoid,
    nn.Softplus,
    nn.Tanh,
)
GRADIENTS = ("own", "identity")


class Operators(TypedDict):
    """What a weights file says of a model's operators: their layers, and their derivative."""

    layers: list[str]
    gradient: str


class Described(TypedDict):
    """The part of a description that only models with operators have."""

    mean_sparse: NotRequired[Operators]


class MeanSparse(nn.Module):
    """An activation behind an operator that sets x to its channel's mean m if |x - m| < alpha * s.

    With s the channel's deviation. A perturbation that moves a feature inside that interval has no
    effect. The operator's own derivative is 0 inside the interval and 1 outside, so that attacks
    by gradients do not see how to leave it; with `gradient` "identity" the same values have
    derivative 1 everywhere (BPDA). Robustness is the worst case over attacks by both.

    - `mean`, `deviation`: of the activation's input, [c] for features [n, c] and [n, t, c],
      [c, 1, 1] for [n, c, h, w]; `alpha` []: all buffers

    **Source**: Amini et al. 2024 (arXiv 2406.05927); Athalye et al. 2018 (arXiv 1802.00420),
    section 4.1, for BPDA.
    """

    mean: Tensor
    deviation: Tensor
    alpha: Tensor

    def __init__(self, activation: nn.Module, features: Tensor, gradient: str) -> None:
        """Takes the activation, and features that it is given, for their shape; alpha is 0."""
        super().__init__()
        self.activation, self.gradient = activation, gradient
        shape = features.shape[1:2] + (1,) * (features.ndim - 2)
        zeros = features.new_zeros(features.shape[-1:] if features.ndim == 3 else shape)
        for name, value in (("mean", zeros), ("deviation", zeros.clone()), ("alpha", zeros.sum())):
            self.register_buffer(name, value)

    def forward(self, x: Tensor) -> Tensor:
        """The activation of the sparsified features."""
        # The difference is exactly 0, and has the derivative 1.
        mean = self.mean + (x - x.detach()) if self.gradient == "identity" else self.mean
        near = (x - self.mean).abs() < self.alpha * self.deviation
        return self.activation(torch.where(near, mean, x))


def operators(model: Classifier) -> dict[str, MeanSparse]:
    """The model's operators by the names of their layers; empty without any."""
    return {n: m for n, m in model.body.named_modules() if isinstance(m, MeanSparse)}


def insert_operators(
    model: Classifier, layers: Sequence[str] | None = None, gradient: str = "identity"
) -> None:
    """Puts an operator before activations of `model`, in place; at alpha 0 it changes nothing.

    - `layers`: names of activation layers inside the body; None: all
    - `gradient`: "own" or "identity"

    **Raises** ValueError for a layer that is no activation, or does not run exactly once; for a
    model without any, or that has operators already.
    """
    _check_gradient(gradient)
    found = {n: m for n, m in model.body.named_modules() if isinstance(m, ACTIVATIONS)}
    for name in layers or ():
        if name not in found:
            raise unknown_name("activation layer", name, found)
    if operators(model):
        raise bad_value("model", "have no MeanSparse yet", "one with it", "Take it from before.")
    inputs = _inputs(model, list(found) if layers is None else layers)
    for name in layers or ():
        if name not in inputs:
            raise bad_value("layers", "name activations that run", f"'{name}'", "Leave it out.")
    if not inputs:
        remedy = "Activations that are functions in `forward` are not found: make them modules."
        raise bad_value("model", "have activation layers", "none that runs", remedy)
    for name, features in inputs.items():
        model.body.set_submodule(name, MeanSparse(found[name], features, gradient))


def _inputs(model: Classifier, names: Sequence[str]) -> dict[str, Tensor]:
    """What each layer is given for a grey image; layers that do not run are left out."""
    inputs: dict[str, Tensor] = {}

    def record(name: str, features: object) -> None:
        layer = name.removesuffix(INPUT)
        if layer in inputs or not isinstance(features, Tensor):
            raise bad_value(
                "layers",
                "name activations that run once in a pass, on a tensor",
                f"'{layer}'",
                "Name others, or give each use in the module an activation of its own.",
            )
        inputs[layer] = features

    grey = torch.full((1, *model.shape), 0.5, dtype=model.mean.dtype, device=model.device)
    with frozen(model), torch.no_grad(), recorded(model.body, [n + INPUT for n in names], record):
        model(grey)
    return inputs


def set_alpha(model: Classifier, alpha: float) -> None:
    """Sets the width of the model's operators, in channel deviations on either side of the mean.

    **Raises** ValueError for a negative number, and a model without operators.
    """
    if alpha != 0:
        check_positive(alpha, "alpha", "0 changes nothing.")
    for operator in _operators_in(model).values():
        operator.alpha.fill_(alpha)


def with_gradient(model: Classifier, gradient: str) -> Classifier:
    """A copy of the same model, whose operators have another derivative: "own" or "identity".

    The logits are the same. Evaluate both: an image is robust if it is under attacks by both.

    **Raises** ValueError for another name, and a model without operators.
    """
    _check_gradient(gradient)
    copied = copy.deepcopy(model)
    for operator in _operators_in(copied).values():
        operator.gradient = gradient
    return copied


def described(model: Classifier) -> dict[str, JSON]:
    """What a weights file says of the model's operators; empty without any."""
    found = operators(model)
    if not found:
        return {}
    return {"mean_sparse": {"layers": list(found), "gradient": next(iter(found.values())).gradient}}


def insert_described(model: Classifier, description: Mapping[str, Any]) -> None:
    """Puts in the operators that a description names, if it does, so that weights fit."""
    recorded_operators = description.get("mean_sparse")
    if recorded_operators is not None:
        layers, gradient = recorded_operators["layers"], recorded_operators["gradient"]
        insert_operators(model, layers, gradient)


def _check_gradient(gradient: str) -> None:
    if gradient not in GRADIENTS:
        raise unknown_name("gradient", gradient, GRADIENTS)


def _operators_in(model: Classifier) -> dict[str, MeanSparse]:
    found = operators(model)
    if not found:
        raise bad_value("model", "have MeanSparse operators", "none", "Make them by mean_sparse.")
    return found

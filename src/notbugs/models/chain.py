"""Models that are a chain: each layer's input is the output of the layer before, untouched."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_value
from notbugs.models.classifier import Classifier
from notbugs.models.frozen import frozen


def chain_of(model: Classifier) -> Mapping[str, tuple[int, ...]]:
    """The leaf layers in the order they run, with the shapes of their inputs.

    **Raises** ValueError where a layer's input is not the output of the one before, untouched.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    start = torch.zeros(1, *model.shape).to(model.mean)
    last: list[tuple[Tensor, int]] = [(start, start._version)]

    def check(x: object, what: str) -> None:
        # A tensor's version rises when it is changed in place.
        if x is not last[-1][0] or last[-1][0]._version != last[-1][1]:
            raise bad_value("model", "be a chain of layers", what, "Bound its parts.")

    def before(name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def entered(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            first = inputs[0] if inputs and name not in shapes else None
            check(first, f"another way into '{name}'")
            shapes[name] = tuple(inputs[0].shape[1:])

        return entered

    def left(module: nn.Module, inputs: tuple[Tensor, ...], output: object) -> None:
        if not isinstance(output, Tensor):
            kind = type(output).__name__
            raise bad_value("model", "be a chain of layers", f"one that gives a {kind}")
        last.append((output, output._version))

    handles: list[Any] = []
    for name, module in model.body.named_modules():
        if not list(module.children()):
            handles += [module.register_forward_pre_hook(before(name))]
            handles += [module.register_forward_hook(left)]
    try:
        with frozen(model), torch.no_grad():
            check(model.body(start), "an output that is not the last layer's")
    finally:
        for handle in handles:
            handle.remove()
    return shapes

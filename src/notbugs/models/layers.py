"""Named layers: the body of trunk and head, and activations read by temporary hooks."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from notbugs.core.errors import bad_type, unknown_name

INPUT = ".input"
"""After the name of a layer: what goes into it."""


class Body(nn.Module):
    """A network in two parts: `trunk` makes the embedding [n, d], `head` the logits [n, k].

    All built-in architectures have this form; an embedding then needs no pass of the head.
    `published`: what the beginnings of its parameters' names are in public checkpoints, where
    those have other names.
    """

    published: Mapping[str, str] = {}

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        """Takes both parts as they are, already initialised."""
        super().__init__()
        self.trunk = trunk
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Logits [n, k] of normalised images [n, c, h, w]."""
        return self.head(self.trunk(x))


def layer_names(module: nn.Module) -> list[str]:
    """The dotted names of all layers inside `module`, in order of registration."""
    return [name for name, _ in module.named_modules() if name]


def find_layer(module: nn.Module, name: str, kind: str = "layer") -> nn.Module:
    """The layer of the dotted name `name`.

    Raises:
        ValueError: no such layer; the nearest name is suggested.
    """
    for layer_name, layer in module.named_modules():
        if layer_name == name and name:
            return layer
    raise unknown_name(kind, name, layer_names(module))


def read_at(module: nn.Module, name: str, kind: str = "layer") -> tuple[nn.Module, bool]:
    """(layer, whether its input is read): "fc" is the output of a layer, "fc.input" its input.

    Raises:
        ValueError: no such layer; the nearest name is suggested.
    """
    layers = dict(module.named_modules())
    of_input = name not in layers and name.endswith(INPUT)
    return find_layer(module, name.removesuffix(INPUT) if of_input else name, kind), of_input


@contextmanager
def capture(module: nn.Module, names: Sequence[str]) -> Generator[dict[str, Tensor], None, None]:
    """Collects the outputs of the named layers while the block runs.

    Yields a dictionary that each forward pass of `module` fills with name -> output, or input
    (`read_at`); a layer that runs more than once leaves its last output. Outputs are
    differentiable, and are copies, because a later in-place layer (such as `ReLU(inplace=True)`)
    would otherwise overwrite them. The hooks are removed at the end of the block, also after an
    exception.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> with capture(net, ["0"]) as outputs:
        ...     _ = net(torch.zeros(1, 2))
        >>> tuple(outputs["0"].shape)
        (1, 3)

    Raises:
        ValueError: a name is not a layer of `module`.
        TypeError: a named layer returns something other than a tensor.
    """
    outputs: dict[str, Tensor] = {}

    def take(name: str, output: object) -> None:
        if not isinstance(output, Tensor):
            raise bad_type(
                f"output of layer '{name}'", "a tensor", output, "Name a layer that returns one."
            )
        outputs[name] = output.clone()

    with recorded(module, names, take):
        yield outputs


@contextmanager
def recorded(
    module: nn.Module, names: Sequence[str], record: Callable[[str, object], None]
) -> Generator[None, None, None]:
    """Calls `record` with the name and every output of the named layers, or input (`read_at`)."""

    def of_outputs(name: str) -> Any:
        def hook(layer: nn.Module, inputs: object, output: object) -> None:
            record(name, output)

        return hook

    def of_inputs(name: str) -> Any:
        def hook(layer: nn.Module, inputs: tuple[object, ...]) -> None:
            record(name, inputs[0] if inputs else None)

        return hook

    handles: list[Any] = []
    for name in names:
        layer, of_input = read_at(module, name)
        if of_input:
            handles.append(layer.register_forward_pre_hook(of_inputs(name)))
        else:
            handles.append(layer.register_forward_hook(of_outputs(name)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()

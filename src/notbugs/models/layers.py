"""Named layers: the trunk-and-head body, and activations read through hooks that come off."""

from collections.abc import Generator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from notbugs.core.errors import bad_type, unknown_name


class Body(nn.Module):
    """A network in two parts: `trunk` makes the embedding [n, d], `head` the logits [n, k].

    The built-in families have this form, so the embedding costs no run of the head.
    """

    def __init__(self, trunk: nn.Module, head: nn.Module) -> None:
        """Takes both parts as they are; the families initialise them."""
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
    """The layer of that dotted name.

    Raises:
        ValueError: no such layer; the nearest name is suggested.
    """
    for known, layer in module.named_modules():
        if known == name and name:
            return layer
    raise unknown_name(kind, name, layer_names(module))


@contextmanager
def capture(module: nn.Module, names: Sequence[str]) -> Generator[dict[str, Tensor], None, None]:
    """Collects the outputs of the named layers while the block runs.

    Yields a dictionary that each forward pass of `module` fills with name -> output; a
    layer that runs more than once leaves its last output. Outputs are differentiable, and
    are copies, because a later in-place layer (such as `ReLU(inplace=True)`) would
    otherwise overwrite them. The hooks come off at the end of the block, also after an
    exception.

    Example:
        >>> import torch
        >>> net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
        >>> with capture(net, ["0"]) as found:
        ...     _ = net(torch.zeros(1, 2))
        >>> tuple(found["0"].shape)
        (1, 3)

    Raises:
        ValueError: a name is not a layer of `module`.
        TypeError: a named layer returns something other than a tensor.
    """
    layers = {name: find_layer(module, name) for name in names}
    found: dict[str, Tensor] = {}
    handles = [layer.register_forward_hook(_keep(name, found)) for name, layer in layers.items()]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _keep(name: str, found: dict[str, Tensor]) -> Any:
    def hook(layer: nn.Module, inputs: object, output: object) -> None:
        if not isinstance(output, Tensor):
            raise bad_type(
                f"output of layer '{name}'", "a tensor", output, "Name a layer that returns one."
            )
        found[name] = output.clone()

    return hook

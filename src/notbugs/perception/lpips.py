"""LPIPS: the distance of two images in the activations of a network."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias, final

import torch
from torch import Tensor, nn

from notbugs.core.errors import NotbugsError, bad_value
from notbugs.core.packages import optional
from notbugs.core.types import Images, Rows
from notbugs.models import Classifier, frozen, prepared
from notbugs.models.layers import Body, capture
from notbugs.models.prepared import without_autocast
from notbugs.perception.ssim import check_pair

Hook: TypeAlias = Callable[[nn.Module, object, object], None]
MOST_LAYERS = 5
FLOOR = 1e-10
"""Added to the squared norm of a position, so that the gradient is finite at zero activations."""
NETS = ("alex", "vgg", "squeeze")
"""The networks that `lpips` is calibrated for."""


@final
@dataclass(frozen=True)
class LPIPS:
    """LPIPS on any classifier with weight 1 for each layer: a callable (x, center) -> [n].

    Activations of each layer are scaled to length 1 over channels at every position; their
    squared differences are summed over channels, averaged over positions, and added up over
    layers. 0 for equal images; at most 4 a layer. Call `lpips(model)` to make one.

    - `layers`: dotted names inside `model.body`; outputs [n, c, ...] are maps of c channels,
      outputs [n, tokens, d] sequences of d channels
    """

    model: Classifier = field(repr=False)
    layers: tuple[str, ...]

    @without_autocast()
    def __call__(self, x: Images, center: Images) -> Rows:
        """The distance of each row of `x` from its row of `center`; the model is frozen."""
        check_pair(x, center)
        center_units = _unit(self.activations(center))
        x_units = _unit(self.activations(x))
        return torch.stack([_apart(a, b) for a, b in zip(x_units, center_units, strict=True)]).sum(
            dim=0
        )

    def embed(self, x: Images) -> Tensor:
        """[n, d]: the squared L2 distance of two rows is the LPIPS of their images."""
        units = _unit(self.activations(x))
        return torch.cat([(u / u.shape[1] ** 0.5).flatten(1) for u in units], dim=1)

    def activations(self, x: Images) -> list[Tensor]:
        """The outputs of the layers for images [n, c, h, w]."""
        with frozen(self.model), capture(self.model.body, self.layers) as outputs:
            self.model.logits(x.to(self.model.mean.dtype))
        return [outputs[name] for name in self.layers]


@prepared()
def lpips(model: Classifier, layers: Sequence[str] | None = None) -> LPIPS:
    """Uncalibrated LPIPS on any classifier: a callable (x, center) -> distances [n].

    - `layers`: dotted names inside `model.body` (`notbugs.models.layers.layer_names`). None:
      of every size that the maps pass through, the last layer (at most the five coarsest);
      for transformers up to five blocks, evenly spaced; for networks without maps the last
      layer of each width.

    It ignores differences that the model ignores; an adversarially trained model's distance is
    closer to human perception.

    **Source**: Zhang, Isola, Efros, Shechtman & Wang 2018 (arXiv 1801.03924), equation 1.
    **Differs from the paper**: weights 1 (its "baseline"), as calibrated ones exist for few
    networks (`calibrated_lpips`); 1e-10 is added inside the root of the length, so that the
    gradient is finite where nothing is active.

    **Raises** ValueError for an unknown layer, none at all, and a layer whose output has no
    channels; TypeError for one that gives no tensor.

    >>> from notbugs.models import build
    >>> lpips(build("cnn", shape=(1, 28, 28), classes=10, seed=0)).layers
    ('trunk.1', 'trunk.3', 'trunk.7')
    """
    names = default_layers(model) if layers is None else tuple(layers)
    if not names:
        raise bad_value("layers", "name at least one layer", "none", "Leave it out for a default.")
    distance = LPIPS(model, names)
    grey = torch.full((1, *model.shape), 0.5, dtype=model.mean.dtype, device=model.device)
    with torch.no_grad():
        for name, output in zip(names, distance.activations(grey), strict=True):
            if output.ndim < 2:
                raise bad_value(
                    "layers",
                    "name layers with outputs [n, channels, ...]",
                    f"'{name}' with shape {tuple(output.shape)}",
                )
    return distance


def default_layers(model: Classifier) -> tuple[str, ...]:
    """The default layers of `lpips`, in the order in which they run."""
    prefix, inside = "", model.body
    if isinstance(inside, Body):
        prefix, inside = "trunk.", inside.trunk
    # The steps of a chain; of any other module all layers inside, an outer after its inner ones.
    chain = isinstance(inside, nn.Sequential)
    layers = inside.named_children() if chain else inside.named_modules()
    ran: list[tuple[str, tuple[int, ...]]] = []
    handles = [
        layer.register_forward_hook(_note(prefix + name, ran)) for name, layer in layers if name
    ]
    grey = torch.full((1, *model.shape), 0.5, dtype=model.mean.dtype, device=model.device)
    try:
        with frozen(model), torch.no_grad():
            model.logits(grey)
    finally:
        for handle in handles:
            handle.remove()
    maps = _last_of_each([(name, shape) for name, shape in ran if len(shape) == 4], 2)
    spread = [name for name, size in maps.items() if size != (1, 1)]
    if spread:
        return tuple(spread[-MOST_LAYERS:])
    tokens = [name for name, shape in ran if len(shape) == 3]
    if tokens:
        # Of layers that all have the same shape, evenly spaced ones, the last among them.
        wanted = min(MOST_LAYERS, len(tokens))
        return tuple(tokens[(i + 1) * len(tokens) // wanted - 1] for i in range(wanted))
    return tuple(_last_of_each(ran, 1))[-MOST_LAYERS:]


@final
@dataclass(frozen=True)
class CalibratedLPIPS:
    """LPIPS with weights calibrated on human judgements; see `calibrated_lpips`."""

    net: str
    model: nn.Module = field(repr=False)

    @without_autocast()
    def __call__(self, x: Images, center: Images) -> Rows:
        """The distance of each row of `x` from its row of `center`; the model is frozen."""
        check_pair(x, center)
        like = next(self.model.parameters())
        x, center = (v.expand(-1, 3, -1, -1).to(like) for v in (x, center))
        with frozen(self.model):
            return self.model(x, center, normalize=True).flatten()


def calibrated_lpips(net: str = "alex") -> CalibratedLPIPS:
    """The authors' LPIPS, calibrated on human judgements, on the CPU.

    - `net`: "alex" (the authors' choice for comparisons), "vgg" (for optimising) or "squeeze"

    Takes images [n, 3, h, w] or grey ones [n, 1, h, w] in [0, 1], of sides that the network
    can take (about 32 pixels and more). The pretrained network is downloaded by torchvision
    when it is first used. Move it with `.model.to(device)`.

    **Source**: Zhang, Isola, Efros, Shechtman & Wang 2018 (arXiv 1801.03924).

    **Raises** ValueError for an unknown network; NotbugsError where the package `lpips` is
    not installed, or its network could not be loaded.
    """
    if net not in NETS:
        raise bad_value("net", f"be one of {', '.join(NETS)}", f"'{net}'")
    package = optional(
        "lpips",
        extra="lpips",
        use="The calibrated LPIPS",
        remedy="or use a model of your own: lpips(model)",
    )
    try:
        network = package.LPIPS(net=net, verbose=False)
    except (OSError, RuntimeError) as error:  # urllib's errors are OSErrors
        raise NotbugsError(
            f"The package `lpips` could not load its network '{net}': {error}. It is "
            "downloaded when first used; go online once, or use a model of your own: "
            "lpips(model)."
        ) from error
    return CalibratedLPIPS(net, network.eval())


def _note(
    name: str, ran: list[tuple[str, tuple[int, ...]]]
) -> Callable[[nn.Module, object, object], None]:
    def hook(layer: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and output.ndim >= 2:
            ran.append((name, tuple(output.shape)))

    return hook


def _last_of_each(ran: list[tuple[str, tuple[int, ...]]], first: int) -> dict[str, tuple[int, ...]]:
    """Maps the last layer of each distinct shape[first:] to that shape, in order of running."""
    last = {shape[first:]: name for name, shape in ran}
    return {name: shape[first:] for name, shape in ran if last[shape[first:]] == name}


def _unit(activations: list[Tensor]) -> list[Tensor]:
    """Each [n, positions, channels], of length 1 over channels."""
    flat = [_positions(a) for a in activations]
    return [a * (a.square().sum(dim=2, keepdim=True) + FLOOR).rsqrt() for a in flat]


def _positions(output: Tensor) -> Tensor:
    """[n, positions, channels] of maps [n, c, ...], tokens [n, t, d] or vectors [n, d]."""
    output = output.to(torch.promote_types(output.dtype, torch.float32))
    if output.ndim == 3:
        return output
    return output.flatten(2).transpose(1, 2) if output.ndim > 3 else output[:, None]


def _apart(a: Tensor, b: Tensor) -> Rows:
    return (a - b).square().sum(dim=2).mean(dim=1)

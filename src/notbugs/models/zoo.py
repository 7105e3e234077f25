"""Architectures by name: the built-in ones, and those of timm and torchvision."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import torch

from notbugs.core.errors import bad_value, unknown_name
from notbugs.core.limits import DEPTH, WIDTH, memory_shortage
from notbugs.models.airbench import airbench
from notbugs.models.carlini import carlini
from notbugs.models.classifier import JSON, Classifier, Shape, check_shape
from notbugs.models.cnn import cnn
from notbugs.models.densenet import densenet
from notbugs.models.dm_wide import dm_wide
from notbugs.models.fc import fc
from notbugs.models.inception import inception
from notbugs.models.initial import seeded
from notbugs.models.layers import Body
from notbugs.models.libraries import borrowed
from notbugs.models.linear import linear
from notbugs.models.maxout import conv_maxout, maxout
from notbugs.models.mlp import mlp
from notbugs.models.outputs import check_classes
from notbugs.models.prepared import plainly
from notbugs.models.rbf import rbf
from notbugs.models.resnet import resnet8, resnet18, resnet50
from notbugs.models.strided import strided
from notbugs.models.vgg import vgg16
from notbugs.models.vit import vit
from notbugs.models.wide import wide

ARCHITECTURES: Mapping[str, Callable[..., Body]] = MappingProxyType(
    {
        "linear": linear,
        "mlp": mlp,
        "fc": fc,
        "maxout": maxout,
        "rbf": rbf,
        "cnn": cnn,
        "resnet8": resnet8,
        "resnet18": resnet18,
        "resnet50": resnet50,
        "vgg16": vgg16,
        "densenet": densenet,
        "inception": inception,
        "wide": wide,
        "dm_wide": dm_wide,
        "strided": strided,
        "carlini": carlini,
        "conv_maxout": conv_maxout,
        "vit": vit,
        "airbench": airbench,
    }
)
"""Name -> function of (shape, classes, *, options) that makes an initialised body."""
USUAL = 1_024
"""Sizes up to this give networks that fit into any memory, and are not checked further."""


def default_options(name: str) -> dict[str, JSON]:
    """The options of the architecture `name` with their defaults; none for other packages'.

    Raises:
        ValueError: no such architecture; the nearest name is suggested.
    """
    if ":" in name:
        return {}
    if name not in ARCHITECTURES:
        raise unknown_name("architecture", name, ARCHITECTURES)
    parameters = inspect.signature(ARCHITECTURES[name]).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}


@plainly()
def build(
    name: str,
    *,
    shape: Shape,
    classes: int,
    seed: int,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
    options: Mapping[str, JSON] = {},
) -> Classifier:
    """A freshly initialised classifier of a known architecture, on the CPU.

    The same seed gives the same weights; the caller's random state is left untouched.

    Args:
        name: a key of `ARCHITECTURES`, or an untrained net of another package that is
            installed, "timm:resnet18" or "torchvision:resnet18". Images are not resized for
            it (see `models/libraries.py`).
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        seed: any integer.
        mean: subtracted from the images in [0, 1]: one number, or one a channel.
        std: the images are then divided by it: one number, or one a channel.
        options: keyword options of that architecture; the others keep their defaults.

    Example:
        >>> model = build("cnn", shape=(1, 8, 8), classes=10, seed=0, options={"width": 8})
        >>> model.options
        {'width': 8, 'hidden': 64}

    Raises:
        ValueError: an unknown architecture or option (the nearest name is suggested), or
            a value it cannot have; a network that does not fit into memory; a package that
            is not installed, or a net of it that does not take such images.
    """
    all_options = default_options(name)
    for option in options:
        if option not in all_options:
            raise unknown_name(f"option of '{name}'", option, all_options)
    all_options.update(options)
    check_shape(shape)
    check_classes(classes)
    _check_size(name, shape, classes, all_options)
    with seeded(seed, "init", name):
        if ":" in name:
            body = borrowed(name, shape, classes)
        else:
            body = ARCHITECTURES[name](shape, classes, **all_options)
    return Classifier(
        body,
        shape=shape,
        classes=classes,
        embedding="trunk",
        mean=mean,
        std=std,
        architecture=name,
        options=all_options,
    )


def _check_size(name: str, shape: Shape, classes: int, options: Mapping[str, JSON]) -> None:
    """Refuses a network that does not fit into memory, before building it."""
    for option, value in options.items():
        most = DEPTH if option == "depth" else WIDTH
        if isinstance(value, int) and value > most:
            raise bad_value(option, f"be at most {most:,}", f"{value:,}", "Make it smaller.")
    sizes = [value for value in options.values() if isinstance(value, int)]
    if ":" in name or max(classes, *shape, *sizes) <= USUAL:
        return
    try:
        with torch.device("meta"):
            body = ARCHITECTURES[name](shape, classes, **options)
        shortage = memory_shortage(sum(p.numel() * p.element_size() for p in body.parameters()))
    except RuntimeError as error:  # more entries than can be counted
        shortage = str(error)
    if shortage:
        raise bad_value(
            "shape, classes and options",
            f"give a network '{name}' that fits into memory",
            f"{tuple(shape)}, {classes:,} and {dict(options)}: {shortage}",
            "Make them smaller.",
        )

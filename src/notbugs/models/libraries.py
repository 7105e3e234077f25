"""Architectures of other packages by name: "timm:resnet18", "torchvision:resnet18"."""

import contextlib
import difflib
import io
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_value, unknown_name
from notbugs.core.packages import optional
from notbugs.models.classifier import Shape
from notbugs.models.frozen import frozen
from notbugs.models.layers import Body

LITE = {"efficientnet-lite0": 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}
"""The nets of efficientnet-lite-pytorch, and the pixels a side that each was trained at."""
REMEDY = "Take a built-in architecture, or one of your own (path/to/file.py:factory)."
SMALL = (
    "Images are not resized, and it may be made for larger ones. The built-in resnet18 and "
    "vit are made for small ones."
)


def borrowed(name: str, shape: Shape, classes: int) -> Body:
    """An untrained net of another package, split before its last linear layer.

    The input of that layer is the embedding [n, d]; the net has no normalisation of its own.
    Images are not resized: in a net made for 224x224, 28x28 become 1x1 after five halvings. A
    net that cannot take the size is refused.

    - `name`: "timm:NAME", "torchvision:NAME" or "imagenet:efficientnet-lite0" (-lite1, -lite2),
      untrained
    - `shape`: (channels, height, width). The first layer is made for the channels; in a net of
      torchvision, made for 3, the first convolution is replaced by one whose initial weights
      give outputs of the same variance
    - `classes`: k, the number of logits

    **Raises** ValueError: an unknown package or name, a package that is not installed, a net
    that does not take such images, or does not end in a linear layer.
    """
    package, _, model_name = name.partition(":")
    if package not in PACKAGES:
        raise unknown_name("package of architectures", package, PACKAGES)
    net = PACKAGES[package](_imported(package), model_name, shape[0], classes)
    return split_head(net, name, shape, classes)


def _imported(package: str) -> Any:
    if package == "imagenet":
        use = "Nets trained on ImageNet"
        return optional("efficientnet_lite_pytorch", extra="imagenet", use=use)
    try:
        return import_module(package)
    except Exception as error:  # torchvision raises RuntimeError where torch is another version
        version = torch.__version__.split("+")[0]
        raise bad_value(
            "architecture",
            f"be of a package that can be imported, {package} here",
            f"{type(error).__name__}: {error}",
            f"Try: pip install {package} (torchvision in the version that goes with torch "
            f"{version}). Or take a built-in architecture.",
        ) from error


def _from_timm(timm: Any, name: str, channels: int, classes: int) -> nn.Module:
    _check_name("timm", name, timm.list_models())
    return timm.create_model(name, pretrained=False, num_classes=classes, in_chans=channels)


def _from_torchvision(torchvision: Any, name: str, channels: int, classes: int) -> nn.Module:
    models = torchvision.models
    _check_name("torchvision", name, models.list_models(module=models))
    net: nn.Module = models.get_model(name, weights=None, num_classes=classes)
    if channels != 3:
        _take_channels(net, name, channels)
    return net


def _from_efficientnet(package: Any, name: str, channels: int, classes: int) -> nn.Module:
    if name not in LITE:
        raise unknown_name("architecture of imagenet", name, LITE)
    with contextlib.redirect_stdout(io.StringIO()):  # it prints shapes
        return package.EfficientNet.from_name(name, in_channels=channels, num_classes=classes)


PACKAGES: Mapping[str, Callable[[Any, str, int, int], nn.Module]] = MappingProxyType(
    {
        "timm": _from_timm,
        "torchvision": _from_torchvision,
        "imagenet": _from_efficientnet,
    }
)
"""Package -> function of (package, name, channels, classes) that makes a net."""


def _check_name(package: str, name: str, known: Sequence[str]) -> None:
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"Did you mean '{near[0]}'? " if near else ""
        raise bad_value(
            "architecture",
            f"name an architecture of {package}",
            f"'{name}'",
            f"{hint}Its list_models() has all {len(known)}.",
        )


def _take_channels(net: nn.Module, name: str, channels: int) -> None:
    """Replaces the first convolution, made for 3 channels, by one for `channels`."""
    found = next(((n, m) for n, m in net.named_modules() if isinstance(m, nn.Conv2d)), None)
    if found is None or found[1].in_channels != 3:
        raise bad_value(
            "architecture", "begin with a convolution of 3 channels", f"'{name}'", REMEDY
        )
    layer_name, old = found
    new = nn.Conv2d(
        channels,
        old.out_channels,
        (old.kernel_size[0], old.kernel_size[1]),
        stride=(old.stride[0], old.stride[1]),
        padding=old.padding,  # pyright: ignore[reportArgumentType]
        dilation=(old.dilation[0], old.dilation[1]),
        bias=old.bias is not None,  # pyright: ignore[reportUnnecessaryComparison]
    )
    nn.init.normal_(new.weight, 0.0, float(old.weight.detach().std()) * (3 / channels) ** 0.5)
    if new.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
        nn.init.zeros_(new.bias)
    _set_layer(net, layer_name, new)


def split_head(net: nn.Module, name: str, shape: Shape, classes: int) -> Body:
    """The net before its last linear layer, and that layer, checked to give the same logits."""
    head_name, head = _last_layer(net, name)
    x = torch.rand(2, *shape)
    inputs, outputs = _head_calls(net, head, x, name)
    logits = outputs[-1] if outputs else None
    if len(outputs) != 1 or logits is None or tuple(logits.shape) != (2, classes):
        raise _no_head(name)
    _set_layer(net, head_name, nn.Identity())
    body = Body(net, head)
    with frozen(body), torch.no_grad():
        embedding = body.trunk(x)
    if not isinstance(embedding, Tensor) or not torch.equal(embedding, inputs[-1]):
        raise _no_head(name)
    # Nets with auxiliary heads give more than one output in train mode.
    if not isinstance(_run(body.trunk, x, name, training=True), Tensor):
        raise _no_head(name)
    return body


def _last_layer(net: nn.Module, name: str) -> tuple[str, nn.Linear]:
    """The layer of the logits and its dotted name: in timm the classifier, else the last linear."""
    classifier = getattr(net, "get_classifier", None)
    layers = [(n, m) for n, m in net.named_modules() if isinstance(m, nn.Linear)]
    if classifier is not None:
        layer = classifier()
        layers = [(n, m) for n, m in layers if m is layer]
    if not layers:
        raise _no_head(name)
    return layers[-1]


def _head_calls(
    net: nn.Module, head: nn.Linear, x: Tensor, name: str
) -> tuple[list[Tensor], list[Tensor]]:
    """The inputs and outputs of the head in a pass, whose last output must be the net's."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def store(layer: nn.Module, arguments: tuple[Tensor, ...], output: Tensor) -> None:
        inputs.append(arguments[0].clone())
        outputs.append(output)

    handle = head.register_forward_hook(store)
    try:
        logits = _run(net, x, name, training=False)
    finally:
        handle.remove()
    if not isinstance(logits, Tensor) or not outputs or not torch.equal(logits, outputs[-1]):
        raise _no_head(name)
    return inputs, outputs


def _run(net: nn.Module, x: Tensor, name: str, *, training: bool) -> object:
    with frozen(net, training=training), torch.no_grad():
        try:
            return net(x)
        except (RuntimeError, ValueError, IndexError, AssertionError, TypeError) as error:
            raise bad_value(
                "architecture",
                f"take images of shape {tuple(x.shape[1:])}",
                f"'{name}' with the error '{error}'",
                SMALL,
            ) from error


def _no_head(name: str) -> ValueError:
    return bad_value(
        "architecture", "end in a linear layer that gives the logits", f"'{name}'", REMEDY
    )


def _set_layer(net: nn.Module, layer_name: str, layer: nn.Module) -> None:
    parent, _, attribute = layer_name.rpartition(".")
    setattr(net.get_submodule(parent), attribute, layer)

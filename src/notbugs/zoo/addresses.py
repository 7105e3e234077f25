"""Where models are: a path, a name in the zoo, a repository of a hub, a net of ImageNet."""

from functools import cache
from pathlib import Path

from torch import nn

from notbugs.core.errors import unknown_name
from notbugs.models import Classifier
from notbugs.models.imagenet import PREFIX as IMAGENET
from notbugs.models.imagenet import imagenet_weights
from notbugs.models.weights import load, weights_in
from notbugs.zoo.card import NAME
from notbugs.zoo.hub import FOLDER, fetch
from notbugs.zoo.index import entries, find

ZOO, HUB = "zoo:", "hub:"
"""What begins the address of a model in the zoo, and of one on a hub."""
PREFIXES = (ZOO, HUB, IMAGENET)


def weights_at(address: Path | str) -> Path:
    """The weights file at an address: zoo:NAME, hub:OWNER/REPO[@REVISION], imagenet:NAME, a path.

    A folder stands for the weights that training wrote there; imagenet:efficientnet-lite0 for a
    net that was trained on ImageNet (`models/imagenet.py`). From a hub the file is downloaded,
    and checked against its card; an address stands for one revision as long as a process runs.

    **Raises** ValueError where there is no model of that name, or the address is malformed;
    DataError where the folder holds no weights, or the hub's files are damaged.
    """
    text = str(address)
    if text.startswith(ZOO):
        return find(text.removeprefix(ZOO)).weights
    if text.startswith(IMAGENET):
        return imagenet_weights(text.removeprefix(IMAGENET))
    if text.startswith(HUB):
        return _fetched(text.removeprefix(HUB))
    return weights_in(address)


def _fetched(text: str) -> Path:
    """The weights at an address on a hub; those of a folder may change at any time."""
    return fetch(text).weights if text.startswith(FOLDER) else _fetched_once(text)


@cache
def _fetched_once(text: str) -> Path:
    """One revision for all of a process, also where another is pushed in the meantime."""
    return fetch(text).weights


def public_name(address: Path | str) -> str:
    """An address for others to read: of a path, which is this machine's alone, the last part."""
    text = str(address)
    is_path = not is_address(text) or text.startswith(HUB + FOLDER)
    return Path(text).name if is_path else text


def is_address(text: str) -> bool:
    """Whether it names a model in the zoo, on a hub or of ImageNet, and is no path."""
    return text.startswith(PREFIXES)


def load_model(address: Path | str, module: nn.Module | None = None) -> Classifier:
    """The classifier at an address, on the CPU in eval mode.

    Args:
        address: a weights file, or the folder that training wrote; the name of a model of the
            zoo, also as zoo:NAME; hub:OWNER/REPO[@REVISION]; or imagenet:NAME. A path that is
            there comes first.
        module: for a model that is not built in, its module; the weights are loaded into it.

    Raises:
        ValueError: neither a path nor a model of the zoo; the nearest name is suggested.
        DataError: the file is a pickle, corrupt, needs `module`, or holds the weights of
            another model.

    Example:
        >>> load_model("digits-linear").architecture
        'linear'
    """
    text = str(address)
    if NAME.fullmatch(text) and not Path(text).exists():
        known = entries()
        if text in known:
            address = known[text].weights
        elif not Path(text).suffix:
            raise unknown_name("model: no such path, and none of the zoo", text, known)
    return load(weights_at(address), module)[0]

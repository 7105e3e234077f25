"""The peers' versions, and the stand-ins that let them be imported beside a CPU build of torch."""

import functools
import importlib
import importlib.machinery
import importlib.metadata
import os
import sys
import types

import torch

PEERS = {
    "foolbox": "foolbox",
    "torchattacks": "torchattacks",
    "adversarial-robustness-toolbox": "art.attacks.evasion",
    "cleverhans": "cleverhans.torch.attacks.projected_gradient_descent",
    "adv-lib": "adv_lib.attacks",
    "torchattack": "torchattack",
    "secml-torch": "secmlt.adv.evasion.pgd",
    "pyautoattack": "pyautoattack",
}
"""Distributions, and the module of each that is measured."""
BELOW = ("eagerpy", "torchvision", "torch", "numpy")


def versions() -> dict[str, str]:
    """Installed versions of the peers that are here, and of what they stand on."""
    return {name: found for name in (*PEERS, *BELOW) if (found := _version(name))}


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


@functools.cache  # once, and held: a library that is collected takes its operators with it
def prepare() -> torch.library.Library:
    """Makes the peers importable; to be called before the first of them is."""
    # foolbox imports GitPython for its model zoo, which insists on a git program at import.
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    sys.modules.setdefault("visdom", _visdom())
    return _torchvision_operators()


def _visdom() -> types.ModuleType:
    """adv-lib imports visdom, a plotting server, for a logger that no attack here is given."""

    def refuse(*given: object, **named: object) -> None:
        raise RuntimeError("visdom is a stand-in here: call adv-lib without a callback.")

    module = types.ModuleType("visdom")
    module.Visdom = refuse  # pyright: ignore[reportAttributeAccessIssue]
    module.__spec__ = importlib.machinery.ModuleSpec("visdom", None)  # secml-torch looks for it
    return module


def _torchvision_operators() -> torch.library.Library:
    # Several peers import torchvision for a transform or two. Its wheel is built against CUDA;
    # beside a CPU torch the compiled part does not load, and the Python part then fails to
    # register shape functions for these two operators. Declaring them, without an
    # implementation, is enough: no attack measured here calls them.
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


if __name__ == "__main__":
    prepare()
    for module in PEERS.values():
        importlib.import_module(module)
    print("ready:", ", ".join(f"{name} {version}" for name, version in versions().items()))

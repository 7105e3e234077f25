"""The peers' PGD behind one signature, and the stand-ins that let them be imported.

Every attack here is `(model, x, y) -> x_adv`, untargeted, on cross-entropy, of `steps` steps of
`step_size` inside the `norm` ball of `eps` and the pixel box.
"""

import functools
import importlib.metadata
import os
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

Craft = Callable[[nn.Module, Tensor, Tensor], Tensor]

PEERS = ("foolbox", "torchattacks")


@dataclass(frozen=True)
class Setting:
    """What all libraries are told alike; `eps` and `step_size` in pixel units of [0, 1]."""

    norm: str
    eps: float
    steps: int
    step_size: float
    random_start: bool


def versions() -> dict[str, str]:
    """Installed versions of the peers and of what they stand on."""
    names = (*PEERS, "eagerpy", "torchvision", "torch", "numpy")
    return {name: importlib.metadata.version(name) for name in names}


def foolbox_pgd(setting: Setting, bounds: tuple[float, float] = (0.0, 1.0)) -> Craft:
    """foolbox's PGD. It returns three versions of each result; the clipped one is taken."""
    _prepare()
    from foolbox import PyTorchModel
    from foolbox.attacks import L2PGD, LinfPGD

    attack = (LinfPGD if setting.norm == "linf" else L2PGD)(
        abs_stepsize=setting.step_size, steps=setting.steps, random_start=setting.random_start
    )

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        fmodel = PyTorchModel(model, bounds=bounds, device=x.device)
        return attack(fmodel, x, y, epsilons=setting.eps)[1]

    return craft


def torchattacks_pgd(setting: Setting) -> Craft:
    """torchattacks' PGD, built anew for each call as its constructor takes the model."""
    _prepare()
    import torchattacks

    options = {"eps": setting.eps, "alpha": setting.step_size, "steps": setting.steps}
    kind = torchattacks.PGD if setting.norm == "linf" else torchattacks.PGDL2

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return kind(model, random_start=setting.random_start, **options)(x, y)

    return craft


def _prepare() -> None:
    """Makes the peers importable beside a CPU build of torch."""
    # foolbox imports GitPython for its model zoo, which insists on a git program at import.
    os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
    _declare_torchvision_operators()


@functools.cache  # declared once, and held: a library that is collected takes them with it
def _declare_torchvision_operators() -> torch.library.Library:
    # torchattacks imports torchvision for one transform. The torchvision wheel is built
    # against CUDA; beside a CPU torch its compiled part does not load, and its Python part
    # then fails to register shape functions for these two operators. Declaring them, without
    # an implementation, is enough: no attack measured here calls them.
    library = torch.library.Library("torchvision", "DEF")
    library.define("nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    library.define("qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return library


if __name__ == "__main__":
    _prepare()
    import foolbox  # noqa: F401
    import torchattacks  # noqa: F401

    print("ready:", ", ".join(f"{name} {version}" for name, version in versions().items()))

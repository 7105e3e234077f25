"""The peers' PGD: untargeted, on cross-entropy, inside the ball and the pixel box, one a function.

Each is built as its users build it; where a constructor takes the model, that is part of a call.
"""

import math
from collections.abc import Callable

import torch
from craft import Craft, Setting
from peers import prepare
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

ORDER = {"linf": math.inf, "l2": 2}


def foolbox(setting: Setting) -> Craft:
    """It returns three versions of each result; the clipped one is taken."""
    from foolbox import PyTorchModel
    from foolbox.attacks import L2PGD, LinfPGD

    attack = (LinfPGD if setting.norm == "linf" else L2PGD)(
        abs_stepsize=setting.step_size, steps=setting.steps, random_start=setting.random_start
    )

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        fmodel = PyTorchModel(model, bounds=(0, 1), device=x.device)
        return attack(fmodel, x, y, epsilons=setting.eps)[1]

    return craft


def art(setting: Setting) -> Craft:
    """Its images are NumPy arrays; the conversion is part of a call."""
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.estimators.classification import PyTorchClassifier

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        attack = ProjectedGradientDescentPyTorch(
            art_classifier(PyTorchClassifier, model, x),
            norm=ORDER[setting.norm],
            eps=setting.eps,
            eps_step=setting.step_size,
            max_iter=setting.steps,
            num_random_init=int(setting.random_start),
            batch_size=len(x),
            verbose=False,
        )
        return torch.from_numpy(attack.generate(x.numpy(), y.numpy()))

    return craft


def art_classifier(kind: Callable[..., object], model: nn.Module, x: Tensor) -> object:
    """The model as ART wants it."""
    return kind(
        model,
        loss=nn.CrossEntropyLoss(),
        input_shape=tuple(x.shape[1:]),
        nb_classes=model.classes,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )


def cleverhans(setting: Setting) -> Craft:
    """For L2 it starts from a clipped point of the cube, not from a uniform one of the ball."""
    from cleverhans.torch.attacks.projected_gradient_descent import projected_gradient_descent

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return projected_gradient_descent(
            model,
            x,
            setting.eps,
            setting.step_size,
            setting.steps,
            ORDER[setting.norm],
            clip_min=0.0,
            clip_max=1.0,
            y=y,
            rand_init=setting.random_start,
        ).detach()

    return craft


def torchattacks(setting: Setting) -> Craft:
    import torchattacks as library

    options = {"eps": setting.eps, "alpha": setting.step_size, "steps": setting.steps}
    kind = library.PGD if setting.norm == "linf" else library.PGDL2

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return kind(model, random_start=setting.random_start, **options)(x, y)

    return craft


def adv_lib(setting: Setting) -> Craft | None:
    """None for L2, which it has not. It does not look at the point after the last step."""
    from adv_lib.attacks import pgd_linf

    if setting.norm != "linf":
        return None

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return pgd_linf(
            model,
            x,
            y,
            setting.eps,
            steps=setting.steps,
            random_init=setting.random_start,
            absolute_step_size=setting.step_size,
        )

    return craft


def torchattack(setting: Setting) -> Craft:
    import torchattack as library

    options = {"eps": setting.eps, "alpha": setting.step_size, "steps": setting.steps}
    kind = library.PGD if setting.norm == "linf" else library.PGDL2

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        attack = kind(model, device=x.device, random_start=setting.random_start, **options)
        return attack(x, y).detach()

    return craft


def secml_torch(setting: Setting) -> Craft:
    """Its own implementation: its other backends are foolbox and adv-lib."""
    from secmlt.adv.backends import Backends
    from secmlt.adv.evasion.pgd import PGD

    attack = PGD(
        perturbation_model=setting.norm,
        epsilon=setting.eps,
        num_steps=setting.steps,
        step_size=setting.step_size,
        random_start=setting.random_start,
        backend=Backends.NATIVE,
    )

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return unloaded(attack(model, DataLoader(TensorDataset(x, y), batch_size=len(x))))

    return craft


def unloaded(loader: DataLoader) -> Tensor:
    """The images of secml-torch's answer."""
    return torch.cat([x_adv for x_adv, _ in loader]).detach()


PGD: dict[str, Callable[[Setting], Craft | None]] = {
    "foolbox": foolbox,
    "ART": art,
    "cleverhans": cleverhans,
    "torchattacks": torchattacks,
    "adv-lib": adv_lib,
    "torchattack": torchattack,
    "secml-torch": secml_torch,
}
BY_PARAMETERS = ("foolbox", "ART", "cleverhans", "torchattack", "secml-torch")
"""Those that also differentiate by the parameters, and leave those gradients on them."""


def peers_pgd(setting: Setting) -> dict[str, Craft]:
    """Every peer that has a PGD for this setting."""
    prepare()
    made = {name: make(setting) for name, make in PGD.items()}
    return {name: craft for name, craft in made.items() if craft is not None}

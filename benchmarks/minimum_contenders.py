"""The minimum-norm attacks, ours and the peers', method by method and at one budget each."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from craft import Craft
from peers import prepare
from pgd_peers import art_classifier, unloaded
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from notbugs import attacks as ours
from notbugs.attacks import AbstractAttack
from notbugs.engine import L0, L1, L2, AbstractSize, Linf

OURS = "notbugs"
ORDER = {"l0": 0, "l1": 1, "l2": 2, "linf": math.inf}
LARGE, USUAL = 0.1, 0.01
"""Adam's step in Carlini and Wagner's attack: our default, and the peers'."""


@dataclass(frozen=True)
class Method:
    """A method at one budget: what it minimises, and who runs it.

    `targeted`: the labels handed over are the wanted classes, and success is to reach them.
    """

    name: str
    size: AbstractSize
    contenders: Mapping[str, Craft]
    targeted: bool = False


def methods(quick: bool) -> list[Method]:
    """Every method of the suite; `quick` cuts the steps."""
    prepare()
    few = 10 if quick else 1
    return [
        carlini_wagner(200 // few, 9),
        carlini_wagner_linf(100 // few),
        carlini_wagner_linf(100 // few, targeted=True),
        decoupled(100 // few),
        *(fast_minimum_norm(norm, 100 // few) for norm in (L2(), Linf(), L1(), L0())),
        augmented_lagrangian(1000 // few),
        elastic_net(100 // few, 9),
        deep_fool(L2(), 50),
        deep_fool(Linf(), 50),
        saliency_map(0.145),
    ]


def mine(attack: AbstractAttack, *, fast: bool = True) -> Craft:
    """Ours, as a user calls it."""
    return lambda model, x, y: attack(model, x, y, fast=fast).x_adv


def both(attack: AbstractAttack) -> dict[str, Craft]:
    """Ours, and without a copy of the model, whose successes have to be confirmed."""
    return {OURS: mine(attack), f"{OURS}, no fast path": mine(attack, fast=False)}


def mine_at(attack: AbstractAttack) -> Craft:
    """Ours, targeted."""
    return lambda model, x, y: attack(model, x, targets=y).x_adv


def carlini_wagner(steps: int, search: int) -> Method:
    """Each with Adam's step of ours and of most peers (cleverhans' is 0.005 by default).

    ART has a line search of its own in place of Adam. torchattacks has no search for the
    constant: it spends the whole budget at its one.
    """
    from adv_lib.attacks import carlini_wagner_l2 as adv_lib
    from art.attacks.evasion import CarliniL2Method
    from cleverhans.torch.attacks.carlini_wagner_l2 import carlini_wagner_l2 as cleverhans
    from foolbox.attacks import L2CarliniWagnerAttack
    from torchattacks import CW

    def at(step: float) -> dict[str, Craft]:
        search_options = {"binary_search_steps": search}
        return {
            OURS: mine(ours.cw_l2(steps=steps, search_steps=search, step_size=step)),
            "foolbox": _foolbox(
                L2CarliniWagnerAttack(steps=steps, stepsize=step, **search_options)
            ),
            "ART": _art(CarliniL2Method, max_iter=steps, learning_rate=step, **search_options),
            "cleverhans": lambda model, x, y: cleverhans(
                model,
                x,
                model.classes,
                y=y,
                lr=step,
                initial_const=1e-3,
                max_iterations=steps,
                **search_options,
            ),
            "torchattacks": lambda model, x, y: CW(model, lr=step, steps=steps * search)(x, y),
            "adv-lib": lambda model, x, y: adv_lib(
                model, x, y, learning_rate=step, max_iterations=steps, **search_options
            ),
        }

    named = {f"{name}, step {step}": c for step in (LARGE, USUAL) for name, c in at(step).items()}
    del named[f"ART, step {USUAL}"]  # its line search hardly heeds it, and is slow
    return Method(f"C&W-L2 {search}x{steps}", L2(), {OURS: named.pop(f"{OURS}, step 0.1"), **named})


def carlini_wagner_linf(steps: int, *, targeted: bool = False) -> Method:
    """With so many steps for each limit and constant; adv-lib at several of Adam's steps.

    ART's has no Adam and starts from a limit of 0.3.
    """
    from adv_lib.attacks import carlini_wagner_linf as adv_lib
    from art.attacks.evasion import CarliniLInfMethod

    def adv_lib_at(step: float) -> Craft:
        return lambda model, x, y: adv_lib(
            model, x, y, targeted=targeted, learning_rate=step, max_iterations=steps
        )

    attack = ours.cw_linf(steps=steps)
    contenders = {
        OURS: mine_at(attack) if targeted else mine(attack),
        **{f"adv-lib, step {step}": adv_lib_at(step) for step in (LARGE, 0.02, USUAL)},
        "ART": _art(CarliniLInfMethod, max_iter=steps, targeted=targeted),
    }
    name = f"C&W-Linf {steps}" + ", targeted" * targeted
    return Method(name, Linf(), contenders, targeted)


def decoupled(steps: int) -> Method:
    """All start at radius 1; none rounds to levels."""
    from adv_lib.attacks import ddn as adv_lib
    from foolbox.attacks import DDNAttack
    from secmlt.adv.backends import Backends
    from secmlt.adv.evasion.ddn import DDN

    return Method(
        f"DDN-{steps}",
        L2(),
        {
            **both(ours.ddn(steps=steps)),
            "foolbox": _foolbox(DDNAttack(steps=steps)),
            "adv-lib": lambda model, x, y: adv_lib(model, x, y, steps=steps, levels=None),
            "secml-torch": _secml(DDN(steps, eps_init=1.0, backend=Backends.NATIVE)),
        },
    )


def fast_minimum_norm(norm: AbstractSize, steps: int) -> Method:
    """Everyone's defaults for the first step."""
    import foolbox.attacks as foolbox
    from adv_lib.attacks import fmn as adv_lib
    from secmlt.adv.backends import Backends
    from secmlt.adv.evasion.fmn import FMN

    name = norm.name
    kind = getattr(foolbox, f"{'LInf' if name == 'linf' else name.upper()}FMNAttack")
    return Method(
        f"FMN-{steps} {name}",
        norm,
        {
            **both(ours.fmn(norm, steps=steps)),
            "foolbox": _foolbox(kind(steps=steps)),
            "adv-lib": lambda model, x, y: adv_lib(model, x, y, norm=ORDER[name], steps=steps),
            "secml-torch": _secml(FMN(name, steps, 1.0, backend=Backends.NATIVE)),
        },
    )


def augmented_lagrangian(steps: int) -> Method:
    from adv_lib.attacks import alma as adv_lib

    theirs: Craft = lambda model, x, y: adv_lib(model, x, y, num_steps=steps)  # noqa: E731
    return Method(f"ALMA-{steps}", L2(), {**both(ours.alma(steps=steps)), "adv-lib": theirs})


def elastic_net(steps: int, search: int) -> Method:
    """All by the L1 decision rule, with beta 0.01; the first constants are each one's own."""
    from art.attacks.evasion import ElasticNet
    from foolbox.attacks import EADAttack
    from torchattacks import EADL1

    return Method(
        f"EAD {search}x{steps}",
        L1(),
        {
            **both(ours.ead(steps=steps, search_steps=search)),
            "foolbox": _foolbox(EADAttack(search, steps, regularization=0.01, decision_rule="L1")),
            "ART": _art(
                ElasticNet,
                binary_search_steps=search,
                max_iter=steps,
                beta=0.01,
                decision_rule="L1",
            ),
            "torchattacks": lambda model, x, y: EADL1(
                model, binary_search_steps=search, max_iterations=steps, beta=0.01
            )(x, y),
        },
    )


def deep_fool(norm: AbstractSize, steps: int) -> Method:
    """For L2 and Linf; torchattack's steps are those of Linf.

    All overshoot by 0.02; ART by 1e-6 if it is not told, with which ours is run too.
    """
    import foolbox.attacks as foolbox
    from adv_lib.attacks import df as adv_lib
    from art.attacks.evasion import DeepFool as ARTDeepFool
    from torchattack import DeepFool as TorchattackDeepFool
    from torchattacks import DeepFool as TorchattacksDeepFool

    kind = foolbox.L2DeepFoolAttack if norm == L2() else foolbox.LinfDeepFoolAttack
    shared: dict[str, Craft] = {
        **both(ours.deepfool(norm, steps=steps)),
        "notbugs, overshoot 1e-6": mine(ours.deepfool(norm, steps=steps, overshoot=1e-6)),
        "foolbox": _foolbox(kind(steps=steps)),
        "adv-lib": lambda model, x, y: adv_lib(model, x, y, steps=steps, norm=ORDER[norm.name]),
    }
    other: dict[str, Craft] = {
        "ART": _art(ARTDeepFool, max_iter=steps, epsilon=0.02),
        "ART, overshoot 1e-6": _art(ARTDeepFool, max_iter=steps),
        "torchattacks": lambda model, x, y: TorchattacksDeepFool(model, steps=steps)(x, y),
    }
    if norm == Linf():
        other = {
            "torchattack": lambda model, x, y: TorchattackDeepFool(
                model, device=x.device, steps=steps
            )(x.clone(), y)
        }
    return Method(f"DeepFool-{steps} {norm.name}", norm, shared | other)


def saliency_map(share: float) -> Method:
    """Pixels set to 1, two a step, towards the class after the true one."""
    from art.attacks.evasion import SaliencyMapMethod
    from torchattacks import JSMA

    def torchattacks(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        attack = JSMA(model, theta=1.0, gamma=share)
        attack.set_mode_targeted_by_label(quiet=True)
        return attack(x, y)

    return Method(
        f"JSMA, {share:.1%} of the pixels",
        L0(),
        {
            OURS: mine_at(ours.jsma(variant="Z", share=share)),
            "notbugs, variant F": mine_at(ours.jsma(variant="F", share=share)),
            "ART": _art(SaliencyMapMethod, theta=1.0, gamma=share),
            "torchattacks": torchattacks,
        },
        targeted=True,
    )


def _foolbox(attack: Any) -> Craft:
    from foolbox import PyTorchModel

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return attack(PyTorchModel(model, bounds=(0, 1), device=x.device), x, y, epsilons=None)[1]

    return craft


def _art(kind: Callable[..., Any], **options: object) -> Craft:
    from art.estimators.classification import PyTorchClassifier

    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        classifier = art_classifier(PyTorchClassifier, model, x)
        attack = kind(classifier, batch_size=len(x), verbose=False, **options)
        labels = torch.nn.functional.one_hot(y, model.classes).numpy()
        return torch.from_numpy(attack.generate(x.numpy(), labels))

    return craft


def _secml(attack: Any) -> Craft:
    def craft(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        return unloaded(attack(model, DataLoader(TensorDataset(x, y), batch_size=len(x))))

    return craft

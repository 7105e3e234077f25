"""What bad input gives where no type checker watches, as for a user; prints it as JSON.

Run as a script: in the tests themselves beartype would refuse much of this before us.
"""

import inspect
import json

import torch
from torch import nn

from attacks.catalogue import ATTACKS, TARGETED_ONLY
from notbugs import attacks
from notbugs.data import ImageData
from notbugs.engine import L0, L2, Linf, Threat
from notbugs.judge import accuracy, diagnose, evaluate
from notbugs.models import Classifier

N, CLASSES = 6, 5
X = torch.rand(N, 1, 8, 8, generator=torch.Generator().manual_seed(0))
Y = torch.tensor([0, 1, 0, 1, 0, 1])
DATA = ImageData(X, Y, tuple("abcde"), "noise")
THREAT = Threat.parse("linf:0.1")

BOTH = [attacks.pgd(Linf(), 0.1, steps=2), attacks.square(Linf(), 0.1, steps=15)]
"""With gradients and without."""


class Net(nn.Module):
    """A linear layer and what is made of its logits."""

    def __init__(self, outputs, after) -> None:
        super().__init__()
        self.flat, self.layer, self.after = nn.Flatten(), nn.Linear(64, outputs), after
        with torch.no_grad():
            self.layer.weight.zero_()
            self.layer.bias.copy_(torch.arange(outputs) == 1)  # class 1: half of `Y` is right

    def forward(self, x):
        return self.after(self.layer(self.flat(x)))


class Mixed(nn.Module):
    """A net whose norm takes its statistics from the batch, in eval mode too."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4, track_running_stats=False)
        self.flat, self.layer = nn.Flatten(), nn.Linear(144, CLASSES)
        draws = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for layer in (self.conv, self.layer):
                layer.weight.normal_(generator=draws)
            self.layer.bias.copy_(50 * (torch.arange(CLASSES) == 1))

    def forward(self, x):
        return self.layer(self.flat(self.norm(self.conv(x)).relu()))


def mixed() -> Classifier:
    return Classifier(Mixed(), shape=(1, 8, 8), classes=CLASSES, embedding="flat")


def model(after=lambda z: z, outputs=CLASSES, classes=CLASSES) -> Classifier:
    body = Net(outputs, after)
    return Classifier(body, shape=(1, 8, 8), classes=classes, embedding="flat")


MODELS = {
    "more logits": model(outputs=7),
    "fewer logits": model(outputs=4),
    "three dimensions": model(lambda z: z[:, :, None]),
    "one number": model(lambda z: z[:, 0]),
    "a set": model(lambda z: {0, 1}),
    "classes first": model(lambda z: z.T),
    "one row": model(lambda z: z[:1]),
    "decisions": model(lambda z: nn.functional.one_hot(z.argmax(dim=1), CLASSES)),
    "NaN": model(lambda z: z * float("nan")),
    "infinity": model(lambda z: z + float("inf")),
    "no gradients": model(lambda z: z.detach()),
    "batch statistics": mixed(),
    "a function": Net(CLASSES, lambda z: z).forward,
}


def called(name):
    if name in TARGETED_ONLY:
        return lambda m: ATTACKS[name](m, X, targets=Y + 1)
    return lambda m: ATTACKS[name](m, X, Y)


CALLERS = {
    **{name: called(name) for name in ATTACKS},
    "universal": lambda m: attacks.universal(m, X, Linf(), 0.1, y=Y, epochs=1),
    "every target": lambda m: attacks.best_average_worst(attacks.ddn(steps=3), m, X, Y),
    "evaluate": lambda m: evaluate(m, DATA, THREAT, attacks=BOTH),
    "accuracy": lambda m: accuracy(m, DATA),
    "diagnose": lambda m: diagnose(m, DATA, THREAT, count=1),
}
FEW = model(outputs=2, classes=2)


def made_with(argument, value, eps=0.1):
    """name -> a method made with that argument; its others are as they should be."""
    right, made = {"norm": L2(), "eps": eps, "steps": 3}, {}
    for name in attacks.__all__:
        method = getattr(attacks, name)
        asked = inspect.signature(method).parameters if inspect.isfunction(method) else {}
        given = {k: v for k, v in right.items() if k in asked} | {argument: value}
        needed = {k for k, p in asked.items() if p.default is p.empty}
        if argument in asked and needed <= set(given):
            made[name] = lambda method=method, given=given: method(**given)
    return made


WITH_DLR = made_with("loss", attacks.dlr)
IN_L0 = {
    **{k: v for k, v in made_with("norm", L0(), eps=3).items() if k != "fmn"},  # which has L0
    "latent": lambda: attacks.latent(nn.Flatten(), X, torch.zeros(N, 64), L0(), 3),
    "universal": lambda: attacks.universal(model(), X, L0(), 3),
}
WRITTEN = {argument: made_with(argument, "l2") for argument in ("norm", "eps", "steps")}


def said(call, *arguments):
    """(the kind of error, its text); of no error: ("", "")."""
    try:
        call(*arguments)
    except Exception as error:
        return type(error).__name__, str(error)
    return "", ""


def aimed(attack):
    return attack(model(), X, targets=Y)


def main() -> None:
    found = {
        "model": {
            case: {name: said(call, bad) for name, call in CALLERS.items()}
            for case, bad in MODELS.items()
        },
        "few": {name: said(make(), FEW, X, Y) for name, make in WITH_DLR.items()},
        "dlr with targets": {name: said(aimed, make()) for name, make in WITH_DLR.items()},
        "text": {
            argument: {name: said(make) for name, make in methods.items()}
            for argument, methods in WRITTEN.items()
        },
        "l0": {name: said(make) for name, make in IN_L0.items()},
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main()

"""The evaluation: worst case per example over attacks and restarts."""

import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from notbugs.attacks import Attack, pgd, predicted_clean
from notbugs.core import random
from notbugs.core.errors import bad_value, check_count, check_labels
from notbugs.core.types import Images, Keys, Labels, Mask
from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.judge.verdict import AttackRecord, Verdict
from notbugs.models import Classifier, frozen


def evaluation_pgd(threat: Threat, *, steps: int = 20, restarts: int = 1) -> Attack:
    """The house's fixed yardstick: untargeted PGD, step eps / 5, random start."""
    return pgd(
        threat.as_norm("PGD"),
        threat.eps,
        steps=steps,
        step_size=threat.eps / 5,
        restarts=restarts,
        stop_on_success=True,
    )


def evaluate(
    model: Classifier,
    data: ImageData,
    threat: Threat,
    *,
    attacks: Sequence[Attack] | None = None,
    seed: int = 0,
    batch_size: int = 256,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Verdict:
    """Clean and robust accuracy of `model` on `data` under `threat`.

    An image counts as robust when it is classified correctly as it is and under every
    attack and restart. Later attacks only see the images that still stand. Without
    `attacks`: PGD-20 with step eps / 5 and one random start.

    - `seed`: row i of the data has its own random stream, whatever the batch size
    - `progress`: called with the fraction done, 0..1

    **Raises** ValueError when the data does not fit the model, the model gives NaN for a
    clean image, there is no attack, or an attack has another threat.
    """
    check_count(batch_size, "batch_size")
    check_fits(model, data)
    chosen = [evaluation_pgd(threat)] if attacks is None else list(attacks)
    _check_attacks(chosen, threat)
    began, device = time.perf_counter(), model.device
    keys = random.row_keys(len(data), seed, "evaluate")
    tally = _Tally(len(data), chosen)
    for index in torch.arange(len(data)).split(batch_size):
        x, y = data.pixels(index).to(device), data.labels[index].to(device)
        tally.batch(model, index, x, y, keys[index].to(device))
        progress((int(index[-1]) + 1) / len(data))
    return tally.verdict(threat, time.perf_counter() - began)


def accuracy(
    model: Classifier, data: ImageData, labels: Labels | None = None, *, batch_size: int = 1024
) -> float:
    """Percent of images classified as `labels` (by default the data's own)."""
    labels = data.labels if labels is None else labels
    check_labels(labels, rows=len(data), classes=model.classes, argument="labels")
    right = predictions(model, data, batch_size=batch_size) == labels.cpu()
    return 100 * int(right.sum()) / len(data)


def predictions(model: Classifier, data: ImageData, *, batch_size: int = 1024) -> Tensor:
    """The predicted class of every image, [n], on the CPU; the model is left as it was."""
    check_fits(model, data)
    check_count(batch_size, "batch_size")
    with frozen(model):
        parts = [
            predicted_clean(model, data.pixels(index).to(model.device)).cpu()
            for index in torch.arange(len(data)).split(batch_size)
        ]
    return torch.cat(parts)


def check_fits(model: Classifier, data: ImageData, argument: str = "data") -> None:
    """Refuses data whose images or classes are not the model's."""
    if tuple(data.shape) != tuple(model.shape):
        raise bad_value(
            argument,
            f"hold images of the model's shape {tuple(model.shape)}",
            f"{tuple(data.shape)} in '{data.name}'",
            "Use the dataset the model was made for, or resize the images.",
        )
    if data.classes != model.classes:
        raise bad_value(
            argument,
            f"have the model's {model.classes} classes",
            f"{data.classes} in '{data.name}'",
            "Use the dataset the model was made for.",
        )


def _check_attacks(attacks: Sequence[Attack], threat: Threat) -> None:
    if not attacks:
        raise bad_value(
            "attacks",
            "hold at least one attack",
            "none",
            "Leave it out for PGD-20; clean accuracy alone is `accuracy(model, data)`.",
        )
    for attack in attacks:
        if attack.threat != threat:
            raise bad_value(
                "attacks",
                f"all have the threat {threat}",
                f"{attack.name} with {attack.threat}",
                "Evaluate each threat on its own.",
            )


class _Tally:
    """Per-example bookkeeping over batches."""

    def __init__(self, n: int, attacks: Sequence[Attack]) -> None:
        self.attacks = attacks
        self.right = torch.zeros(n, dtype=torch.bool)
        self.standing = torch.zeros(n, dtype=torch.bool)
        self.broken = [0] * len(attacks)
        self.spent = [0.0] * len(attacks)
        self.forwards = 0
        self.attacked = 0
        self.flat = 0

    def batch(self, model: Classifier, index: Tensor, x: Images, y: Labels, keys: Keys) -> None:
        with frozen(model):
            right = predicted_clean(model, x) == y
        self.forwards += len(x)
        self.right[index] = right.cpu()
        standing = right.clone()
        for i, attack in enumerate(self.attacks):
            began = time.perf_counter()
            self._attack(attack, i, model, x, y, keys, standing)
            self.spent[i] += time.perf_counter() - began
        self.standing[index] = standing.cpu()

    def _attack(
        self,
        attack: Attack,
        i: int,
        model: Classifier,
        x: Images,
        y: Labels,
        keys: Keys,
        standing: Mask,
    ) -> None:
        left = standing.nonzero()[:, 0]
        if not len(left):
            return
        found = attack(model, x[left], y[left], keys=random.fold(keys[left], "attack", i))
        self.forwards += found.forwards
        self.attacked += len(left)
        flat = (found.zero_grads * 2 >= found.steps) & (found.zero_grads > 0)
        self.flat += int(flat.sum())
        self.broken[i] += int(found.success.sum())
        standing[left[found.success]] = False

    def verdict(self, threat: Threat, seconds: float) -> Verdict:
        records = tuple(
            AttackRecord(a.name, b, s)
            for a, b, s in zip(self.attacks, self.broken, self.spent, strict=True)
        )
        return Verdict(
            threat=threat,
            right=self.right,
            standing=self.standing,
            attacks=records,
            seconds=seconds,
            forwards=self.forwards,
            zero_gradients=self.flat / max(1, self.attacked),
        )

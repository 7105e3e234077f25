"""Adversarial images rounded to 8 bits, as in image files, and verified after rounding."""

from dataclasses import dataclass

import torch
from jaxtyping import UInt8
from torch import Tensor

from notbugs.attacks.attack import AbstractAttack, majority_of
from notbugs.attacks.goals import check_goals
from notbugs.core import rows
from notbugs.core.errors import bad_value
from notbugs.core.types import Images, Mask, Rows
from notbugs.models import Classifier, frozen, prepared

HALVINGS = 16
SLACK = 1e-7
"""Relative tolerance on the radius, for a check in float64."""


@dataclass(frozen=True)
class Rounded:
    """Adversarial images in 8 bits, with the success and distance that remain.

    - `images` [n, c, h, w]: uint8
    - `success` [n]: these images reach the attack's goal, by the same criterion as in the
      attack's result
    - `distance` [n]: from the clean images rounded to 8 bits, in the attack's norm
    - `shrunk` [n]: the perturbation was scaled down, since rounding it to the nearest level
      left the threat
    """

    images: UInt8[Tensor, "n c h w"]
    success: Mask
    distance: Rows
    shrunk: Mask


@prepared("x", "x_adv")
def to_8_bit(
    attack: AbstractAttack,
    model: Classifier,
    x: Images,
    x_adv: Tensor,  # any shape: checked below
    y: Tensor | None = None,
    *,
    targets: Tensor | None = None,
    batch_size: int = 256,
) -> Rounded:
    """The adversarial images `x_adv` rounded to 8 bits within the threat, and verified again.

    The perturbation is rounded to the nearest levels and added to the rounded clean image.
    If that is outside the threat (L2 by the rounding error, Linf if eps lies between levels),
    the perturbation is first multiplied by the largest s <= 1 for which the rounded
    s * (x_adv - x) is within. For 8-bit clean images this is the only loss.

    - `x`, `x_adv` [n, c, h, w] in [0, 1]; `y`, `targets` [n]: as in the attack's call

    **Raises** ValueError for shapes that differ, and where neither labels nor targets are given.
    """
    if x.shape != x_adv.shape:
        raise bad_value("x_adv", f"have the shape of x, {tuple(x.shape)}", tuple(x_adv.shape))
    check_goals(len(x), model.classes, y, targets)
    parts = [_quantised(attack, x[i], x_adv[i]) for i in torch.arange(len(x)).split(512)]
    images, distance, shrunk = (torch.cat(part) for part in zip(*parts, strict=True))
    success = [torch.zeros(0, dtype=torch.bool, device=x.device)]
    with frozen(model):
        for i in torch.arange(len(x)).split(batch_size):
            pixels = images[i].to(model.device).to(model.mean.dtype) / 255
            labels, goals = (None if v is None else v[i].to(model.device) for v in (y, targets))
            outcome = majority_of(model.logits, pixels, labels, goals, attack.votes)
            success.append(outcome.success.to(x.device))
    return Rounded(images, torch.cat(success), distance, shrunk)


def _quantised(attack: AbstractAttack, x: Images, x_adv: Images) -> tuple[Tensor, Rows, Mask]:
    """(levels [n, c, h, w], distances [n], rows whose perturbation was scaled down [n])."""
    clean = (255 * x.double()).round()
    change = 255 * (x_adv.double() - x.double())

    def scaled(scale: Rows) -> Tensor:
        return (clean + (rows.expand(scale, change) * change).round()).clamp(0, 255)

    def is_within(levels: Tensor) -> Mask:
        eps = 1.0 if attack.threat is None else attack.threat.eps
        return attack.within().violation(levels / 255, clean / 255) <= SLACK * max(1.0, eps)

    high = torch.ones(len(x), dtype=torch.float64, device=x.device)
    best, shrunk, low = scaled(high), ~is_within(scaled(high)), torch.zeros_like(high)
    if bool(shrunk.any()):
        best = rows.where(shrunk, clean, best)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            inside = is_within(scaled(middle))
            best = rows.where(shrunk & inside, scaled(middle), best)
            low, high = torch.where(inside, middle, low), torch.where(inside, high, middle)
    distance = attack.measured(best / 255, clean / 255)
    return best.to(torch.uint8), distance.float(), shrunk

"""Adversarial images of whole 8-bit levels, as image files hold them, verified after rounding."""

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
"""Relative tolerance on the radius: of float64, in which it is checked here."""


@dataclass(frozen=True)
class Rounded:
    """Images of whole levels, and what is left of the attack.

    - `images` [n, c, h, w]: uint8
    - `success` [n]: the model's answer to these very images is the attack's goal, judged as
      in the attack's own result
    - `distance` [n]: from the clean images as 8 bits hold them, in the attack's norm
    - `shrunk` [n]: rounding to the nearest level had left the threat, so that the change
      was made smaller first
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
    x_adv: Tensor,  # any shape: the check below says what is wrong
    y: Tensor | None = None,
    *,
    targets: Tensor | None = None,
    batch_size: int = 256,
) -> Rounded:
    """The images `x_adv` that `attack` made of `x`, in 8 bits, within its threat and judged again.

    The change is rounded to the nearest whole levels and added to the rounded clean image.
    Where that is farther than the threat allows (L2 by the noise of rounding, Linf where
    eps lies between levels), it is the largest multiple s <= 1 of the change for which
    s * (x_adv - x), rounded, stays within. For 8-bit clean images nothing else is lost.

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
            own, aims = (None if v is None else v[i].to(model.device) for v in (y, targets))
            outcome = majority_of(model.logits, pixels, own, aims, attack.votes)
            success.append(outcome.success.to(x.device))
    return Rounded(images, torch.cat(success), distance, shrunk)


def _quantised(attack: AbstractAttack, x: Images, x_adv: Images) -> tuple[Tensor, Rows, Mask]:
    """(levels [n, c, h, w], distances [n], rows whose change was made smaller [n])."""
    clean = (255 * x.double()).round()
    change = 255 * (x_adv.double() - x.double())

    def at(scale: Rows) -> Tensor:
        return (clean + (rows.expand(scale, change) * change).round()).clamp(0, 255)

    def fits(levels: Tensor) -> Mask:
        eps = 1.0 if attack.threat is None else attack.threat.eps
        return attack.within().violation(levels / 255, clean / 255) <= SLACK * max(1.0, eps)

    high = torch.ones(len(x), dtype=torch.float64, device=x.device)
    best, shrunk, low = at(high), ~fits(at(high)), torch.zeros_like(high)
    if bool(shrunk.any()):
        best = rows.where(shrunk, clean, best)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            fit = fits(at(middle))
            best = rows.where(shrunk & fit, at(middle), best)
            low, high = torch.where(fit, middle, low), torch.where(fit, high, middle)
    distance = attack.measured(best / 255, clean / 255)
    return best.to(torch.uint8), distance.float(), shrunk

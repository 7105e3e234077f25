"""What is measured on a model to see whether its gradients can be trusted."""

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch

from notbugs.attacks import Attack, cross_entropy, fgsm, margin, pgd, predicted
from notbugs.attacks.apgd import apgd
from notbugs.attacks.losses import ValueOfLogits
from notbugs.attacks.square import square
from notbugs.core import rows
from notbugs.core.types import Images, Keys, Labels, Logits, Mask, Rows
from notbugs.engine import L2, AbstractNorm, Linf, Threat
from notbugs.models import Classifier

MANY = 20
"""Steps of the many-step attacks."""
STRONG = 50
"""Steps of the strongest gradient attack."""
QUERIES = 300
"""Queries of the attack without gradients."""
PASSES = 8
"""Passes averaged at every point for a model that draws anew in each."""
REPEATS = 1e-3
"""Largest shift of a logit, as a share of their spread, that rounding alone may cause."""
FAINT = 2.0**-24
"""Half the spacing of float32 below 1: what the gradient of a rounded softmax cannot tell."""

LogitsOf = Callable[[Images], Logits]


@dataclass(frozen=True)
class Probes:
    """What was found on each image, all [n]; the images are right when clean.

    - `flat`: the gradient of the margin is exactly zero, or there is none
    - `flat_entropy`: that of the cross-entropy, computed in float32; `faint_entropy`: it is
      at most `FAINT` times the margin's
    - `rise`: how much the margin to the nearest wrong class rose over many steps
    - `one_step`, `many_steps`, `entropy_steps`, `strong`, `blind`, `unbounded`: broken by
      one full step on the margin; by many; by many on the cross-entropy; by Auto-PGD; by
      an attack without the model's gradients; by Auto-PGD that may go anywhere in [0, 1]
    - `shift`: largest difference of a logit between two passes, as a share of the spread
      of the row's logits; `flipped`: the prediction differed as well
    """

    flat: Mask
    flat_entropy: Mask
    faint_entropy: Mask
    rise: Rows
    one_step: Mask
    many_steps: Mask
    entropy_steps: Mask
    strong: Mask
    blind: Mask
    unbounded: Mask
    shift: Rows
    flipped: Mask

    def __len__(self) -> int:
        """The number of images."""
        return len(self.flat)


def joined(parts: list[Probes]) -> Probes:
    """Several batches as one."""
    names = [f.name for f in fields(Probes)]
    return Probes(**{name: torch.cat([getattr(p, name) for p in parts]) for name in names})


def probe(
    model: Classifier,
    x: Images,
    y: Labels,
    threat: Threat,
    keys: Keys,
    surrogate: Classifier | None = None,
) -> Probes:
    """All measurements on images that the model classifies as `y`; call under `frozen(model)`.

    Every success is asked again in a pass of its own. A model that is random in itself is
    replaced by its mean over `PASSES` passes, as an attacker would. With a `surrogate`,
    Auto-PGD's examples against that one count for the attack without gradients.

    For L1 the ball is the largest one in L2 inside the threat: steepest L1 steps change a
    pixel each, so that few of them prove nothing.
    """
    norm, eps = _ball(threat, x)
    shift, flipped = repeated(model, x)
    logits = _held(model, PASSES if bool((shift > REPEATS).any()) else 1)

    def moved(attack: Attack, by: LogitsOf = logits) -> Images:
        return attack.craft(by, x, y, keys=keys).x

    # No attack stops at its first success: where the model is random that may be luck.
    many = moved(pgd(norm, eps, steps=MANY, random_start=False, loss=margin))
    strong = apgd(norm, eps, steps=STRONG, loss=margin, stop_on_success=False)
    # The ball of radius 1 in Linf is the whole box, whatever the threat's norm.
    anywhere = apgd(Linf(), 1.0, steps=STRONG, loss=margin, stop_on_success=False)
    blind = _wrong(logits, moved(square(norm, eps, steps=QUERIES, stop_on_success=False)), y)
    if surrogate is not None:
        blind |= _wrong(logits, moved(strong, surrogate.logits), y)
    slope, slope_entropy = _slope(logits, x, y, margin), _slope(logits, x, y, cross_entropy)
    return Probes(
        flat=~(slope > 0),
        flat_entropy=~(slope_entropy > 0),
        faint_entropy=~(slope_entropy > FAINT * slope),
        rise=_margin(logits, many, y) - _margin(logits, x, y),
        one_step=_wrong(logits, moved(fgsm(eps, norm=norm, loss=margin)), y),
        many_steps=_wrong(logits, many, y),
        entropy_steps=_wrong(logits, moved(pgd(norm, eps, steps=MANY, random_start=False)), y),
        strong=_wrong(logits, moved(strong), y),
        blind=blind,
        unbounded=_wrong(logits, moved(anywhere), y),
        shift=shift,
        flipped=flipped,
    )


def _ball(threat: Threat, x: Images) -> tuple[AbstractNorm, float]:
    norm = threat.as_norm("the masking diagnosis")
    if norm.name == "l1":
        return L2(), threat.eps / x[0].numel() ** 0.5
    return norm, threat.eps


def _held(model: Classifier, passes: int) -> LogitsOf:
    """The model's mean logits, with a gradient of zero where the model has none."""

    def logits(x: Images) -> Logits:
        z = model.logits(x)
        for _ in range(passes - 1):
            z = z + model.logits(x)
        if x.requires_grad and not z.requires_grad:
            z = z + 0 * rows.total(x)[:, None]
        return z / passes

    return logits


def _slope(logits: LogitsOf, x: Images, y: Labels, loss: ValueOfLogits) -> Rows:
    """The largest entry of each row's gradient; NaN where it has one."""
    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        # In float32 whatever the model's type is: that is what attacks compute in.
        (grad,) = torch.autograd.grad(loss(logits(leaf).float(), y).sum(), leaf)
    return rows.flatten(grad).abs().amax(dim=1)


def _margin(logits: LogitsOf, x: Images, y: Labels) -> Rows:
    with torch.no_grad():
        return margin(logits(x), y)


def _wrong(logits: LogitsOf, x: Images, y: Labels) -> Mask:
    with torch.no_grad():
        return predicted(logits(x)) != y


def repeated(model: Classifier, x: Images) -> tuple[Rows, Mask]:
    """(shift, flipped) between two passes, the second with the rows in reverse.

    The order changes, so that noise from a generator that is reseeded in every pass, and
    statistics that a row shares with its neighbours, show as well.
    """
    with torch.no_grad():
        once, again = model.logits(x), model.logits(x.flip(0)).flip(0)
    spread = once.std(dim=1).clamp(min=1e-12)
    return (once - again).abs().amax(dim=1) / spread, predicted(once) != predicted(again)

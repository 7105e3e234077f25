"""What is measured on a model to see whether its gradients can be trusted."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import torch

from notbugs.attacks import Attack, cross_entropy, fgsm, margin, pgd, predicted
from notbugs.attacks.apgd import apgd
from notbugs.attacks.losses import ValueOfLogits
from notbugs.attacks.neighbours import MOVED, lead_change, neighbourly, share_moved
from notbugs.attacks.square import square
from notbugs.core import rows
from notbugs.core.types import Images, Keys, Labels, Logits, Mask, Rows
from notbugs.engine import L2, AbstractNorm, Linf, Threat
from notbugs.models import Classifier
from notbugs.models.decision import misclassified
from notbugs.models.validation import why_no_gradient

MANY = 20
"""Steps of the many-step attacks."""
STRONG = 50
"""Steps of the strongest gradient attack."""
TARGETS = 9
"""Wrong classes, the strongest first, that the targeted attack is aimed at."""
QUERIES = 500
"""Queries of the attack without gradients, on each image that those with gradients leave."""
PASSES = 8
"""Passes averaged at every point for a model that draws anew in each."""
FAINT = 2.0**-24
"""Half the spacing of float32 below 1: what the gradient of a rounded softmax cannot tell."""

LogitsOf = Callable[[Images], Logits]


@dataclass(frozen=True)
class Measurements:
    """What was found on each image, all [n]; the images are right when clean.

    - `zero_gradient`: the gradient of the margin is exactly zero, or there is none
    - `zero_entropy_gradient`: that of the cross-entropy, computed in float32;
      `tiny_entropy_gradient`: it is at most `FAINT` times the margin's
    - `margin_gain`: how much the margin to the nearest wrong class rose over many steps
    - `one_step`, `many_steps`, `entropy_steps`, `strong`, `unbounded`: broken by one full
      step on the margin; by many; by many on the cross-entropy; by Auto-PGD; by Auto-PGD
      that may go anywhere in [0, 1]
    - `black_box`: broken by an attack without the model's gradients, which is shown those rows
      alone that stand under the attacks with them (`by_gradients`)
    - `lead`: a typical lead of the first class over another (`lead_change`); `shift`: its
      change between two passes; `flipped`: the prediction differed as well; `mixed`: its
      change with other images in the batch, all draws of a random model being the same
    - `own_gradients`: a pass of the model computes gradients of its own
    """

    zero_gradient: Mask
    zero_entropy_gradient: Mask
    tiny_entropy_gradient: Mask
    margin_gain: Rows
    one_step: Mask
    many_steps: Mask
    entropy_steps: Mask
    strong: Mask
    black_box: Mask
    unbounded: Mask
    lead: Rows
    shift: Rows
    flipped: Mask
    mixed: Rows
    own_gradients: Mask

    @property
    def by_gradients(self) -> Mask:
        """Broken by many steps on the margin or the cross-entropy, or by Auto-PGD, [n]."""
        return self.many_steps | self.entropy_steps | self.strong

    def __len__(self) -> int:
        """The number of images."""
        return len(self.zero_gradient)


def joined(parts: list[Measurements]) -> Measurements:
    """Several batches as one."""
    names = [f.name for f in fields(Measurements)]
    return Measurements(**{name: torch.cat([getattr(p, name) for p in parts]) for name in names})


def measure(
    model: Classifier,
    x: Images,
    y: Labels,
    threat: Threat,
    keys: Keys,
    surrogate: Classifier | None = None,
) -> Measurements:
    """All measurements on images that the model classifies as `y`; call under `frozen(model)`.

    Every success is asked again in a pass of its own. A model that is random in itself is
    replaced by its mean over `PASSES` passes, as an attacker would. With a `surrogate`,
    Auto-PGD's examples against that one count for the attack without gradients.

    For L1 the ball is the largest one in L2 inside the threat: steepest L1 steps change a
    pixel each, so that few of them prove nothing.
    """
    norm, eps = _ball(threat, x)
    lead, shift, flipped = repeated(model, x)
    is_random = share_moved(shift, lead) > MOVED
    trial = _Trial(_held(model, x, PASSES if is_random else 1), x, y, keys)
    # No attack stops at its first success: where the model is random that may be luck.
    many = pgd(norm, eps, steps=MANY, random_start=False, loss=margin)
    strong = apgd(norm, eps, steps=STRONG, loss=margin, stop_on_success=False)
    # The ball of radius 1 in Linf is the whole box, whatever the threat's norm.
    anywhere = apgd(Linf(), 1.0, steps=STRONG, loss=margin, stop_on_success=False)
    logits = trial.logits
    risen = many.craft(logits, x, y, keys=keys).x
    slope, slope_entropy = _slope(logits, x, y, margin), _slope(logits, x, y, cross_entropy)
    measured = Measurements(
        zero_gradient=~(slope > 0),
        zero_entropy_gradient=~(slope_entropy > 0),
        tiny_entropy_gradient=~(slope_entropy > FAINT * slope),
        margin_gain=_margin(logits, risen, y) - _margin(logits, x, y),
        one_step=trial.broken(fgsm(norm, eps, loss=margin)),
        many_steps=_wrong(logits, risen, y),
        entropy_steps=trial.broken(pgd(norm, eps, steps=MANY, random_start=False)),
        strong=trial.broken(strong),
        black_box=torch.zeros_like(flipped),
        unbounded=trial.broken(anywhere),
        lead=lead,
        shift=shift,
        flipped=flipped,
        mixed=mixed(model, x),
        own_gradients=torch.full_like(flipped, searches(model, x)),
    )
    towards = trial.broken_towards(strong, ~measured.by_gradients)
    measured = replace(measured, strong=measured.strong | towards)
    left = ~measured.by_gradients
    black_box = trial.broken(square(norm, eps, steps=QUERIES, stop_on_success=not is_random), left)
    if surrogate is not None:
        black_box |= trial.broken(strong, left, by=surrogate.logits)
    return replace(measured, black_box=black_box)


@dataclass(frozen=True)
class _Trial:
    """Images that attacks are tried on, and the logits that say what broke."""

    logits: LogitsOf
    x: Images
    y: Labels
    keys: Keys

    def broken(
        self,
        attack: Attack,
        left: Mask | None = None,
        *,
        by: LogitsOf | None = None,
        targets: Labels | None = None,
    ) -> Mask:
        """The rows of `left` that an attack through `by` breaks, on their own or at a class."""
        broken = torch.zeros_like(self.y, dtype=torch.bool)
        index = (~broken if left is None else left).nonzero()[:, 0]
        if len(index):
            true, target = (self.y[index], None) if targets is None else (None, targets[index])
            x, keys = self.x[index], self.keys[index]
            moved = attack.craft(by or self.logits, x, true, targets=target, keys=keys).x
            broken[index] = _wrong(self.logits, moved, self.y[index])
        return broken

    def broken_towards(self, attack: Attack, left: Mask) -> Mask:
        """Those that it breaks when aimed at the strongest wrong classes, one after the other.

        Without it, a search would be held against attacks that settle on one class.
        """
        towards = torch.zeros_like(left)
        for targets in _ranked(self.logits, self.x):
            towards |= self.broken(attack, left & ~towards & (targets != self.y), targets=targets)
        return towards


def _ranked(logits: LogitsOf, x: Images) -> Sequence[Labels]:
    """The strongest classes of each row, the strongest first, each [n]."""
    with torch.no_grad():
        clean = logits(x)
    return clean.topk(min(TARGETS + 1, clean.shape[1]), dim=1).indices.unbind(dim=1)


def _ball(threat: Threat, x: Images) -> tuple[AbstractNorm, float]:
    norm = threat.as_norm("the masking diagnosis")
    if norm.name == "l1":
        return L2(), threat.eps / x[0].numel() ** 0.5
    return norm, threat.eps


def _held(model: Classifier, x: Images, passes: int) -> LogitsOf:
    """The model's mean logits, with a gradient of zero where the model has none."""
    without = why_no_gradient(model.logits, x[:1]) is not None

    def logits(x: Images) -> Logits:
        z = model.logits(x)
        for _ in range(passes - 1):
            z = z + model.logits(x)
        if without and x.requires_grad:
            z = z.detach() + 0 * rows.total(x)[:, None]
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
        return misclassified(logits(x), y)


def repeated(model: Classifier, x: Images) -> tuple[Rows, Rows, Mask]:
    """(lead, shift, flipped) between two passes, the second with the rows in reverse.

    As in `Measurements`. The order changes, so that noise from a generator that is reseeded in
    every pass shows as well.
    """
    with torch.no_grad():
        once, again = model.logits(x), model.logits(x.flip(0)).flip(0)
    shift, lead = lead_change(once, again)
    return lead, shift, predicted(once) != predicted(again)


def searches(model: Classifier, x: Images) -> bool:
    """Whether a pass takes gradients by itself that it does not hand on, as a search does.

    Those with a graph of their own (`create_graph`) are part of what is differentiated.
    """
    taken, real = False, torch.autograd._engine_run_backward  # pyright: ignore

    def run(outputs: Any, given: Any, keep: Any, graph: Any, *more: Any, **named: Any) -> Any:
        nonlocal taken
        taken = taken or not graph
        return real(outputs, given, keep, graph, *more, **named)

    torch.autograd._engine_run_backward = run  # pyright: ignore
    try:
        with torch.enable_grad():
            model.logits(x.detach().clone().requires_grad_())
    finally:
        torch.autograd._engine_run_backward = real  # pyright: ignore
    return taken


def mixed(model: Classifier, x: Images) -> Rows:
    """By how much the lead of each row changes when other images stand beside it, [n]."""
    with torch.no_grad():
        once, _, other = neighbourly(model, x)
    return lead_change(once, other)[0]

"""Measurements of whether a model's gradients are useful to attacks."""

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
"""Target classes of the targeted attack: those of the largest logits."""
QUERIES = 500
"""Queries of the black-box attack, on each image that gradient attacks do not break."""
PASSES = 8
"""Passes averaged at every point for a randomised model."""
FAINT = 2.0**-24
"""Half the spacing of float32 below 1: gradients of a softmax below it are lost in rounding."""

LogitsOf = Callable[[Images], Logits]


@dataclass(frozen=True)
class Measurements:
    """Measurements for each image, all [n]; the images are classified correctly when clean.

    - `zero_gradient`: the gradient of the margin is exactly zero, or there is none
    - `zero_entropy_gradient`: the same for the cross-entropy, in float32;
      `tiny_entropy_gradient`: its gradient is at most `FAINT` times the margin's
    - `margin_gain`: increase of the margin (largest wrong logit minus the true one) over
      many steps
    - `one_step`, `many_steps`: broken by one full step, or by many, on the margin
    - `entropy_steps`: broken by many steps on the cross-entropy
    - `strong`, `unbounded`: broken by Auto-PGD; by Auto-PGD anywhere in [0, 1]
    - `black_box`: broken by a black-box attack, which runs only on the images not broken by
      gradient attacks (`by_gradients`)
    - `lead`: a typical difference between the top logit and another (`lead_change`);
      `shift`: its change between two passes; `flipped`: the prediction changed too;
      `mixed`: its change with other images in the batch, with the same random draws
    - `own_gradients`: the model computes gradients of its own in a forward pass
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
        """Broken by a gradient attack: many steps on either loss, or Auto-PGD, [n]."""
        return self.many_steps | self.entropy_steps | self.strong

    def __len__(self) -> int:
        """The number of images."""
        return len(self.zero_gradient)


def joined(parts: list[Measurements]) -> Measurements:
    """The measurements of several batches, concatenated."""
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

    Every success is confirmed in another pass. A randomised model is replaced by its mean over
    `PASSES` passes, as an attacker would do. With a `surrogate`, Auto-PGD's examples transferred
    from it count as black box too.

    For L1 the attacks use the largest L2 ball inside the threat: a steepest L1 step changes
    one pixel, so a few of them are no evidence.
    """
    norm, eps = _ball(threat, x)
    lead, shift, flipped = repeated(model, x)
    is_random = share_moved(shift, lead) > MOVED
    trial = _Trial(_mean_logits(model, x, PASSES if is_random else 1), x, y, keys)
    # No attack stops at its first success, which on a randomised model may be luck.
    many = pgd(norm, eps, steps=MANY, random_start=False, loss=margin)
    strong = apgd(norm, eps, steps=STRONG, loss=margin, stop_on_success=False)
    # The ball of radius 1 in Linf is the whole box, whatever the threat's norm.
    anywhere = apgd(Linf(), 1.0, steps=STRONG, loss=margin, stop_on_success=False)
    logits = trial.logits
    x_adv = many.craft(logits, x, y, keys=keys).x
    slope = _gradient_size(logits, x, y, margin)
    slope_entropy = _gradient_size(logits, x, y, cross_entropy)
    measured = Measurements(
        zero_gradient=~(slope > 0),
        zero_entropy_gradient=~(slope_entropy > 0),
        tiny_entropy_gradient=~(slope_entropy > FAINT * slope),
        margin_gain=_margin(logits, x_adv, y) - _margin(logits, x, y),
        one_step=trial.broken(fgsm(norm, eps, loss=margin)),
        many_steps=_misclassified(logits, x_adv, y),
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
    targeted = trial.broken_by_targets(strong, ~measured.by_gradients)
    measured = replace(measured, strong=measured.strong | targeted)
    unbroken = ~measured.by_gradients
    query_attack = square(norm, eps, steps=QUERIES, stop_on_success=not is_random)
    black_box = trial.broken(query_attack, unbroken)
    if surrogate is not None:
        black_box |= trial.broken(strong, unbroken, source=surrogate.logits)
    return replace(measured, black_box=black_box)


@dataclass(frozen=True)
class _Trial:
    """Runs attacks on images; the `logits` decide which are broken."""

    logits: LogitsOf
    x: Images
    y: Labels
    keys: Keys

    def broken(
        self,
        attack: Attack,
        selected: Mask | None = None,
        *,
        source: LogitsOf | None = None,
        targets: Labels | None = None,
    ) -> Mask:
        """The `selected` rows (None: all) that an attack breaks, [n].

        - `source`: the logits that the attack runs on, where they are another model's
        - `targets`: for a targeted attack; any wrong class counts as broken
        """
        broken = torch.zeros_like(self.y, dtype=torch.bool)
        index = (~broken if selected is None else selected).nonzero()[:, 0]
        if len(index):
            y, target = (self.y[index], None) if targets is None else (None, targets[index])
            x, keys = self.x[index], self.keys[index]
            x_adv = attack.craft(source or self.logits, x, y, targets=target, keys=keys).x
            broken[index] = _misclassified(self.logits, x_adv, self.y[index])
        return broken

    def broken_by_targets(self, attack: Attack, selected: Mask) -> Mask:
        """The `selected` rows that the attack breaks with one of the top classes as target, [n].

        Without it, the black-box attack would be compared with attacks on one class alone.
        """
        broken = torch.zeros_like(selected)
        for targets in _top_classes(self.logits, self.x):
            remaining = selected & ~broken & (targets != self.y)
            broken |= self.broken(attack, remaining, targets=targets)
        return broken


def _top_classes(logits: LogitsOf, x: Images) -> Sequence[Labels]:
    """The classes of the largest logits of each row, in falling order, each [n]."""
    with torch.no_grad():
        clean = logits(x)
    return clean.topk(min(TARGETS + 1, clean.shape[1]), dim=1).indices.unbind(dim=1)


def _ball(threat: Threat, x: Images) -> tuple[AbstractNorm, float]:
    """The norm and radius that the attacks use; see `measure` for L1."""
    norm = threat.as_norm("the masking diagnosis")
    if norm.name == "l1":
        return L2(), threat.eps / x[0].numel() ** 0.5
    return norm, threat.eps


def _mean_logits(model: Classifier, x: Images, passes: int) -> LogitsOf:
    """The model's mean logits, with a gradient of zero where the model has none."""
    no_gradient = why_no_gradient(model.logits, x[:1]) is not None

    def logits(x: Images) -> Logits:
        z = model.logits(x)
        for _ in range(passes - 1):
            z = z + model.logits(x)
        if no_gradient and x.requires_grad:
            z = z.detach() + 0 * rows.total(x)[:, None]
        return z / passes

    return logits


def _gradient_size(logits: LogitsOf, x: Images, y: Labels, loss: ValueOfLogits) -> Rows:
    """The largest absolute entry of each row's gradient, [n]; NaN where it has a NaN."""
    leaf = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        # In float32 whatever the model's dtype, as in attacks.
        (grad,) = torch.autograd.grad(loss(logits(leaf).float(), y).sum(), leaf)
    return rows.flatten(grad).abs().amax(dim=1)


def _margin(logits: LogitsOf, x: Images, y: Labels) -> Rows:
    with torch.no_grad():
        return margin(logits(x), y)


def _misclassified(logits: LogitsOf, x: Images, y: Labels) -> Mask:
    with torch.no_grad():
        return misclassified(logits(x), y)


def repeated(model: Classifier, x: Images) -> tuple[Rows, Rows, Mask]:
    """(lead, shift, flipped) of `Measurements`, from two passes.

    The second has the rows in reverse order, which reveals noise from a generator that is
    reseeded in every pass.
    """
    with torch.no_grad():
        first, second = model.logits(x), model.logits(x.flip(0)).flip(0)
    shift, lead = lead_change(first, second)
    return lead, shift, predicted(first) != predicted(second)


def searches(model: Classifier, x: Images) -> bool:
    """Whether a forward pass computes gradients that are not differentiated further.

    An optimisation within the pass does so. Gradients with `create_graph` are excluded: they
    are part of what an attack differentiates.
    """
    found, original = False, torch.autograd._engine_run_backward  # pyright: ignore

    def run(
        outputs: Any, grads: Any, keep_graph: Any, create_graph: Any, *args: Any, **kwargs: Any
    ) -> Any:
        nonlocal found
        found = found or not create_graph
        return original(outputs, grads, keep_graph, create_graph, *args, **kwargs)

    torch.autograd._engine_run_backward = run  # pyright: ignore
    try:
        with torch.enable_grad():
            model.logits(x.detach().clone().requires_grad_())
    finally:
        torch.autograd._engine_run_backward = original  # pyright: ignore
    return found


def mixed(model: Classifier, x: Images) -> Rows:
    """The change of each row's lead with other images in the batch, [n]."""
    with torch.no_grad():
        logits, _, with_others = neighbourly(model, x)
    return lead_change(logits, with_others)[0]

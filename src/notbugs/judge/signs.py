"""The signs of masked gradients: each from measurements, by a stated threshold."""

from collections.abc import Sequence
from typing import TypedDict

from notbugs.attacks.neighbours import MOVED, share_moved
from notbugs.core.types import Mask, Rows
from notbugs.judge.chance import at_least, noticed
from notbugs.judge.measurements import MANY, PASSES, QUERIES, Measurements
from notbugs.judge.verdict import Verdict

FEW = 0.05
"""Share of the images above which a sign counts: honest models have a few odd images too."""
MISSED = 0.01
"""Share of the images left by gradients that a search may break all the same, by luck."""
LEVEL = 0.01
"""Probability at which a count is no longer put down to chance."""
POWER = 0.95
"""Probability at which a check is said to notice something."""


class Check(TypedDict):
    """One sign of masking: what was looked at, what was measured, "suspicious" or "clear"."""

    check: str
    evidence: str
    verdict: str


def verdicts(measured: Measurements, samples: int = 1) -> list[Check]:
    """The entries of `diagnose`, from measurements; `samples` as in `repeatable`."""
    return [
        zero_gradients(measured),
        loss_rises(measured),
        one_step(measured),
        black_box(measured),
        unbounded(measured),
        repeatable(measured.lead, measured.shift, measured.flipped, samples),
        alone(measured),
        saturated(measured),
        searches_itself(measured),
    ]


def zero_gradients(measured: Measurements) -> Check:
    """Suspicious where more than 5 % of images have a gradient of the margin of exactly zero.

    A smooth or piecewise linear net has one almost nowhere; rounding, thresholds and a
    detached part have it everywhere. The margin and not the cross-entropy, which also
    vanishes on nets that are merely confident (`saturated`).
    """
    evidence = f"in {_share(measured.zero_gradient):.1%} of images"
    return _entry("zero gradients", evidence, counts(measured.zero_gradient))


def loss_rises(measured: Measurements) -> Check:
    """Suspicious where many small steps raise the margin in less than 95 % of images.

    Each step goes up a slope that is there, so a useful gradient raises nearly all of
    them; that of a net which merely resists is small but still leads up.
    """
    rose = measured.margin_gain > 0
    evidence = f"{MANY} steps raise it in {_share(rose):.1%} of images"
    return _entry("loss rises with steps", evidence, counts(~rose))


def one_step(measured: Measurements) -> Check:
    """Suspicious where one full step breaks more images than many steps, beyond chance.

    Many steps can do all that one does. Where they do less, the slope at the image does
    not tell of the surroundings, and attacks that follow it get stuck.
    """
    evidence = (
        f"1 step breaks {_share(measured.one_step):.1%}, {MANY} {_share(measured.many_steps):.1%}"
    )
    return _entry("one step against many", evidence, beats(measured.one_step, measured.many_steps))


def black_box(measured: Measurements) -> Check:
    """Suspicious where an attack without gradients breaks what those with them have left.

    That is, more than 1 % of it, beyond chance (`after_gradients`). The gradient only adds to
    what such an attack knows; where it does not help, it misleads.
    """
    left = ~measured.by_gradients
    evidence, odd = after_gradients(int(measured.black_box.sum()), int(left.sum()))
    return _entry("black box against white box", f"{evidence}, by {QUERIES} queries", odd)


def after_gradients(broken: int, left: int) -> tuple[str, bool]:
    """(evidence, whether it is suspicious): a search broke so many of what gradients had left.

    Honest models lose a few images so, for want of the gradient attack's steps or luck: the
    count is tested against 1 % of the images left, by the exact binomial test at 1 %. The
    evidence says which share would be noticed with 95 %.
    """
    chance = at_least(broken, left, MISSED)
    evidence = f"{broken} of {left} images that gradients left were broken without them"
    share = noticed(left, MISSED, LEVEL, POWER)
    if share is None:
        return f"{evidence} (too few to tell)", False
    return f"{evidence} (p = {chance:.2g}; {share:.0%} would show)", chance < LEVEL


def searched(verdict: Verdict, follows_gradients: Sequence[bool]) -> Check | None:
    """What an evaluation's own attacks without gradients broke after those with them.

    Suspicious as `black_box` is. Only attacks after the last one with gradients count: what
    they broke, it was shown in vain. None where there are not both kinds in this order.

    - `follows_gradients`: for each of the verdict's attacks, whether it follows gradients
    """
    last = max((i for i, needs in enumerate(follows_gradients) if needs), default=-1)
    if last in (-1, len(follows_gradients) - 1):
        return None
    broken = sum(attack.broken for attack in verdict.attacks[last + 1 :])
    left = int(verdict.robust.sum()) + broken
    return _entry("search after gradients", *after_gradients(broken, left))


def unbounded(measured: Measurements) -> Check:
    """Suspicious where more than 5 % of images stand although every image is allowed.

    With all of [0, 1] to go to, an image of another class is always within reach: whatever
    stands is a failure of the attack. A few may, for want of steps.
    """
    left = ~measured.unbounded
    evidence = f"{_share(left):.1%} of images stand"
    return _entry("accuracy at a very large eps", evidence, counts(left))


def repeatable(lead: Rows, shift: Rows, flipped: Mask, samples: int = 1) -> Check:
    """Suspicious where a lead differs between two passes by more than 0.1 % of a typical one.

    Rounding in another order makes differences a hundred times smaller; noise and random
    resizing make larger ones. One pass of such a model says little, and an attack may follow
    its noise: evaluate it with `samples`.

    - `lead`, `shift`, `flipped` [n]: as in `Measurements`; `samples`: passes the evaluation took
    """
    evidence, random = _changed(shift, lead)
    if random:
        evidence += f", {_share(flipped):.1%} of predictions flip"
    if random and samples == 1:
        evidence += (
            f"; the model is random and was judged by single passes: evaluate it with "
            f"samples={PASSES} (--samples {PASSES}) for averaged gradients and majority votes"
        )
    elif random:
        evidence += f"; judged by the majority of {samples} passes, attacked on their average"
    return _entry("two passes agree", evidence, random)


def drifted(changed: int, images: int) -> Check:
    """The verdict on a model that says otherwise after its evaluation than before it."""
    evidence = (
        f"{changed} of {images} clean images are right that were not before the attacks, or the "
        "reverse: the model keeps a state, and its numbers are those of no one model"
    )
    return _entry("two passes agree", evidence, True)


def alone(measured: Measurements) -> Check:
    """Suspicious where a lead changes by more than 0.1 % with other images in the batch.

    Statistics that are taken over the batch do so: one image's result is then that of its
    neighbours too, and what stands in one batch falls in another. Attacks and `evaluate`
    refuse such a model. All draws of a random model are the same in both batches; where they
    come from elsewhere than torch's generators, it shows here too.
    """
    return _entry("rows alone and in batches", *_changed(measured.mixed, measured.lead))


def _changed(change: Rows, lead: Rows) -> tuple[str, bool]:
    """(evidence, whether a lead changes by more than rounding explains)."""
    share = share_moved(change, lead)
    if share <= MOVED:
        return "leads change by rounding alone", False
    return f"leads change by up to {share:.2g} of a typical one", True


def saturated(measured: Measurements) -> Check:
    """Suspicious where the gradient of the cross-entropy vanishes and the margin's does not.

    That is, in more than 5 % of images: it is exactly zero in float32 (a lead of about 100
    in the logits, at which the other classes' probabilities round to zero); or it is faint,
    below the rounding of a probability near 1 (a lead of about 17), and steps on the
    cross-entropy also break fewer images than steps on the margin, beyond chance. Attack
    the logits instead: `loss=margin` or `loss=dlr`.
    """
    lost, faint = (
        measured.zero_entropy_gradient & ~measured.zero_gradient,
        measured.tiny_entropy_gradient & ~measured.zero_gradient,
    )
    evidence = (
        f"cross-entropy without gradient in {_share(lost):.1%} of images, faint in "
        f"{_share(faint):.1%}; it breaks {_share(measured.entropy_steps):.1%}, "
        f"the margin {_share(measured.many_steps):.1%}"
    )
    worse = counts(faint) and beats(measured.many_steps, measured.entropy_steps)
    return _entry("saturated logits", evidence, counts(lost) or worse)


def searches_itself(measured: Measurements) -> Check:
    """Suspicious where a pass of the model computes gradients that are not handed on.

    Such a model moves its input or its weights before it answers. A gradient through it leaves
    the search out, and honest as it is it leads nowhere: attack what the search is for.

    **Source**: Croce et al. 2022 (arXiv 2202.13711), who evaluated nine such defences; AutoAttack
    warns of the same.
    """
    odd = bool(measured.own_gradients.any())
    evidence = (
        "it does: attacks see only the last step of its search, so adapt one to the search"
        if odd
        else "it computes none"
    )
    return _entry("gradients within a pass", evidence, odd)


def counts(odd: Mask) -> bool:
    """Whether more than 5 % of the images, and more than one, are odd."""
    return int(odd.sum()) > max(FEW * len(odd), 1)


def beats(first: Mask, second: Mask) -> bool:
    """Whether `first` breaks more images than `second`, by 5 % of them and beyond chance.

    Beyond chance: of the images that only one of the two breaks, so many are `first`'s as a
    fair coin gives with a probability below 1 %.

    **Source**: McNemar 1947 (Psychometrika 12), the test for paired rates, in its exact form.
    """
    only, other = int((first & ~second).sum()), int((second & ~first).sum())
    beyond = at_least(only, only + other, 0.5) < LEVEL
    return beyond and only - other > max(FEW * len(first), 1)


def _entry(check: str, evidence: str, suspicious: bool) -> Check:
    return {
        "check": check,
        "evidence": evidence,
        "verdict": "suspicious" if suspicious else "clear",
    }


def _share(mask: Mask) -> float:
    return float(mask.float().mean())

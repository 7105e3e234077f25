"""The signs of masked gradients: each from measurements, by a stated threshold."""

from typing import TypedDict

from notbugs.core.types import Mask, Rows
from notbugs.judge.probes import MANY, PASSES, QUERIES, REPEATS, STRONG, Probes

FEW = 0.05
"""Share of the images above which a sign counts: honest models have a few odd images too."""


class Check(TypedDict):
    """One sign of masking: what was looked at, what was found, "suspicious" or "clear"."""

    check: str
    evidence: str
    verdict: str


def verdicts(found: Probes, samples: int = 1) -> list[Check]:
    """The entries of `diagnose`, from measurements; `samples` as in `repeatable`."""
    return [
        zero_gradients(found),
        loss_rises(found),
        one_step(found),
        black_box(found),
        unbounded(found),
        repeatable(found.shift, found.flipped, samples),
        saturated(found),
    ]


def zero_gradients(found: Probes) -> Check:
    """Suspicious where more than 5 % of images have a gradient of the margin of exactly zero.

    A smooth or piecewise linear net has one almost nowhere; rounding, thresholds and a
    detached part have it everywhere. The margin and not the cross-entropy, which also
    vanishes on nets that are merely confident (`saturated`).
    """
    evidence = f"in {_share(found.flat):.1%} of images"
    return _entry("zero gradients", evidence, counts(found.flat))


def loss_rises(found: Probes) -> Check:
    """Suspicious where many small steps raise the margin in less than 95 % of images.

    Each step goes up a slope that is there, so a useful gradient raises nearly all of
    them; that of a net which merely resists is small but still leads up.
    """
    rose = found.rise > 0
    evidence = f"{MANY} steps raise it in {_share(rose):.1%} of images"
    return _entry("loss rises with steps", evidence, counts(~rose))


def one_step(found: Probes) -> Check:
    """Suspicious where one full step breaks more images than many steps, beyond chance.

    Many steps can do all that one does. Where they do less, the slope at the image does
    not tell of the surroundings, and attacks that follow it get stuck.
    """
    evidence = f"1 step breaks {_share(found.one_step):.1%}, {MANY} {_share(found.many_steps):.1%}"
    return _entry("one step against many", evidence, beats(found.one_step, found.many_steps))


def black_box(found: Probes) -> Check:
    """Suspicious where an attack without gradients breaks more than one with, beyond chance.

    The gradient only adds to what such an attack knows; where it does not help, it misleads.
    """
    best = found.strong | found.many_steps
    evidence = (
        f"without gradients ({QUERIES} queries) {_share(found.blind):.1%} broken, "
        f"with ({STRONG} steps) {_share(best):.1%}"
    )
    return _entry("black box against white box", evidence, beats(found.blind, best))


def unbounded(found: Probes) -> Check:
    """Suspicious where more than 5 % of images stand although every image is allowed.

    With all of [0, 1] to go to, an image of another class is always within reach: whatever
    stands is a failure of the attack. A few may, for want of steps.
    """
    left = ~found.unbounded
    evidence = f"{_share(left):.1%} of images stand"
    return _entry("accuracy at a very large eps", evidence, counts(left))


def repeatable(shift: Rows, flipped: Mask, samples: int = 1) -> Check:
    """Suspicious where two passes differ by more than 0.1 % of the logits' spread.

    Rounding in another order makes differences a hundred times smaller; noise, random
    resizing and statistics shared in a batch make larger ones. One pass of such a model
    says little, and an attack may follow its noise: evaluate it with `samples`.

    - `shift`, `flipped` [n]: as in `Probes`; `samples`: passes that the evaluation took
    """
    largest = float(shift.max())
    random = not largest <= REPEATS
    evidence = f"logits shift by {largest:.2g} of their spread, {_share(flipped):.1%} flip"
    if random and samples == 1:
        evidence += (
            f"; the model is random and was judged by single passes: evaluate it with "
            f"samples={PASSES} (--samples {PASSES}) for averaged gradients and majority votes"
        )
    elif random:
        evidence += f"; judged by the majority of {samples} passes, attacked on their average"
    return _entry("two passes agree", evidence, random)


def saturated(found: Probes) -> Check:
    """Suspicious where the gradient of the cross-entropy vanishes and the margin's does not.

    That is, in more than 5 % of images: it is exactly zero in float32 (a lead of about 100
    in the logits, at which the other classes' probabilities round to zero); or it is faint,
    below the rounding of a probability near 1 (a lead of about 17), and steps on the
    cross-entropy also break fewer images than steps on the margin, beyond chance. Attack
    the logits instead: `loss=margin` or `loss=dlr`.
    """
    lost, faint = found.flat_entropy & ~found.flat, found.faint_entropy & ~found.flat
    evidence = (
        f"cross-entropy without gradient in {_share(lost):.1%} of images, faint in "
        f"{_share(faint):.1%}; it breaks {_share(found.entropy_steps):.1%}, "
        f"the margin {_share(found.many_steps):.1%}"
    )
    worse = counts(faint) and beats(found.many_steps, found.entropy_steps)
    return _entry("saturated logits", evidence, counts(lost) or worse)


def counts(odd: Mask) -> bool:
    """Whether more than 5 % of the images, and more than one, are odd."""
    return int(odd.sum()) > max(FEW * len(odd), 1)


def beats(first: Mask, second: Mask) -> bool:
    """Whether `first` breaks more images than `second`, by 5 % of them and beyond chance.

    Beyond chance: the images that only one of the two breaks differ in number by more
    than two standard deviations, sqrt(only first + only second) each.

    **Source**: McNemar 1947 (Psychometrika 12), the test for paired rates.
    """
    only, other = int((first & ~second).sum()), int((second & ~first).sum())
    return only - other > max(FEW * len(first), 2 * (only + other) ** 0.5, 1)


def _entry(check: str, evidence: str, suspicious: bool) -> Check:
    return {
        "check": check,
        "evidence": evidence,
        "verdict": "suspicious" if suspicious else "clear",
    }


def _share(mask: Mask) -> float:
    return float(mask.float().mean())

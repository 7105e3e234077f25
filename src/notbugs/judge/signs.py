"""Checks for masked gradients: each a threshold on measurements."""

from collections.abc import Sequence
from typing import TypedDict

from notbugs.attacks.neighbours import MOVED, share_moved
from notbugs.core.types import Mask, Rows
from notbugs.judge.chance import at_least, noticed
from notbugs.judge.measurements import MANY, PASSES, QUERIES, Measurements
from notbugs.judge.verdict import Verdict
from notbugs.models import Classifier
from notbugs.models.mean_sparse import operators

FEW = 0.05
"""Share of the images above which a sign counts: models without masking show it in a few too."""
MISSED = 0.01
"""Share of the images unbroken by gradients that a black-box attack may break by luck."""
LEVEL = 0.01
"""Significance level of the tests."""
POWER = 0.95
"""Power for which the detectable share is given."""


class Check(TypedDict):
    """One check for masking: its name, the measurements, and "suspicious" or "clear"."""

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
    """Suspicious where the margin's gradient is exactly zero in more than 5 % of images.

    It is almost nowhere zero for a smooth or piecewise linear net, and everywhere zero after
    rounding, thresholds or a detached part. The cross-entropy's gradient would vanish on nets
    that are merely confident too (`saturated`).
    """
    evidence = f"in {_share(measured.zero_gradient):.1%} of images"
    return _entry("zero gradients", evidence, counts(measured.zero_gradient))


def loss_rises(measured: Measurements) -> Check:
    """Suspicious where many small steps raise the margin in less than 95 % of images.

    Following a useful gradient raises it in nearly all images; that of a robust net is small
    but still leads upwards.
    """
    rose = measured.margin_gain > 0
    evidence = f"{MANY} steps raise it in {_share(rose):.1%} of images"
    return _entry("loss rises with steps", evidence, counts(~rose))


def one_step(measured: Measurements) -> Check:
    """Suspicious where one full step breaks significantly more images than many steps.

    Many steps can reach all that one reaches. If they break fewer, the gradient at the image
    does not describe its neighbourhood, and attacks that follow it get stuck.
    """
    evidence = (
        f"1 step breaks {_share(measured.one_step):.1%}, {MANY} {_share(measured.many_steps):.1%}"
    )
    return _entry("one step against many", evidence, beats(measured.one_step, measured.many_steps))


def black_box(measured: Measurements) -> Check:
    """Suspicious where a black-box attack breaks images that gradient attacks do not.

    That is, significantly more than 1 % of them (`after_gradients`). A gradient is additional
    information: an attack that does worse with it is misled.
    """
    unbroken = int((~measured.by_gradients).sum())
    evidence, suspicious = after_gradients(int(measured.black_box.sum()), unbroken)
    return _entry("black box against white box", f"{evidence}, with {QUERIES} queries", suspicious)


def after_gradients(broken: int, unbroken: int) -> tuple[str, bool]:
    """(evidence, whether it is suspicious): attacks without gradients broke `broken` images.

    Of `unbroken`, those that gradient attacks had not broken. A few are no sign of masking, as
    gradient attacks have limited steps: the count is tested against a rate of 1 % by the exact
    binomial test at 1 %. The evidence names the share detectable with power 95 %.
    """
    p_value = at_least(broken, unbroken, MISSED)
    evidence = f"{broken} of {unbroken} images unbroken by gradients were broken without them"
    share = noticed(unbroken, MISSED, LEVEL, POWER)
    if share is None:
        return f"{evidence} (too few to tell)", False
    return f"{evidence} (p = {p_value:.2g}; {share:.0%} would be detected)", p_value < LEVEL


def searched(verdict: Verdict, follows_gradients: Sequence[bool]) -> Check | None:
    """Whether an evaluation's black-box attacks broke images that its gradient attacks did not.

    Suspicious as in `black_box`. Only attacks after the last gradient attack count, as they run
    on images that it did not break. None where the evaluation has no attack of either kind in
    this order.

    - `follows_gradients`: for each of the verdict's attacks, whether it follows gradients
    """
    last = max((i for i, needs in enumerate(follows_gradients) if needs), default=-1)
    if last in (-1, len(follows_gradients) - 1):
        return None
    broken = sum(attack.broken for attack in verdict.attacks[last + 1 :])
    unbroken = int(verdict.robust.sum()) + broken
    return _entry("search after gradients", *after_gradients(broken, unbroken))


def one_derivative(model: Classifier) -> Check | None:
    """Suspicious for a model with MeanSparse: attacks by its other derivative may break more.

    An image is robust if it is under attacks by both (`notbugs.models.with_gradient`).
    """
    given = {operator.gradient for operator in operators(model).values()}
    if not given:
        return None
    return _entry("one derivative of MeanSparse", f"{', '.join(sorted(given))} alone", True)


def unbounded(measured: Measurements) -> Check:
    """Suspicious where more than 5 % of images are not broken by an unbounded attack.

    Anywhere in [0, 1] there is an image of another class, so an unbroken image is a failure of
    the attack. A few may remain, as its steps are limited.
    """
    unbroken = ~measured.unbounded
    evidence = f"{_share(unbroken):.1%} of images are not broken"
    return _entry("accuracy at a very large eps", evidence, counts(unbroken))


def repeatable(lead: Rows, shift: Rows, flipped: Mask, samples: int = 1) -> Check:
    """Suspicious where a lead changes between two passes by more than 0.1 % of a typical one.

    A lead: the top logit minus another. Rounding causes a hundredth of that; noise and random
    resizing cause more. One pass of such a model is little evidence, and attacks on single
    passes follow the noise: evaluate it with `samples`.

    - `lead`, `shift`, `flipped` [n]: as in `Measurements`; `samples`: passes the evaluation took
    """
    evidence, is_random = _changed(shift, lead)
    if is_random:
        evidence += f", {_share(flipped):.1%} of predictions flip"
    if is_random and samples == 1:
        evidence += (
            f"; the model is random and was judged by single passes: evaluate it with "
            f"samples={PASSES} (--samples {PASSES}) for averaged gradients and majority votes"
        )
    elif is_random:
        evidence += f"; judged by the majority of {samples} passes, attacked on their average"
    return _entry("two passes agree", evidence, is_random)


def drifted(changed: int, images: int) -> Check:
    """The check "two passes agree" for a model whose predictions changed during the evaluation."""
    evidence = (
        f"{changed} of {images} clean images were classified correctly either before or after the "
        "attacks, not both: the model keeps a state, so the accuracies are not of one model"
    )
    return _entry("two passes agree", evidence, True)


def alone(measured: Measurements) -> Check:
    """Suspicious where a lead changes by more than 0.1 % with other images in the batch.

    The cause may be batch statistics: an image can then be robust in one batch and broken in
    another. Attacks and `evaluate` refuse such a model. Randomised models draw the same in both
    batches, unless they draw from other generators than torch's, which this check reveals too.
    """
    return _entry("rows alone and in batches", *_changed(measured.mixed, measured.lead))


def _changed(change: Rows, lead: Rows) -> tuple[str, bool]:
    """(evidence, whether leads change by more than rounding)."""
    share = share_moved(change, lead)
    if share <= MOVED:
        return "leads change by rounding alone", False
    return f"leads change by up to {share:.2g} of a typical one", True


def saturated(measured: Measurements) -> Check:
    """Suspicious where the gradient of the cross-entropy vanishes and the margin's does not.

    That is, in more than 5 % of images it is exactly zero in float32 (at a lead of about 100
    in the logits, where the other classes' probabilities round to zero); or it is below the
    rounding of a probability near 1 (at a lead of about 17), and steps on the cross-entropy
    break significantly fewer images than steps on the margin. Attack the logits instead:
    `loss=margin` or `loss=dlr`.
    """
    zero, tiny = (
        measured.zero_entropy_gradient & ~measured.zero_gradient,
        measured.tiny_entropy_gradient & ~measured.zero_gradient,
    )
    evidence = (
        f"cross-entropy without gradient in {_share(zero):.1%} of images, tiny in "
        f"{_share(tiny):.1%}; it breaks {_share(measured.entropy_steps):.1%}, "
        f"the margin {_share(measured.many_steps):.1%}"
    )
    worse = counts(tiny) and beats(measured.many_steps, measured.entropy_steps)
    return _entry("saturated logits", evidence, counts(zero) or worse)


def searches_itself(measured: Measurements) -> Check:
    """Suspicious where the model optimises its input or weights by gradients in a forward pass.

    Attacks cannot differentiate through such a test-time optimisation, so their gradients are
    not those of the whole defence: design an adaptive attack.

    **Source**: Croce et al. 2022 (arXiv 2202.13711), who evaluated nine such defences; AutoAttack
    warns of the same.
    """
    suspicious = bool(measured.own_gradients.any())
    evidence = (
        "the model optimises at test time, and attacks do not differentiate through that: "
        "design an adaptive attack"
        if suspicious
        else "it computes none"
    )
    return _entry("gradients within a pass", evidence, suspicious)


def counts(mask: Mask) -> bool:
    """Whether `mask` holds for more than 5 % of the images, and more than one."""
    return int(mask.sum()) > max(FEW * len(mask), 1)


def in_one_alone(first: Mask, second: Mask) -> tuple[int, int]:
    """How many images one of two masks alone holds for: `first`, `second`."""
    return int((first & ~second).sum()), int((second & ~first).sum())


def beats(first: Mask, second: Mask) -> bool:
    """Whether `first` breaks significantly more images than `second`, by at least 5 % of all.

    Significant: of the images that only one of them breaks, `first` breaks more than a fair
    coin would with probability 1 %.

    **Source**: McNemar 1947 (Psychometrika 12), the test for paired rates, in its exact form.
    """
    only, other = in_one_alone(first, second)
    significant = at_least(only, only + other, 0.5) < LEVEL
    return significant and only - other > max(FEW * len(first), 1)


def _entry(check: str, evidence: str, suspicious: bool) -> Check:
    return {
        "check": check,
        "evidence": evidence,
        "verdict": "suspicious" if suspicious else "clear",
    }


def _share(mask: Mask) -> float:
    return float(mask.float().mean())

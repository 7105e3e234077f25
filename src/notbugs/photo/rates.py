"""How many adversarial images stop working when they are printed and photographed."""

from notbugs.core.errors import bad_value
from notbugs.core.types import Mask, Rows

CONFIDENCE = 0.8
"""The least confidence in the predictions before printing, of a prefiltered pair."""


def destruction_rate(right_clean: Mask, right_adv: Mask, right_photo: Mask) -> float | None:
    """The share of successful adversarial images that the transformation T destroys, in 0..1.

    d = sum C(X) notC(X_adv) C(T(X_adv)) / sum C(X) notC(X_adv); None where no attack succeeded.

    - `right_clean`, `right_adv`, `right_photo` [n]: whether the clean image X, the adversarial
      image X_adv and its photograph T(X_adv) are classified correctly (C)

    **Source**: Kurakin et al. 2016 (arXiv 1607.02533), the destruction rate.

    **Raises** ValueError where the lengths differ.
    """
    if not right_clean.shape == right_adv.shape == right_photo.shape:
        shapes = [tuple(one.shape) for one in (right_clean, right_adv, right_photo)]
        raise bad_value("right_adv", "have an entry for each clean image and photograph", shapes)
    successful = right_clean & ~right_adv
    n = int(successful.sum())
    return int((successful & right_photo).sum()) / n if n else None


def prefiltered(
    right_clean: Mask, right_adv: Mask, confidence_clean: Rows, confidence_adv: Rows
) -> Mask:
    """Pairs chosen before printing: clean right, adversarial wrong, both confidently, [n].

    - `confidence_clean`, `confidence_adv` [n]: the probability of the predicted class; at least
      0.8 is asked for

    **Source**: Kurakin et al. 2016, the prefiltered case; they ask it of the top 5 too.
    """
    sure = (confidence_clean >= CONFIDENCE) & (confidence_adv >= CONFIDENCE)
    return right_clean & ~right_adv & sure

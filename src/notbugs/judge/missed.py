"""How many rows that attacks gave up might have been broken, by a check of some of them."""

import math

CHANCE = 0.05
"""Of overlooking more rows than the bound says: it holds at 95 %."""
LARGEST = 0.01
"""Share of the images judged that may have been missed at most."""


def most_missed(checked: float) -> int:
    """The most rows that may be missed where none was broken of a random share that was checked.

    Each of M rows escapes a check of the share f with a probability of at most 1 - f, given
    that those before it did, so all do with at most (1 - f)^M: the largest M for which that
    is above 5 %. Samples drawn without replacement only make it less likely. It holds for the
    rows of several attacks taken together because one row found, whichever attack gave it up,
    has the rows of all of them attacked to the end: any are missed only where all M escape.
    """
    if checked >= 1:
        return 0
    rounding = 1e-9  # what `share_checked` gives lies exactly on the border
    return math.ceil(math.log(CHANCE) / math.log1p(-checked) - rounding) - 1


def share_checked(images: int) -> float:
    """The least share of the rows given up to check for `most_missed` <= 1 % of the images."""
    return 1 - CHANCE ** (1 / (int(LARGEST * images) + 1))

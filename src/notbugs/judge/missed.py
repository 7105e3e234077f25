"""A bound on how many rows that attacks gave up on could be broken, from a random check."""

import math

CHANCE = 0.05
"""Probability that more rows are missed than the bound: it holds with 95 % confidence."""
LARGEST = 0.01
"""The largest share of the evaluated images that may be missed."""


def most_missed(checked: float) -> int:
    """The most breakable rows (95 %) if none was broken in a random check of a share of them.

    With M breakable rows among those given up, a check of the share f misses each with a
    probability of at most 1 - f, and all M with at most (1 - f)^M (less without replacement).
    The bound is the largest M for which that exceeds 5 %. It holds for several attacks
    together: one row broken in any check has all rows of all attacks attacked to the end, so
    rows are missed only if the checks miss all M.
    """
    if checked >= 1:
        return 0
    rounding = 1e-9  # `share_checked` gives shares exactly at the limit
    return math.ceil(math.log(CHANCE) / math.log1p(-checked) - rounding) - 1


def share_checked(images: int) -> float:
    """The smallest share of given-up rows to check for `most_missed` <= 1 % of the images."""
    return 1 - CHANCE ** (1 / (int(LARGEST * images) + 1))

"""What chance alone explains: exact binomial tests, and what they would notice."""

from math import exp, lgamma, log, log1p


def at_least(k: int, n: int, rate: float) -> float:
    """The probability of `k` or more among `n` independent draws of this rate, 0..1."""
    if k <= 0 or rate >= 1.0:
        return float(k <= n)
    if rate <= 0.0:
        return 0.0
    whole = lgamma(n + 1)
    terms = (
        exp(whole - lgamma(i + 1) - lgamma(n - i + 1) + i * log(rate) + (n - i) * log1p(-rate))
        for i in range(k, n + 1)
    )
    return min(1.0, sum(terms))


def noticed(n: int, rate: float, level: float, power: float) -> float | None:
    """The share among `n` that a test against `rate` notices with probability `power`, 0..1.

    The test is one-sided, at `level`. None where no count among `n` would be significant.
    """
    counts = (k for k in range(n + 1) if at_least(k, n, rate) < level)
    fewest = next(counts, None)
    if fewest is None:
        return None
    low, high = 0.0, 1.0
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if at_least(fewest, n, middle) >= power else (middle, high)
    return high

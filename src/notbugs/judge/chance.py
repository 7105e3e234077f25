"""Exact binomial tests, and the rates that they can detect."""

from bisect import bisect_left

from scipy.special import betainc, betaincinv


def at_least(k: int, n: int, rate: float) -> float:
    """The probability of `k` or more among `n` independent draws of this rate, 0..1."""
    if k <= 0 or k > n:
        return float(k <= 0)
    return float(betainc(k, n - k + 1, rate))


def noticed(n: int, rate: float, level: float, power: float) -> float | None:
    """The true rate that a test of `n` draws against `rate` detects with probability `power`, 0..1.

    The test is one-sided, at `level`. None where no count out of `n` is significant.
    """
    fewest = bisect_left(range(n + 1), True, key=lambda k: at_least(k, n, rate) < level)
    return float(betaincinv(fewest, n - fewest + 1, power)) if fewest <= n else None

"""Distributions on which the accuracy of linear classifiers under attack has a closed form."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from notbugs.core import random
from notbugs.core.errors import bad_value, check_count, check_positive

Points = Float[Tensor, "n d"]
Signs = Int[Tensor, " n"]
Draws = Float[Tensor, " draws"]


def _phi(value: float) -> float:
    """The standard normal distribution function."""
    return math.erfc(-value / math.sqrt(2)) / 2


def _check_eps(eps: float) -> None:
    if eps < 0 or not math.isfinite(eps):
        raise bad_value("eps", "be 0 or a radius", eps)


@dataclass(frozen=True)
class AccuracyAtOdds:
    """One robust feature that is right with probability p, and d weak ones that are so together.

    y = -1 or 1; x_0 = y with probability p, else -y; x_1 ... x_d ~ N(eta y, 1). An Linf adversary
    of radius 2 eta turns the weak features around, and cannot move the strong one past 0 below 1.

    - `p`: 0.5 up to 1; `eta`: above 0; `dimension`: d, the number of weak features

    **Source**: Tsipras et al. 2018 (arXiv 1805.12152), section 2.1.

    **Raises** ValueError for values outside of these.
    """

    p: float = 0.95
    eta: float = 0.2
    dimension: int = 100

    def __post_init__(self) -> None:
        if not 0.5 <= self.p <= 1:
            raise bad_value("p", "lie in [0.5, 1]", self.p)
        check_positive(self.eta, "eta")
        check_count(self.dimension, "dimension")

    def sample(self, n: int, seed: int) -> tuple[Points, Signs]:
        """n draws x [n, 1 + d], float64, and their classes y [n], -1 or 1."""
        check_count(n, "n")
        keys = random.row_keys(n, seed, "accuracy at odds")
        y = 2 * random.integers(random.fold(keys, "class"), 2) - 1
        right = random.scalar(random.fold(keys, "strong"), torch.float64) < self.p
        strong = torch.where(right, y, -y)[:, None]
        noise = random.normal(random.fold(keys, "weak"), (self.dimension,), torch.float64)
        return torch.cat([strong, self.eta * y[:, None] + noise], dim=1), y

    def accuracy(self, strong: float, eps: float = 0.0) -> float:
        """That of sign(strong * x_0 + mean of the weak features) under an Linf adversary, in 0..1.

        - `strong`: weight of x_0, at least 0; infinite: x_0 alone
        - `eps`: radius of the adversary

        **Raises** ValueError for a negative weight or radius.
        """
        if not strong >= 0:
            raise bad_value("strong", "be at least 0", strong)
        _check_eps(eps)
        if math.isinf(strong):
            return self.p if eps < 1 else 0.0
        root = math.sqrt(self.dimension)
        weak = self.eta - eps
        right = _phi(root * (strong * (1 - eps) + weak))
        wrong = _phi(root * (weak - strong * (1 + eps)))
        return self.p * right + (1 - self.p) * wrong

    def bound(self, standard: float) -> float:
        """The most robust accuracy at Linf 2 eta of any classifier of a standard accuracy.

        p / (1 - p) * (1 - standard), at most 1: theorem 2.1, for any classifier, not linear ones
        alone.
        """
        if not 0 <= standard <= 1:
            raise bad_value("standard", "lie in [0, 1]", standard)
        if self.p == 1:
            return 1.0
        return min(1.0, self.p / (1 - self.p) * (1 - standard))


@dataclass(frozen=True)
class SampleComplexity:
    """Gaussian classes of which one example suffices to classify, and far more to do so robustly.

    x ~ N(y theta, sigma^2 I) with theta = (1, ..., 1), so ||theta|| = sqrt(d). The classifier is
    the sign of x^T w, w the mean of n examples y x.

    - `dimension`: d; `sigma`: None takes d^(1/4) / 2, at which one example suffices

    **Source**: Schmidt et al. 2018 (arXiv 1804.11285), section 2.1.
    **Differs from the paper**: theta is fixed, not drawn; the classifier is the same for all.

    **Raises** ValueError for values that are not above 0.
    """

    dimension: int = 1000
    sigma: float | None = None

    def __post_init__(self) -> None:
        check_count(self.dimension, "dimension")
        if self.sigma is not None:
            check_positive(self.sigma, "sigma")

    @property
    def scale(self) -> float:
        """sigma."""
        return self.dimension**0.25 / 2 if self.sigma is None else self.sigma

    def accuracy(self, n: int, *, eps: float = 0.0, draws: int = 100, seed: int = 0) -> Draws:
        """Accuracies under Linf moves of up to eps of classifiers from n examples each, [draws].

        Exact for each classifier: Phi((w^T theta - eps ||w||_1) / (sigma ||w||)), in 0..1.

        **Raises** ValueError for counts below 1 and a negative radius.
        """
        check_count(n, "n")
        check_count(draws, "draws")
        _check_eps(eps)
        keys = random.row_keys(draws, seed, "sample complexity", n)
        noise = random.normal(keys, (self.dimension,), torch.float64)
        w = 1 + self.scale / math.sqrt(n) * noise
        margin = w.sum(dim=1) - eps * w.abs().sum(dim=1)
        return torch.special.ndtr(margin / (self.scale * w.norm(dim=1)))

    def examples_for(
        self, accuracy: float, *, eps: float = 0.0, draws: int = 100, seed: int = 0
    ) -> int | None:
        """The fewest examples with which the mean accuracy reaches a value, among powers of two.

        None where 2^20 are not enough. **Raises** ValueError for an accuracy outside (0, 1).
        """
        if not 0 < accuracy < 1:
            raise bad_value("accuracy", "lie between 0 and 1", accuracy)
        for exponent in range(21):
            found = self.accuracy(2**exponent, eps=eps, draws=draws, seed=seed)
            if float(found.mean()) >= accuracy:
                return 2**exponent
        return None


@dataclass(frozen=True)
class UnusedRobustness:
    """A perfectly accurate and robust classifier exists, and standard training does not find it.

    Two points, x = y (1, eta, ..., eta) with d weak features. The sign of x_0 withstands Linf
    moves of up to 1. Gradient descent on a loss such as the logistic converges in direction to the
    largest L2 margin, w = (1, eta, ..., eta), which withstands (1 + d eta^2) / (1 + d eta): about
    eta for many features.

    - `eta`: between 0 and 1; `dimension`: d

    **Source**: the limit of gradient descent, Soudry et al. 2017 (arXiv 1710.10345), theorem 3; the
    example is ours.

    **Raises** ValueError for values outside of these.
    """

    eta: float = 0.1
    dimension: int = 1000

    def __post_init__(self) -> None:
        if not 0 < self.eta < 1:
            raise bad_value("eta", "lie between 0 and 1", self.eta)
        check_count(self.dimension, "dimension")

    @property
    def points(self) -> tuple[Points, Signs]:
        """The two points x [2, 1 + d], float64, and their classes y [2]."""
        weak = torch.full((self.dimension,), self.eta, dtype=torch.float64)
        x = torch.cat([torch.ones(1, dtype=torch.float64), weak])
        return torch.stack([x, -x]), torch.tensor([1, -1])

    @property
    def withstands(self) -> float:
        """The largest Linf radius at which standard training's limit is right everywhere."""
        return (1 + self.dimension * self.eta**2) / (1 + self.dimension * self.eta)

    def robust(self, weights: Float[Tensor, " d"]) -> float:
        """The largest Linf radius at which the sign of x^T w is right everywhere; 0 if never.

        **Raises** ValueError for weights of another number or all zero.
        """
        if weights.shape != (1 + self.dimension,) or not bool(weights.any()):
            expected = f"be {1 + self.dimension} numbers, not all 0"
            raise bad_value("weights", expected, tuple(weights.shape))
        w = weights.double().cpu()
        return max(0.0, float(self.points[0][0] @ w / w.abs().sum()))

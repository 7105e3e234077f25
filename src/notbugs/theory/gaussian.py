"""Two Gaussian classes: maximum likelihood, its robust form, and what they do to the metric.

x ~ N(y mu, Sigma), y = -1 or 1 with equal chance; the classifier is the sign of x^T Sigma^-1 mu.

**Source**: Ilyas et al. 2019 (arXiv 1905.02175), section 4; proofs in Appendix E.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from notbugs.core import random
from notbugs.core.errors import bad_value, check_count, check_positive

Vector = Float[Tensor, " d"]
Matrix = Float[Tensor, "d d"]
Points = Float[Tensor, "n d"]
Signs = Int[Tensor, " n"]

SYMMETRIC = 1e-5
"""Largest asymmetry of a covariance, as a share of its largest entry."""
PRECISION = 1e-13
"""Relative width at which the bisection for the multiplier ends."""


@dataclass(frozen=True, eq=False)
class Gaussians:
    """The two classes N(mu, Sigma) and N(-mu, Sigma), or parameters that were fitted to them.

    - `mean` [d]: mu; `covariance` [d, d]: Sigma; kept in float64 on the processor

    **Raises** ValueError for shapes that do not fit, values that are not finite, and a covariance
    that is not symmetric and positive definite.
    """

    mean: Vector
    covariance: Matrix

    def __post_init__(self) -> None:
        mean, covariance = self.mean.double().cpu(), self.covariance.double().cpu()
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "covariance", covariance)
        if mean.ndim != 1 or not len(mean) or not bool(mean.isfinite().all()):
            raise bad_value("mean", "be a vector of finite numbers", tuple(mean.shape))
        if covariance.shape != (len(mean), len(mean)):
            size = (len(mean), len(mean))
            raise bad_value("covariance", f"have the shape {size}", tuple(covariance.shape))
        _spectrum(covariance)
        object.__setattr__(self, "covariance", (covariance + covariance.T) / 2)

    @property
    def dimension(self) -> int:
        """d."""
        return len(self.mean)

    @property
    def weights(self) -> Vector:
        """Sigma^-1 mu, the weights of the classifier and the direction of its gradient."""
        return torch.linalg.solve(self.covariance, self.mean)

    def sample(self, n: int, seed: int) -> tuple[Points, Signs]:
        """n draws x [n, d] and their classes y [n], -1 or 1."""
        check_count(n, "n")
        keys = random.row_keys(n, seed, "gaussians")
        y = 2 * random.integers(random.fold(keys, "class"), 2) - 1
        z = random.normal(random.fold(keys, "point"), (self.dimension,), torch.float64)
        return y[:, None] * self.mean + z @ torch.linalg.cholesky(self.covariance).T, y

    def accuracy(self, weights: Vector | None = None, eps: float = 0.0) -> float:
        """The share that the sign of x^T w has right if each point is moved by up to eps in L2.

        Phi((mu^T w - eps ||w||) / sqrt(w^T Sigma w)), in 0..1.

        - `weights` [d]: w; None takes those of this fit, Sigma^-1 mu
        - `eps`: the radius of the worst move; 0: none

        **Raises** ValueError for a negative radius, and weights of another shape or all zero.
        """
        w = self.weights if weights is None else weights.double().cpu()
        if w.shape != self.mean.shape or not bool(w.any()):
            raise bad_value("weights", f"be {self.dimension} numbers, not all 0", tuple(w.shape))
        if eps < 0 or not math.isfinite(eps):
            raise bad_value("eps", "be 0 or a radius", eps)
        margin = self.mean @ w - eps * torch.linalg.vector_norm(w)
        return float(torch.special.ndtr(margin / (w @ self.covariance @ w).sqrt()))

    def loss(self, x: Points, y: Signs) -> Float[Tensor, " n"]:
        """The negative log-likelihood of each point, [n], without the constant d/2 log(2 pi)."""
        off = x.double().cpu() - y.cpu()[:, None] * self.mean
        lengths = (off * torch.linalg.solve(self.covariance, off.T).T).sum(dim=1)
        return (lengths + torch.linalg.slogdet(self.covariance).logabsdet) / 2

    def worst_move(self, x: Points, y: Signs, multiplier: float) -> Points:
        """The move [n, d] of each point that increases the loss most at a price.

        delta = (multiplier * Sigma - I)^-1 (x - y mu) maximises loss(x + delta, y) minus
        multiplier / 2 * ||delta||^2.

        **Raises** ValueError for a multiplier of at most 1 / the smallest eigenvalue of Sigma,
        where the loss grows without bound.
        """
        _check_multiplier(multiplier, self.covariance)
        system = multiplier * self.covariance - torch.eye(self.dimension, dtype=torch.float64)
        return torch.linalg.solve(system, (x.double().cpu() - y.cpu()[:, None] * self.mean).T).T

    def alignment(self) -> float:
        """The cosine between mu and the gradient of the classifier, Sigma^-1 mu."""
        w = self.weights
        return float(self.mean @ w / (self.mean.norm() * w.norm()))


def cost_of_misalignment(covariance: Matrix, multiplier: float) -> float:
    """By how much an adversary raises the loss of maximum likelihood: theorem 1.

    1/2 (trace of (I + (C Sigma - I)^-1)^2 - d), the mean of loss(x + delta, y) - loss(x, y) over
    x ~ N(y mu, Sigma), where delta maximises the loss minus C/2 ||delta||^2. Of all covariances of
    one trace, multiples of I have the least.

    - `covariance` [d, d]: Sigma; `multiplier`: C

    **Raises** ValueError for a multiplier of at most 1 / the smallest eigenvalue.
    """
    _check_multiplier(multiplier, covariance)
    eigenvalues = _spectrum(covariance)
    factors = 1 + 1 / (multiplier * eigenvalues - 1)
    return float((factors.square() - 1).sum() / 2)


def robust_fit(true: Gaussians, *, eps: float) -> tuple[Gaussians, float]:
    """The parameters of least loss against an adversary of mean squared size eps^2: theorem 2.

    The mean stays; Sigma becomes Sigma/2 + I/m + sqrt(Sigma/m + Sigma^2/4), which blends towards
    the identity as eps grows. The multiplier m has the trace of its inverse, over m^2, equal eps^2:
    the moves delta = (m Sigma_r - I)^-1 (x - y mu) then have E ||delta||^2 = eps^2.

    - `eps`: root of the mean squared L2 size of the moves, above 0

    Returns the parameters and m.

    **Raises** ValueError for an eps that is not above 0.
    """
    check_positive(eps, "eps")
    eigenvalues, vectors = torch.linalg.eigh(true.covariance)
    multiplier = _multiplier(eigenvalues, eps)
    robust = _robust(eigenvalues, multiplier)
    return Gaussians(true.mean, (vectors * robust) @ vectors.T), multiplier


def _robust(eigenvalues: Vector, multiplier: float) -> Vector:
    s = eigenvalues
    return s / 2 + 1 / multiplier + (s / multiplier + s.square() / 4).sqrt()


def _multiplier(eigenvalues: Vector, eps: float) -> float:
    """The m at which the adversary spends eps^2, by bisection of its logarithm."""

    def spent(log_multiplier: float) -> float:
        m = math.exp(log_multiplier)
        return float((1 / (m * m * _robust(eigenvalues, m))).sum())

    # spent falls from infinity to 0. Each term lies below 1/m, and below 1 / (m^2 s).
    low, high = -1.0, 1.0
    while spent(low) < eps**2:
        low *= 2
    while spent(high) > eps**2:
        high *= 2
    while high - low > PRECISION * max(1.0, abs(high)):
        middle = (low + high) / 2
        low, high = (middle, high) if spent(middle) > eps**2 else (low, middle)
    return math.exp((low + high) / 2)


def least_alignment(covariance: Matrix) -> float:
    """The least cosine between mu and the gradient of the classifier, over all mu: theorem 3.

    2 sqrt(k) / (1 + k) for the condition number k of Sigma (Kantorovich's inequality). Robust fits
    have smaller condition numbers, so larger cosines.

    - `covariance` [d, d]: Sigma
    """
    eigenvalues = _spectrum(covariance)
    k = float(eigenvalues[-1] / eigenvalues[0])
    return 2 * math.sqrt(k) / (1 + k)


def least_aligned(covariance: Matrix, end: Literal[1, -1] = 1) -> Vector:
    """A mean [d] of length 1 that has the least cosine (`least_alignment`).

    Between the eigenvectors of the smallest and the largest eigenvalue, on either side.

    - `end`: 1 or -1, the sign of its second part

    **Raises** ValueError for a covariance that is not symmetric and positive definite.
    """
    covariance = covariance.double().cpu()
    _spectrum(covariance)
    eigenvalues, vectors = torch.linalg.eigh(covariance)
    small, large = eigenvalues[0].sqrt(), eigenvalues[-1].sqrt()
    mean = small * vectors[:, 0]
    mean = mean + end * large * vectors[:, -1] if len(eigenvalues) > 1 else mean
    return mean / mean.norm()


def _spectrum(covariance: Matrix) -> Vector:
    """The eigenvalues of a covariance, rising, in float64 on the processor.

    **Raises** ValueError where it is not symmetric and positive definite.
    """
    covariance, remedy = covariance.double().cpu(), "Pass the covariance of one class."
    largest = float(covariance.abs().max()) if covariance.numel() else math.nan
    off = float((covariance - covariance.T).abs().max()) if covariance.numel() else math.nan
    if not math.isfinite(largest) or off > SYMMETRIC * largest:
        raise bad_value("covariance", "be finite and symmetric", f"off by {off:g}", remedy)
    eigenvalues = torch.linalg.eigvalsh(covariance)
    if not float(eigenvalues[0]) > 0:
        smallest = f"a smallest eigenvalue of {float(eigenvalues[0]):g}"
        raise bad_value("covariance", "be positive definite", smallest, remedy)
    return eigenvalues


def _check_multiplier(multiplier: float, covariance: Matrix) -> None:
    least = 1 / float(_spectrum(covariance)[0])
    if not multiplier > least or not math.isfinite(multiplier):
        remedy = "With a smaller price the loss has no largest value."
        raise bad_value("multiplier", f"lie above {least:g}", multiplier, remedy)

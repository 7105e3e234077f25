"""Superposition: a toy model that stores more features than it has dimensions, and its attacks.

Inputs x in R^n are sparse: each entry is 0 with probability S, else uniform on [0, 1]. The model
x' = ReLU(W^T W x + b), with W of m < n rows, learns to give them back. Sparse features share
dimensions, and each disturbs the others: an adversary moves x along what they share.

**Source**: Elhage et al. 2022, "Toy models of superposition" (arXiv 2209.10652), "Relationship to
Adversarial Robustness".
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from notbugs.core import random
from notbugs.core.errors import bad_value, check_count, check_positive

Inputs = Float[Tensor, "s b n"]


@dataclass(frozen=True)
class Toys:
    """Toy models, one for each sparsity.

    - `sparsity` [s]: probabilities of 0; `weights` [s, m, n]; `bias` [s, n]
    """

    sparsity: Float[Tensor, " s"]
    weights: Float[Tensor, "s m n"]
    bias: Float[Tensor, "s n"]

    @property
    def gram(self) -> Float[Tensor, "s n n"]:
        """W^T W: what one unit of a feature adds to the others."""
        return self.weights.mT @ self.weights

    @property
    def per_dimension(self) -> Float[Tensor, " s"]:
        """Features that share a dimension: the squared length of W over m."""
        return self.weights.square().sum(dim=(1, 2)) / self.weights.shape[1]

    def __call__(self, x: Inputs) -> Inputs:
        """What the models give back."""
        return functional.relu((x @ self.weights.mT) @ self.weights + self.bias[:, None])

    def draw(self, count: int, *, seed: int, part: int = 0) -> Inputs:
        """Inputs of each sparsity, [s, count, n]."""
        drawn = random.generator(seed, "toys", part)
        shape = len(self.sparsity), count, self.bias.shape[1]
        values, there = (torch.rand(shape, generator=drawn) for _ in range(2))
        return values * (there >= self.sparsity[:, None, None])

    def losses(self, x: Inputs, changed: Inputs) -> Float[Tensor, "s b"]:
        """||x - model(changed)||^2."""
        return (self(changed) - x).square().sum(dim=2)


def train_toys(
    sparsity: Float[Tensor, " s"] | list[float],
    *,
    features: int = 100,
    dimensions: int = 20,
    steps: int = 3000,
    batch: int = 512,
    lr: float = 3e-3,
    seed: int = 0,
) -> Toys:
    """Toy models trained by Adam on fresh inputs, the learning rate decaying to 0 by a cosine.

    - `sparsity`: of each model, 0..1, below 1; `features`: n; `dimensions`: m

    **Raises** ValueError for a sparsity outside [0, 1), counts below 1, fewer features than
    dimensions.
    """
    for name, count in (("dimensions", dimensions), ("steps", steps), ("batch", batch)):
        check_count(count, name)
    check_positive(lr, "lr")
    if features < dimensions:
        raise bad_value("features", f"be at least `dimensions`, {dimensions}", features)
    share = torch.as_tensor(sparsity, dtype=torch.float32)
    if share.ndim != 1 or not len(share) or not bool(((share >= 0) & (share < 1)).all()):
        raise bad_value("sparsity", "be numbers from 0 to below 1", share.tolist())
    keys = random.row_keys(len(share), seed, "toy-weights")
    weights = random.normal(keys, (dimensions, features)) / features**0.5
    weights.requires_grad_()
    bias = torch.zeros(len(share), features, requires_grad=True)
    adam = torch.optim.Adam([weights, bias], lr=lr)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(adam, steps)
    for step in range(steps):
        toys = Toys(share, weights, bias)
        x = toys.draw(batch, seed=seed, part=step + 1)
        loss = toys.losses(x, x).mean(dim=1).sum()
        adam.zero_grad()
        loss.backward()  # pyright: ignore[reportUnknownMemberType]
        adam.step()
        decay.step()
    return Toys(share, weights.detach(), bias.detach())


def attacked(
    toys: Toys, x: Inputs, eps: float | Tensor, *, steps: int = 30, seed: int = 0
) -> Inputs:
    """Changes of L2 length eps that raise the loss most, by steepest ascent, [s, b, n].

    Of several starts (the gradient, random directions) the best; zero where none raises it.

    - `eps`: a number, or one for each model, [s, 1, 1]

    **Raises** ValueError for numbers that are not above 0.
    """
    eps = torch.as_tensor(eps, dtype=x.dtype)
    check_positive(float(eps.min()), "eps")
    check_count(steps, "steps")
    drawn = random.generator(seed, "starts")
    best, value = torch.zeros_like(x), toys.losses(x, x)
    starts = [_gradient(toys, x, best), *(torch.randn(x.shape, generator=drawn) for _ in range(3))]
    for start in starts:
        delta = _of_length(start, eps)
        for step in range(steps + 1):
            found = toys.losses(x, x + delta)
            better = found > value
            value = torch.where(better, found, value)
            best = torch.where(better[..., None], delta, best)
            pace = eps * (1 - step / (steps + 1))
            delta = _of_length(delta + _of_length(_gradient(toys, x, delta), pace), eps)
    return best


def predicted(toys: Toys, x: Inputs) -> Inputs:
    """Unit directions that W^T W says raise the loss most: [s, b, n].

    Of the outputs that are on at x, a change d moves the outputs by G d, where G are their rows of
    W^T W: most along the first right singular vector of G, turned so that it enlarges the error.
    """
    on = (toys(x) > 0).to(x)
    gram = toys.gram
    # The first eigenvector of G^T G, by powers.
    start = (on[..., None, :] @ gram[:, None]).squeeze(-2) + 1e-6
    d = functional.normalize(start, dim=2)
    for _ in range(60):
        d = functional.normalize(((d @ gram.mT) * on) @ gram, dim=2)
    error = toys(x) - x
    sign = ((d @ gram.mT) * on * error).sum(dim=2, keepdim=True)
    return torch.where(sign < 0, -d, d)


def _gradient(toys: Toys, x: Inputs, delta: Inputs) -> Inputs:
    changed = (x + delta).detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad(toys.losses(x, changed).sum(), changed)[0]


def _of_length(delta: Inputs, eps: Tensor) -> Inputs:
    return eps * functional.normalize(delta, dim=2)

"""What a linear softmax classifier learns from perturbed images with wrong labels, at first.

A source with weights w_k perturbs images x of class y towards a class t, x' = x + eta (w_t - w_y),
the direction of its gradient, and labels them t. The first full-batch step of another linear
classifier from zero, on cross-entropy, changes its weights in the direction of

    E[(1[t = k] - 1/K) x'],  k = 1 ... K.

With class means m and equally frequent classes (bars are means over classes) this is

| targets | first update of class k |
|---|---|
| random, the true class too | eta/K (w_k - w_bar) |
| random, another class | 1/(K-1) (eta (w_k - w_bar) - (m_k - m_bar)/K) |
| the next class | 1/K (eta (w_k - w_(k-1)) + m_(k-1) - m_bar) |

So images average out, and the perturbations do not: what is learnt is the source. The images leave
at most a term against the true class, or towards the next one.

**Source**: the special case that the post "The Structure of Adversarial Perturbations" leaves open;
the derivation is ours. The sets are those of Ilyas et al. 2019 (arXiv 1905.02175), section 3.2.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from notbugs.core.errors import bad_value, unknown_name

ByClass = Float[Tensor, "k d"]
Choices = Float[Tensor, "k k"]
Points = Float[Tensor, "n d"]
Labels = Int[Tensor, " n"]

TARGETS = ("rand", "other", "det")
"""Of D_rand any class with equal chance, of D_other any but the true one, of D_det the next."""


def target_chances(kind: str, classes: int) -> Choices:
    """The chance of each target class given the true one, [k, k]: row y, column t.

    **Raises** ValueError for an unknown kind and fewer than two classes.
    """
    if kind not in TARGETS:
        raise unknown_name("kind of targets", kind, TARGETS)
    if classes < 2:
        raise bad_value("classes", "be at least 2", classes)
    own = torch.eye(classes, dtype=torch.float64)
    return {
        "rand": torch.full_like(own, 1 / classes),
        "other": (1 - own) / (classes - 1),
        "det": own.roll(1, dims=1),
    }[kind]


def first_update(kind: str, means: ByClass, weights: ByClass, eta: float) -> ByClass:
    """The direction of a linear classifier's first step from zero, [k, d].

    - `kind`: one of `TARGETS`; `means` [k, d]: of each class's images; `weights` [k, d]: the
      source's; `eta`: the length of the perturbation, in units of w_t - w_y

    **Raises** ValueError for an unknown kind and shapes that differ.
    """
    m, w = _checked(means, weights)
    chances = target_chances(kind, len(m)) / len(m)  # of each pair (y, t)
    images = chances.T @ m
    perturbations = chances.sum(dim=0)[:, None] * w - chances.T @ w
    moved = images + eta * perturbations  # E[1[t = k] x'], whose sum over k is E[x']
    return moved - moved.sum(dim=0) / len(m)


def turning_points(x: Points, y: Labels, means: ByClass, weights: ByClass) -> Float[Tensor, " n"]:
    """The eta from which a first update on D_det prefers each image's true class to the next, [n].

    The scores of class y and y + 1 differ by
    1/K (eta (2 w_y - w_(y-1) - w_(y+1)) - (m_y - m_(y-1))) x; where it rises with eta for nearly
    all images, the median over them is where half have turned. Infinite where it does not come to
    prefer the true class as eta grows, 0 where it does from the start on.

    - `x` [n, d], `y` [n]: images and their classes; `means`, `weights`: as in `first_update`

    **Raises** ValueError for shapes that differ.
    """
    m, w = _checked(means, weights)
    x, y = x.double().cpu(), y.cpu()
    if x.shape[1] != m.shape[1]:
        raise bad_value("x", f"have {m.shape[1]} columns, as `means`", x.shape[1])
    before, after = (y - 1) % len(m), (y + 1) % len(m)
    images = ((m[y] - m[before]) * x).sum(dim=1)
    perturbations = ((2 * w[y] - w[before] - w[after]) * x).sum(dim=1)
    always = (perturbations == 0) & (images <= 0)
    flat = torch.where(always, 0.0, float("inf")).to(images)
    return torch.where(perturbations > 0, (images / perturbations).clamp(min=0), flat)


def _checked(means: ByClass, weights: ByClass) -> tuple[ByClass, ByClass]:
    if means.shape != weights.shape:
        expected = f"have the shape of `means`, {tuple(means.shape)}"
        raise bad_value("weights", expected, tuple(weights.shape))
    return means.double().cpu(), weights.double().cpu()

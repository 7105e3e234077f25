"""Stages about directions: the adversarial ones around an image, and those of the first layer."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from notbugs.core import random
from notbugs.experiments.experiment import Illustration, Measurement, Pictures, Work
from notbugs.experiments.first_order import logits_of, right, slopes, wrong_and_sure
from notbugs.experiments.numbers import Columns
from notbugs.experiments.page import Column
from notbugs.experiments.shared import Data, Trained
from notbugs.models import Classifier
from notbugs.models.decision import predicted

COLUMNS = {
    "entropy": Column("Entropy", "of |weights| over the pixels, of the largest", unit="%"),
    "variation": Column("Variation", "differences of neighbours per |weight|", 2),
    "sparsity": Column("Sparsity", "Hoyer's, 0 to 1", 3),
    "dimension": Column("Dimension", "orthogonal adversarial directions", 1),
    "shared": Column("Shared", "those that fool another net too", 1),
    "random": Column("Random", "adversarial among random directions", 1),
    "error": Column("Error", "of images that were right", unit="%"),
}
"""The columns of the measurements here."""


@dataclass(frozen=True)
class Subspace(Measurement):
    """The dimension of the space of adversarial directions around an image, from below.

    For k = 1, 2, 4, ... 64 orthonormal directions that all lie as near to the gradient as k can
    (each at a cosine of 1 / sqrt k), steps as long as FGSM's are taken, not clipped. "dimension":
    the largest number of such directions that all misclassify, the mean over images that are right;
    "shared": those that misclassify on the other net as well; "random": among 64 random ones.

    **Source**: Tramèr et al. 2017 (arXiv 1704.03453), section 3.1.
    """

    net: Trained
    other: Trained
    eps: float
    count: int

    def measure(self, work: Work) -> Columns:
        net, other = work.load(self.net), work.load(self.other)
        x, y = right(self.net, net, work, self.count)
        g = slopes(net, x, y).flatten(1)
        length, n = self.eps * math.sqrt(g.shape[1]), g.shape[1]
        sizes = [k for k in (1, 2, 4, 8, 16, 32, 64) if k <= n // 2]
        most: dict[str, float | None] = {"dimension": 0.0, "shared": 0.0, "random": 0.0}
        keys = random.row_keys(len(x), self.net.data.seed, "subspace")
        for image, label, grad, key in zip(x, y, g, keys, strict=True):
            drawn = random.normal(key[None], (sizes[-1], n))[0].to(grad)
            best = dict.fromkeys(most, 0)
            for k in sizes:
                moved = image + length * _near(grad, drawn[: k - 1]).reshape(k, *image.shape)
                fooled = predicted(logits_of(net, moved)) != label
                both = fooled & (predicted(logits_of(other, moved)) != label)
                best["dimension"] = max(best["dimension"], int(fooled.sum()))
                best["shared"] = max(best["shared"], int(both.sum()))
            across = torch.linalg.qr(drawn.T).Q.T
            moved = image + length * across.reshape(-1, *image.shape)
            best["random"] = int((predicted(logits_of(net, moved)) != label).sum())
            for name, found in best.items():
                most[name] = (most[name] or 0.0) + found / len(x)
        return most


def _near(g: Tensor, drawn: Tensor) -> Tensor:
    """k orthonormal rows [k, n], each at a cosine of 1 / sqrt k to g [n]; of k - 1 drawn rows."""
    basis = torch.linalg.qr(torch.cat([g[None], drawn]).T).Q.T
    basis[0] = F.normalize(g, dim=0)
    k = len(basis)
    # A reflection that takes the first axis to (1, ..., 1) / sqrt k has that as its first column.
    v = torch.full((k,), k**-0.5).to(g)
    v[0] -= 1
    square = v.square().sum()
    turn = torch.eye(k).to(g) - (2 * torch.outer(v, v) / square if float(square) > 0 else 0)
    return turn @ basis


@dataclass(frozen=True)
class Cosine(Measurement):
    """Errors after steps as long as FGSM's at an angle to the gradient, not clipped.

    - `cosine`: of the angle, -1 to 1; the rest of the step is random
    """

    net: Trained
    cosine: float
    eps: float
    count: int

    def measure(self, work: Work) -> Columns:
        net = work.load(self.net)
        x, y = right(self.net, net, work, self.count)
        g = F.normalize(slopes(net, x, y).flatten(1), dim=1)
        keys = random.row_keys(len(x), self.net.data.seed, "cosine", device=x.device)
        across = random.normal(keys, g.shape[1:]).to(g)
        across = F.normalize(across - (across * g).sum(dim=1, keepdim=True) * g, dim=1)
        unit = self.cosine * g + math.sqrt(1 - self.cosine**2) * across
        moved = x + self.eps * math.sqrt(g.shape[1]) * unit.reshape(x.shape)
        return {"error": wrong_and_sure(net, moved, y)[0]}


@dataclass(frozen=True)
class Filters(Measurement):
    """How local, smooth and sparse the weights of the first layer are, means over its units.

    "entropy": of |w| over the pixels, in percent of the uniform one's; "variation": the sum of
    |differences| of neighbours per sum of |w|; "sparsity": Hoyer's, 0 (all equal) to 1 (one
    pixel).
    """

    net: Trained

    def measure(self, work: Work) -> Columns:
        w = filters_of(work.load(self.net), self.net.data, work)
        size, n = w.flatten(1).abs().sum(dim=1).clamp(min=1e-12), w[0].numel()
        share = w.flatten(1).abs() / size[:, None]
        entropy = -(share * share.clamp(min=1e-12).log()).sum(dim=1) / math.log(n)
        across = w.diff(dim=2).abs().flatten(1).sum(dim=1) + w.diff(dim=3).abs().flatten(1).sum(
            dim=1
        )
        length = w.flatten(1).norm(dim=1).clamp(min=1e-12)
        sparsity = (math.sqrt(n) - size / length) / (math.sqrt(n) - 1)
        return {
            "entropy": 100 * float(entropy.mean()),
            "variation": float((across / size).mean()),
            "sparsity": float(sparsity.mean()),
        }


def filters_of(net: Classifier, data: Data, work: Work) -> Tensor:
    """The weights of the first dense layer as images [units, c, h, w]."""
    layer = next(m for m in net.body.modules() if isinstance(m, nn.Linear))
    return layer.weight.detach().unflatten(1, data.splits(work).test.shape)


@dataclass(frozen=True)
class FilterPictures(Illustration):
    """The largest filters of the first layer of each net, around grey."""

    nets: tuple[tuple[str, Trained], ...]
    count: int = 10

    def draw(self, work: Work) -> Pictures:
        sheets: dict[str, Tensor] = {}
        for name, net in self.nets:
            w = filters_of(work.load(net), net.data, work)
            w = w[w.flatten(1).norm(dim=1).topk(min(self.count, len(w))).indices]
            largest = w.flatten(1).abs().amax(dim=1)[:, None, None, None].clamp(min=1e-12)
            sheets[f"filters.{name}"] = 0.5 + 0.5 * w / largest
        return sheets

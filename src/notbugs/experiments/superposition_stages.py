"""Stages about superposition: toy models, and sparse autoencoders of embeddings."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from notbugs.core import random
from notbugs.core.errors import bad_value
from notbugs.core.schema import read_json_file
from notbugs.data import safefile
from notbugs.data.writing import write_json
from notbugs.engine import Threat
from notbugs.experiments.experiment import DAMAGED, Measurement, Measurements, Stage, Work
from notbugs.experiments.numbers import Columns, Tables
from notbugs.experiments.readouts import embedded
from notbugs.experiments.shared import Trained
from notbugs.features import (
    SparseAutoencoder,
    features_of,
    matched,
    train_sparse_autoencoder,
    usefulness,
)
from notbugs.models import Classifier
from notbugs.theory import attacked, predicted, train_toys

BATCH = 256
FILE, GAMMA = "state.safetensors", "gamma.json"
ALIKE = 0.7
"""Correlation from which two features are the same."""


@dataclass(frozen=True)
class ToyModels(Measurements):
    """Features per dimension, losses and attacks of toy models, by the sparsity of their inputs.

    On inputs with at least one entry above 0, of changes whose L2 length is `eps` times the mean
    length of these inputs. "attack": what they add to the loss at worst, over what they add to that
    of a model that stores as many features as dimensions and nothing else, which is the square of
    their length; "random": random ones, over the same; "cosine": of the worst change with the one
    that W^T W predicts; "cosine_random": with random ones.
    """

    seed: int
    sparsity: tuple[float, ...]
    features: int
    dimensions: int
    steps: int
    eps: float
    count: int

    @property
    def label(self) -> str:
        return f"toy models · seed {self.seed}"

    @property
    def cost(self) -> float:
        return 100.0 * self.steps

    def measure(self, work: Work) -> Tables:
        toys = train_toys(
            list(self.sparsity),
            features=self.features,
            dimensions=self.dimensions,
            steps=self.steps,
            seed=self.seed,
        )
        x = toys.draw(self.count, seed=self.seed)
        there = (x > 0).any(dim=2)
        if not bool(there.any(dim=1).all()):
            raise bad_value(
                "sparsity",
                f"leave some of {self.count} inputs of {self.features} features an entry",
                max(self.sparsity),
                "Lower it, or raise toy_count.",
            )
        lengths = (x.norm(dim=2) * there).sum(dim=1) / there.sum(dim=1)
        eps = (self.eps * lengths)[:, None, None]
        worst, guess = attacked(toys, x, eps, seed=self.seed), predicted(toys, x)
        drawn = torch.randn(x.shape, generator=random.generator(self.seed, "changes"))
        drawn = F.normalize(drawn, dim=2)
        clean = toys.losses(x, x)
        numbers = {
            "loss": clean,
            "attack": (toys.losses(x, x + worst) - clean) / eps[..., 0].square(),
            "random": (toys.losses(x, x + eps * drawn) - clean) / eps[..., 0].square(),
            "cosine": F.cosine_similarity(worst, guess, dim=2),
            "cosine_random": F.cosine_similarity(worst, drawn, dim=2),
        }
        table: dict[str, Columns] = {}
        for i, sparsity in enumerate(self.sparsity):
            row = {name: float(values[i][there[i]].mean()) for name, values in numbers.items()}
            row["per_dimension"] = float(toys.per_dimension[i])
            table[f"toys at {sparsity:g}"] = row
        return {"toys": table}


@dataclass(frozen=True)
class Sparse(Stage[SparseAutoencoder]):
    """A sparse autoencoder of a model's embeddings of the training images.

    - `trained`: False takes the model as it is before training
    - `gaussian`: of normal draws with the mean and covariance of the embeddings: a control
    """

    model: Trained
    units: int
    active: int
    epochs: int
    trained: bool = True
    gaussian: bool = False

    @property
    def label(self) -> str:
        return f"sparse autoencoder of {self.model.role} · seed {self.model.data.seed}"

    @property
    def cost(self) -> float:
        return 0.3 * (self.model.data.train_size or 1400) * self.epochs

    def classifier(self, work: Work) -> Classifier:
        """The model whose embeddings are coded."""
        return work.load(self.model) if self.trained else self.model.untrained(work)

    def embeddings(self, work: Work) -> tuple[Tensor, Tensor]:
        """Those to learn from, and those of test images."""
        parts, model = self.model.data.splits(work), self.classifier(work)
        both = [embedded(model, data) for data in (self.model.data.train(work), parts.test)]
        if self.gaussian:
            values, vectors = torch.linalg.eigh(both[0].T.double().cov())
            roots = (vectors * values.clamp(min=0).sqrt()).float()
            drawn = random.generator(self.model.data.seed, "gaussian")
            mean = both[0].mean(dim=0)
            both = [mean + torch.randn(e.shape, generator=drawn) @ roots.T for e in both]
        return both[0], both[1]

    def make(self, work: Work) -> None:
        net = train_sparse_autoencoder(
            self.embeddings(work)[0],
            units=self.units,
            active=self.active,
            epochs=self.epochs,
            seed=random.seed_of(self.model.data.seed, "sparse"),
            progress=work.progress,
        )
        safefile.write_tensors(work.folder / FILE, net.state_dict(), {})

    def load(self, folder: Path, work: Work) -> SparseAutoencoder:
        state = safefile.read_tensors(folder / FILE, what="data")[0]
        net = SparseAutoencoder(len(state["center"]), self.units, self.active, seed=0)
        net.load_state_dict(state)
        return net.eval().requires_grad_(False)


@dataclass(frozen=True)
class Left(Measurement):
    """What a sparse autoencoder leaves of the variance of embeddings of test images, in percent.

    - `gaussian`: the one of normal draws with the same covariance; "beside": over what that leaves
    """

    on: Sparse
    gaussian: Sparse | None = None

    def measure(self, work: Work) -> Columns:
        net, test = work.load(self.on), self.on.embeddings(work)[1]
        alive = (net.code(test) > 0).any(dim=0)
        left, shown = net.left(test), 100 * float(alive.float().mean())
        row: dict[str, float | None] = {"left": 100 * left, "alive": shown}
        if self.gaussian is not None:
            other = work.load(self.gaussian).left(self.gaussian.embeddings(work)[1])
            row["beside"] = left / other if other else None
        return row


@dataclass(frozen=True)
class Robustness(Stage[dict[int, float]]):
    """What an adversary leaves of each unit of a sparse autoencoder (gamma, for its best class).

    A unit is taken before its threshold, as a direction of the embedding (`usefulness`).
    """

    on: Sparse
    threat: Threat
    steps: int
    count: int

    @property
    def label(self) -> str:
        return f"attack features of {self.on.model.role} · seed {self.on.model.data.seed}"

    @property
    def cost(self) -> float:
        return 4.0 * self.count * self.steps * self.on.units

    def make(self, work: Work) -> None:
        model, data = self.on.classifier(work), self.on.model.data
        train, test = data.train(work), data.splits(work).test.select(slice(0, self.count))
        features = features_of(model, train, directions=work.load(self.on).encoder)
        found = usefulness(
            features, train, test, self.threat, steps=self.steps, progress=work.progress
        )
        best = found.trained.abs().argmax(dim=1, keepdim=True)
        gamma = found.gamma.gather(1, best)[:, 0].tolist()
        units = [str(i) for i in features.numbers.tolist()]
        write_json(work.folder / GAMMA, dict(zip(units, gamma, strict=True)))

    def load(self, folder: Path, work: Work) -> dict[int, float]:
        found = read_json_file(dict[str, float], folder / GAMMA, remedy=DAMAGED)
        return {int(unit): gamma for unit, gamma in found.items()}


@dataclass(frozen=True)
class Shared(Measurement):
    """Which features of one model another has as well, by correlations over test images.

    "same": of the features that are on in the first, those that correlate by `ALIKE` or more with
    one of the other; "matched": the mean of the largest correlations; "gamma": what an adversary
    leaves (`usefulness`) of the half that is matched best, and "gamma_rest" of the other half.

    - `robustness`: of the first one's features
    """

    robustness: Robustness
    other: Sparse

    def measure(self, work: Work) -> Columns:
        codes = [
            work.load(one).code(one.embeddings(work)[1]) for one in (self.robustness.on, self.other)
        ]
        best = matched(codes[0], codes[1])
        on = (~best.isnan()).nonzero()[:, 0]
        found = best[on]
        row: dict[str, float | None] = {
            "features": float(len(on)),
            "matched": float(found.mean()),
            "same": 100 * float((found >= ALIKE).double().mean()),
        }
        gamma = work.load(self.robustness)
        order = [int(i) for i in on[found.argsort(descending=True)] if int(i) in gamma]
        half = len(order) // 2
        for name, some in (("gamma", order[:half]), ("gamma_rest", order[half:])):
            row[name] = sum(gamma[i] for i in some) / len(some) if some else None
        return row

"""Whether the units of a layer mean more than random directions in it."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from notbugs.core import random
from notbugs.core.types import Images, Labels
from notbugs.experiments.experiment import Measurement, Work
from notbugs.experiments.numbers import Columns
from notbugs.experiments.shared import Trained
from notbugs.representations.batches import read_all
from notbugs.representations.reading import layer_of

TOP = 8
"""Images on which a direction is judged: those that it responds to most."""


@dataclass(frozen=True)
class Units(Measurement):
    """Whether the images that a unit responds to most are more alike than a random direction's.

    Purity: the percentage of the `TOP` test images that are of their most frequent class.
    Agreement: the mean cosine of their pixels, less the mean image. Means over all units that
    respond to any image, and over as many random directions; `chance`: of random images.

    - `layer`: a layer's dotted name; None takes the pixels
    - `trained`: False takes the same net before training
    """

    model: Trained
    layer: str | None
    trained: bool = True

    def measure(self, work: Work) -> Columns:
        test = self.model.data.splits(work).test
        x, y = test.pixels().to(work.device), test.labels.to(work.device)
        return alikeness(self._responses(work, x), x, y, test.classes, self.model.data.seed)

    def _responses(self, work: Work, x: Images) -> Tensor:
        """What each unit says of each image, [n, units]."""
        if self.layer is None:
            return x.flatten(1)
        net = work.load(self.model) if self.trained else self.model.untrained(work)
        return read_all(net, layer_of(net, self.layer), x, 256).flatten(1)


def alikeness(responses: Tensor, x: Images, y: Labels, classes: int, seed: int) -> dict[str, float]:
    """The numbers of `Units`, from the responses [n, units] to images [n, c, h, w]."""
    alive = responses[:, responses.std(dim=0) > 0]
    units = alive.shape[1]
    keys = random.row_keys(units, seed, "directions")
    directions = F.normalize(random.normal(keys, (units,)), dim=1).to(alive)
    tops = {
        "natural": alive.topk(TOP, dim=0).indices.T,
        "random": (alive @ directions.T).topk(TOP, dim=0).indices.T,
        "chance": (random.uniform(keys, (TOP,)) * len(x)).long().to(x.device),
    }
    flat = F.normalize((x - x.mean(dim=0)).flatten(1), dim=1)
    numbers = {"units": float(units)}
    for name, top in tops.items():
        counts = F.one_hot(y[top], classes).sum(dim=1).amax(dim=1)
        numbers[f"purity_{name}"] = 100 * float(counts.float().mean()) / TOP
        # The squared length of a sum of unit vectors is their number plus all their cosines.
        cosines = flat[top].sum(dim=1).square().sum(dim=1) - TOP
        numbers[f"agreement_{name}"] = float(cosines.mean()) / (TOP * (TOP - 1))
    return {**numbers, "purity_gap": numbers["purity_natural"] - numbers["purity_random"]}

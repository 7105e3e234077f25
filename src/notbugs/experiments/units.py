"""Whether the units of a layer mean more than random directions in it."""

from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional as F

from notbugs.core import random
from notbugs.core.types import Images, Labels
from notbugs.experiments.experiment import (
    Illustration,
    Measurement,
    Pictures,
    Work,
)
from notbugs.experiments.numbers import Columns
from notbugs.experiments.page import Column
from notbugs.experiments.shared import Trained
from notbugs.representations.batches import read_all
from notbugs.representations.reading import layer_of

DRAWN = 5
"""Units, and directions, that are drawn."""
TOP = 8
"""Images on which a direction is judged: those that it responds to most."""
_ALIKE = "the mean cosine of their images' pixels, less the mean image"
COLUMNS = {
    "units": Column("Units", f"that respond to at least {TOP} images", 0),
    "purity_natural": Column(
        "Purity, units", f"the {TOP} images of a unit in their main class", unit="%"
    ),
    "purity_random": Column("Purity, random", "the same for random directions", unit="%"),
    "purity_chance": Column("Purity, chance", f"the same for {TOP} random images", unit="%"),
    "purity_gap": Column("Units - random", "points of purity"),
    "purity_found": Column("Random - chance", "points of purity"),
    "agreement_natural": Column("Agreement, units", _ALIKE, 3),
    "agreement_random": Column("Agreement, random", _ALIKE, 3),
    "agreement_chance": Column("Agreement, chance", _ALIKE, 3),
}
"""The columns of `Units`."""


@dataclass(frozen=True)
class Units(Measurement):
    """Whether the images that a unit responds to most are more alike than a random direction's.

    Purity: the percentage of the `TOP` test images that are of their most frequent class.
    Agreement: the mean cosine of their pixels, less the mean image. Means over all units that
    respond to at least `TOP` images, and over as many random directions; `chance`: of random
    images.

    - `layer`: a layer's dotted name; None takes the pixels
    - `trained`: False takes the same net before training
    """

    model: Trained
    layer: str | None
    trained: bool = True

    def measure(self, work: Work) -> Columns:
        test = self.model.data.splits(work).test
        x, y = test.pixels().to(work.device), test.labels.to(work.device)
        return alikeness(self.responses(work, x), x, y, test.classes, self.model.data.seed)

    def responses(self, work: Work, x: Images) -> Tensor:
        """What each unit says of each image, [n, units]."""
        if self.layer is None:
            return x.flatten(1)
        net = work.load(self.model) if self.trained else self.model.untrained(work)
        return read_all(net, layer_of(net, self.layer), x, 256).flatten(1)


@dataclass(frozen=True)
class UnitSheets(Illustration):
    """Pictures of the images that the first units, and random directions, respond to most."""

    units: Units

    def draw(self, work: Work) -> Pictures:
        data = self.units.model.data
        x = data.splits(work).test.pixels().to(work.device)
        natural, directed = most_responding(self.units.responses(work, x), data.seed)
        sheets = {f"natural.{i}": x[natural[i]] for i in range(DRAWN)}
        return sheets | {f"random.{i}": x[directed[i]] for i in range(DRAWN)}


def most_responding(responses: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """The `TOP` images of each unit that responds to as many, and of as many random directions.

    Both [units, TOP], from the responses [n, units]. A unit responds to an image where it is above
    its least value: a ReLU that is seldom above zero has no `TOP` images.
    """
    alive = responses[:, (responses > responses.amin(dim=0)).sum(dim=0) >= TOP]
    units = alive.shape[1]
    keys = random.row_keys(units, seed, "directions")
    directions = F.normalize(random.normal(keys, (units,)), dim=1).to(alive)
    return alive.topk(TOP, dim=0).indices.T, (alive @ directions.T).topk(TOP, dim=0).indices.T


def alikeness(responses: Tensor, x: Images, y: Labels, classes: int, seed: int) -> dict[str, float]:
    """The numbers of `Units`, from the responses [n, units] to images [n, c, h, w]."""
    natural, directed = most_responding(responses, seed)
    keys = random.row_keys(len(natural), seed, "chance")
    chance = random.uniform(keys, (len(x),)).topk(TOP, dim=1).indices.to(x.device)
    flat = F.normalize((x - x.mean(dim=0)).flatten(1), dim=1)
    numbers = {"units": float(len(natural))}
    for name, top in (("natural", natural), ("random", directed), ("chance", chance)):
        counts = F.one_hot(y[top], classes).sum(dim=1).amax(dim=1)
        numbers[f"purity_{name}"] = 100 * float(counts.float().mean()) / TOP
        # The squared length of a sum of unit vectors is their number plus all their cosines.
        cosines = flat[top].sum(dim=1).square().sum(dim=1) - TOP
        numbers[f"agreement_{name}"] = float(cosines.mean()) / (TOP * (TOP - 1))
    directed_purity = numbers["purity_random"]
    return {
        **numbers,
        "purity_gap": numbers["purity_natural"] - directed_purity,
        "purity_found": directed_purity - numbers["purity_chance"],
    }

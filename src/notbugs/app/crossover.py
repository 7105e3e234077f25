"""Where an image's label changes hands, from models to those who look: images pushed step by step.

Test images are pushed towards a wrong class, their label-to-be, at one radius after another, and
at each radius the nearest training image and every model are asked what they show.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from notbugs.core.errors import check_positive
from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.features import nearest_image, observed, targeted_set
from notbugs.models import Classifier
from notbugs.models.predictions import predicted_clean

KINDS = {"det": "D_det: the next class", "other": "D_other: a random wrong class"}
"""How the label-to-be is drawn."""
OBSERVER = "nearest training image"
Progress = Callable[[float], None]


def _silent(fraction: float) -> None:
    return None


@dataclass(frozen=True, eq=False)
class Crossover:
    """n images at r radii, and what is said of them.

    - `radii` [r]: rising, in the L2 norm; the first is 0, the images themselves
    - `images` [r, n, c, h, w]; `true` [n]: their classes; `labels` [n]: those they are pushed to
    - `said` [r, n]: the class that each observer, by name, gives; -1: a tie
    """

    radii: Float[Tensor, " r"]
    images: Float[Tensor, "r n c h w"]
    true: Int[Tensor, " n"]
    labels: Int[Tensor, " n"]
    said: Mapping[str, Int[Tensor, "r n"]]

    def shares(self, name: str) -> tuple[list[float], list[float]]:
        """Percent of the images, at each radius, to which an observer gives (true, new) class."""
        said = self.said[name]
        true, new = (100 * (said == y).float().mean(dim=1) for y in (self.true, self.labels))
        return true.tolist(), new.tolist()

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, to be stored."""
        own = {name: getattr(self, name) for name in ("radii", "images", "true", "labels")}
        return own | {f"said.{name}": said for name, said in self.said.items()}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor], models: Iterable[str]) -> "Crossover":
        """What `tensors` gave; the observer first, then the models in that order."""
        own = {name: t for name, t in tensors.items() if not name.startswith("said.")}
        said = {name: tensors[f"said.{name}"] for name in (OBSERVER, *models)}
        return cls(**own, said=said)


def radii_for(shape: tuple[int, int, int], points: int = 12) -> list[float]:
    """L2 radii up to 3/8 of a pixel value in each entry: 0.25, 0.5, ..., 3 for 8 x 8 pixels."""
    channels, height, width = shape
    most = 3 * (channels * height * width) ** 0.5 / 8
    return [most * (i + 1) / points for i in range(points)]


def crossover(
    models: Mapping[str, Classifier],
    source: str,
    train: ImageData,
    data: ImageData,
    kind: str,
    radii: Sequence[float],
    *,
    steps: int = 30,
    seed: int = 0,
    progress: Progress = _silent,
) -> Crossover:
    """Images pushed towards a wrong class on one model, at each radius, and what all say of them.

    Each radius starts from the images again (`notbugs.features.targeted_set`), and the last
    point counts. Of "other", images that cannot be moved by the full radius are left out at all.

    - `source`: the name of the model they are pushed on; `kind`: "det" or "other"
    - `train`: among which the observer looks for the nearest; `data`: n images; `radii`: in L2

    **Raises** ValueError for radii that are not positive, and as `targeted_set`.
    """
    for eps in radii:
        check_positive(eps, "radii")
    made: list[ImageData] = []
    for i, eps in enumerate(radii):
        threat = Threat.parse(f"l2:{float(eps)!r}")
        made.append(targeted_set(models[source], data, kind, threat, seed=seed, steps=steps))
        progress((i + 1) / len(radii))
    kept = torch.ones(len(data), dtype=torch.bool)
    for one in made:
        kept &= torch.zeros_like(kept).index_fill(0, one.columns["source_rows"], True)
    rows = kept.nonzero()[:, 0]
    at = [data.pixels(rows)] + [_of_rows(one, kept) for one in made]
    nearest = nearest_image(train)
    said = {OBSERVER: torch.stack([observed(nearest, _named(x, data)) for x in at])}
    for name, model in models.items():
        said[name] = torch.stack([predicted_clean(model, x.to(model.device)).cpu() for x in at])
    first = made[0].columns["source_rows"]
    labels = torch.zeros(len(data), dtype=torch.int64).index_copy(0, first, made[0].labels)[rows]
    eps = torch.tensor([0.0, *radii], dtype=torch.float64)
    return Crossover(eps, torch.stack(at), data.labels[rows], labels, said)


def _of_rows(made: ImageData, kept: Tensor) -> Tensor:
    return made.pixels()[kept[made.columns["source_rows"]]]


def _named(x: Tensor, like: ImageData) -> ImageData:
    return ImageData(x, torch.zeros(len(x), dtype=torch.int64), like.class_names, like.name)

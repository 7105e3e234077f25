"""The plane of usefulness: each unit of a model's embedding, what it shows and what it is for."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.features import features_of, usefulness
from notbugs.models import Classifier
from notbugs.representations import most_activating, visualise

MOST = 64
"""Units that are looked at, the first."""
EXTREMES = 10
"""Images shown that activate a unit most."""
Progress = Callable[[float], None]
KINDS = ("robust to this attack", "non-robust", "undecided", "useless")


def _silent(fraction: float) -> None:
    return None


@dataclass(frozen=True, eq=False)
class Plane:
    """m units of an embedding.

    - `units` [m]: their places; `kind` [m]: a place in `KINDS`
    - `rho`, `gamma`, `rho_error`, `gamma_error` [m]: see `notbugs.features.Usefulness`, each for
      the class `best` [m] that it is most useful for in training; gamma by the attack that was
      tried, so the least that an adversary leaves may be lower
    - `falls` [m]: whether it is minus the unit that is useful
    - `highest` [m, k]: the training images that activate it most; `shown` [m, c, h, w]: an image
      that maximises it
    """

    units: Int[Tensor, " m"]
    kind: Int[Tensor, " m"]
    best: Int[Tensor, " m"]
    rho: Float[Tensor, " m"]
    gamma: Float[Tensor, " m"]
    rho_error: Float[Tensor, " m"]
    gamma_error: Float[Tensor, " m"]
    falls: Bool[Tensor, " m"]
    highest: Int[Tensor, "m k"]
    shown: Float[Tensor, "m c h w"]

    def tensors(self) -> dict[str, Tensor]:
        """All of it by name, to be stored."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @classmethod
    def of(cls, tensors: Mapping[str, Tensor]) -> "Plane":
        """What `tensors` gave."""
        return cls(**tensors)


def plane(
    model: Classifier,
    train: ImageData,
    test: ImageData,
    threat: Threat | str,
    *,
    steps: int = 10,
    seed: int = 0,
    progress: Progress = _silent,
) -> Plane:
    """Usefulness and robust usefulness of the embedding's first units, with their images.

    **Raises** ValueError as `notbugs.features.usefulness`.
    """
    features = features_of(model, train)
    if len(features) > MOST:
        features = features.select(torch.arange(MOST))
    found = usefulness(features, train, test, threat, steps=steps, seed=seed, progress=progress)
    best, units = found.at_best(), found.numbers
    kind = torch.full((len(units),), KINDS.index("useless"))
    for name, mask in ((2, "useful"), (0, "robust"), (1, "non_robust")):
        kind[best[mask]] = name
    x = train.pixels().to(model.device)
    highest = most_activating(model, x, units, count=min(EXTREMES, len(train))).highest
    shown = visualise(model, units, seed=seed).x
    trained = found.trained.gather(1, best["class"][:, None])[:, 0]
    numbers = {name: best[name] for name in ("rho", "gamma", "rho_error", "gamma_error")}
    return Plane(
        units, kind, best["class"], **numbers, falls=trained < 0, highest=highest.cpu(),
        shown=shown.cpu(),
    )  # fmt: skip

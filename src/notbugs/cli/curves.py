"""The curves that `notbugs attack --plot` computes and draws."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notbugs.attacks import AbstractAttack, AttackResult
from notbugs.data import ImageData
from notbugs.data.writing import write_file
from notbugs.engine import Threat, Trace
from notbugs.judge import AccuracyCurve, Distances, LossCurve, robust_curve
from notbugs.models import Classifier

MOST_RADII = 8


@dataclass(frozen=True)
class Curves:
    """Robust accuracy against the radius, and the distances or the loss that go with it."""

    accuracy: AccuracyCurve
    distances: Distances | None
    loss: LossCurve | None

    def as_json(self) -> dict[str, Any]:
        """The numbers of all of them."""
        numbers: dict[str, Any] = {"accuracy": self.accuracy.as_json()}
        if self.distances is not None:
            numbers["distances"] = self.distances.as_json()
        if self.loss is not None:
            numbers["loss"] = self.loss.as_json()
        return numbers


def radii_up_to(threat: Threat, count: int) -> list[float]:
    """`count` radii from 2 * eps / count to 2 * eps, and eps itself where it is not one.

    Linf radii end at 1, which reaches every image.
    """
    eps = threat.eps
    top = min(2 * eps, 1.0) if threat.norm.name == "linf" else 2 * eps
    radii = [top * i / count for i in range(1, count + 1)]
    return sorted([eps, *(radius for radius in radii if abs(radius - eps) > 1e-9 * eps)])


def curves_of(
    attack: AbstractAttack,
    results: Sequence[AttackResult],
    traces: Sequence[Trace],
    *,
    make: Callable[[float], AbstractAttack],
    model: Classifier,
    data: ImageData,
    radii: Sequence[float],
    seed: int,
    progress: Callable[[float], None],
) -> Curves:
    """The curves of an attack that has run; one of a fixed budget runs again at each radius."""
    if attack.threat is None:
        distances = Distances.of(attack, results)
        return Curves(distances.curve(), distances, None)
    loss = LossCurve.of(attack, results, traces)
    accuracy = robust_curve(make, model, data, radii, seed=seed, progress=progress)
    return Curves(accuracy, None, loss)


def draw_curves(curves: Curves, name: str, path: Path) -> None:
    """Draws both pictures side by side into a PNG file."""
    from notbugs.report.figures import budget_sheet, nearest_sheet, png

    if curves.distances is not None:
        figure = nearest_sheet({name: curves.distances})
    elif curves.loss is not None:
        figure = budget_sheet({name: curves.accuracy}, {name: curves.loss})
    else:
        raise RuntimeError("Curves come with distances or with a loss.")
    content = png(figure)
    write_file(path, lambda file: file.write(content), size=len(content))

"""Models beside each other: under several threats and methods, on the same images."""

import csv
import io
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from torch import nn

from notbugs.attacks import fmn
from notbugs.core.digests import verify_digest, with_digest
from notbugs.core.errors import StoreError, bad_type, bad_value
from notbugs.core.schema import fit
from notbugs.core.strict_json import parse_json
from notbugs.data import ImageData
from notbugs.data.given import given
from notbugs.data.writing import write_json
from notbugs.engine import AbstractSize, Threat
from notbugs.judge.chance import at_least
from notbugs.judge.curves import AccuracyCurve
from notbugs.judge.evaluate import evaluate
from notbugs.judge.fingerprint import identity
from notbugs.judge.nearest import Distances, distances
from notbugs.judge.signs import in_one_alone
from notbugs.judge.standard import evaluation_attacks, is_standard
from notbugs.judge.tables import Table, latex, markdown
from notbugs.judge.usable import has_gradients
from notbugs.judge.verdict import Verdict
from notbugs.models import Classifier, Fast, check_fits
from notbugs.models.prepared import classifier_of

Z = 1.96
REMEDY = "Delete it, or choose another folder."


@dataclass(frozen=True)
class Cell:
    """A model's verdict under a threat, by a method."""

    model: str
    threat: Threat
    method: str
    verdict: Verdict

    def as_record(self) -> dict[str, Any]:
        """One row of a table: rates in percent, `queries` forward passes an image."""
        verdict = self.verdict
        low, high = verdict.ci95
        return {
            "model": self.model,
            "threat": str(self.threat),
            "method": self.method,
            "n": verdict.n,
            "clean_accuracy": verdict.clean_accuracy,
            "robust_accuracy": verdict.robust_accuracy,
            "robust_low": low,
            "robust_high": high,
            "is_upper_bound": verdict.is_upper_bound,
            "queries": verdict.forwards / verdict.n,
            "seconds": verdict.seconds,
        }


@dataclass(frozen=True)
class Difference:
    """A paired comparison: robust images that one of two models has alone.

    - `a_only`, `b_only`: images on which `a` or `b` alone is right and robust
    - `p_value`: of McNemar's exact test that both counts come from a fair coin, two-sided;
      `p_holm`: corrected for all pairs of the comparison
    - `interval`: of the difference in robust accuracy, a less b, in percent points, 95 %
    - `is_upper_bound`: a masking check fires for one of them, so that nothing is decided
    """

    threat: Threat
    method: str
    a: str
    b: str
    n: int
    a_only: int
    b_only: int
    p_value: float
    p_holm: float
    is_upper_bound: bool = False

    @property
    def points(self) -> float:
        """Robust accuracy of `a` less that of `b`, in percent points."""
        return 100 * (self.a_only - self.b_only) / self.n

    @property
    def interval(self) -> tuple[float, float]:
        """Agresti & Min 2005 (Statistics in Medicine 24), with half an image added to each cell."""
        n, one, other = self.n + 2, self.a_only + 0.5, self.b_only + 0.5
        middle, half = (one - other) / n, Z * math.sqrt(one + other - (one - other) ** 2 / n) / n
        return 100 * max(-1.0, middle - half), 100 * min(1.0, middle + half)

    def as_record(self) -> dict[str, Any]:
        """One row of a table."""
        low, high = self.interval
        return {
            "threat": str(self.threat),
            "method": self.method,
            "a": self.a,
            "b": self.b,
            "n": self.n,
            "a_only": self.a_only,
            "b_only": self.b_only,
            "difference": self.points,
            "difference_low": low,
            "difference_high": high,
            "p_value": self.p_value,
            "p_holm": self.p_holm,
            "is_upper_bound": self.is_upper_bound,
        }


@dataclass(frozen=True)
class Comparison:
    """Models under threats and methods, on the same images.

    - `curves`: (model, robust accuracy against the radius by FMN, an upper bound), by norm;
      empty where they were not asked for
    """

    cells: tuple[Cell, ...]
    curves: tuple[tuple[str, AccuracyCurve], ...] = ()

    def markdown(self) -> str:
        """Two tables: accuracies in percent, and paired differences in points."""
        return "\n\n".join(markdown(*table) for table in self.tables())

    def latex(self) -> str:
        """The same tables for LaTeX, with the rules of `booktabs`."""
        return "\n\n".join(latex(*table) for table in self.tables())

    def csv(self) -> str:
        """The records as comma-separated values, with a head."""
        text = io.StringIO()
        writer = csv.DictWriter(text, list(self.cells[0].as_record()), lineterminator="\n")
        writer.writeheader()
        writer.writerows(self.records())
        return text.getvalue()

    def as_json(self) -> dict[str, Any]:
        """Records, differences, verdicts and curves as plain numbers and lists."""
        return {
            "records": self.records(),
            "differences": [difference.as_record() for difference in self.differences],
            "verdicts": [
                {"model": cell.model, "method": cell.method, **cell.verdict.as_json()}
                for cell in self.cells
            ],
            "curves": [{"model": name, **curve.as_json()} for name, curve in self.curves],
        }

    def tables(self) -> list[Table]:
        """Heads and rows as text: rates with their intervals, and of several models differences."""
        found = self.differences
        return [self._rates(), *([_tests(found)] if found else [])]

    def _rates(self) -> Table:
        """A row a threat, method and model."""
        head = ["threat", "method", "model", "clean", "robust", "95 %", "queries", "seconds"]
        rows = [
            [
                str(cell.threat),
                cell.method,
                cell.model,
                f"{cell.verdict.clean_accuracy:.1f}",
                f"{'≤ ' * cell.verdict.is_upper_bound}{cell.verdict.robust_accuracy:.1f}",
                _interval(cell.verdict.ci95, ".1f"),
                f"{cell.verdict.forwards / cell.verdict.n:,.0f}",
                f"{cell.verdict.seconds:.1f}",
            ]
            for cell in self._side_by_side()
        ]
        return head, rows

    def _side_by_side(self) -> list[Cell]:
        """The cells, those of one threat and method together."""
        order = list(dict.fromkeys((cell.threat, cell.method) for cell in self.cells))
        return sorted(self.cells, key=lambda cell: order.index((cell.threat, cell.method)))

    def records(self) -> list[dict[str, Any]]:
        """One mapping a model, threat and method: `pandas.DataFrame(comparison.records())`."""
        return [cell.as_record() for cell in self.cells]

    @property
    def differences(self) -> list[Difference]:
        """Every pair of models under each threat and method.

        **Source**: McNemar 1947 (Psychometrika 12) in its exact form; Holm 1979 (Scandinavian
        Journal of Statistics 6).
        """
        pairs = [
            (one, other)
            for one, other in combinations(self._side_by_side(), 2)
            if (one.threat, one.method) == (other.threat, other.method)
        ]
        counts = [in_one_alone(one.verdict.robust, other.verdict.robust) for one, other in pairs]
        values = [min(1.0, 2 * at_least(max(c), sum(c), 0.5)) for c in counts]
        return [
            Difference(
                one.threat,
                one.method,
                one.model,
                other.model,
                one.verdict.n,
                *count,
                value,
                holm,
                one.verdict.is_upper_bound or other.verdict.is_upper_bound,
            )
            for (one, other), count, value, holm in zip(
                pairs, counts, values, _holm(values), strict=True
            )
        ]


def compare(
    models: Mapping[str, nn.Module],
    data: Any,
    threats: Sequence[Threat | str] | Threat | str,
    methods: Sequence[str] | str = ("standard",),
    *,
    seed: int = 0,
    batch_size: int | None = None,
    fast: Fast = "auto",
    curves: bool = False,
    save_to: Path | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> Comparison:
    """Judges every model under every threat by every method, on the same images.

    - `models`: by name; each a `Classifier` or a module from images in [0, 1] to logits
    - `data`: `ImageData`, (images, labels), a `DataLoader` or a dataset
    - `threats`: as `Threat` or text, "linf:8/255"; `methods`: as `evaluation_attacks` takes them,
      each an evaluation of its own
    - `curves`: also robust accuracy at every radius, by FMN in each norm (an upper bound)
    - `save_to`: a folder of states; a call that was interrupted, or that has a model or a threat
      more, computes only what is not there
    - the rest is as in `evaluate`

    **Raises** ValueError for no model, threat or method, one given twice, and as `evaluate`.

    >>> from notbugs import build
    >>> import torch
    >>> nets = {f"seed {i}": build("linear", shape=(1, 4, 4), classes=3, seed=i) for i in (0, 1)}
    >>> x = torch.linspace(0.2, 0.8, 160).reshape(10, 1, 4, 4)
    >>> found = compare(nets, (x, nets["seed 0"](x).argmax(dim=1)), "linf:0.01", "pgd-5")
    >>> [r["model"] for r in found.records()], found.differences[0].a_only
    (['seed 0', 'seed 1'], 10)
    >>> print(found.markdown().splitlines()[2][:65])
    | linf:0.01 | pgd-5 | seed 0 | 100.0 | 100.0 | 72.2 – 100.0 | 9 |
    """
    if not isinstance(models, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise bad_type("models", "a mapping", models, "Name them: {'mine': model, 'other': other}.")
    wanted = [Threat.parse(t) if isinstance(t, str) else t for t in _listed(threats)]
    names = list(_listed(methods))
    for argument, values in (("models", list(models)), ("threats", wanted), ("methods", names)):
        if not values or len({*map(str, values)}) < len(values):
            raise bad_value(argument, "hold at least one, each once", list(map(str, values)))
    chosen = [(t, m, evaluation_attacks(m, t)) for t in wanted for m in names]  # checks the names
    made = [attacks for _, _, attacks in chosen]
    if any(attacks in made[:i] for i, attacks in enumerate(made)):
        raise bad_value("methods", "name each evaluation once", names)
    images = data if isinstance(data, ImageData) else given(data)
    known = {name: classifier_of(model, images.shape) for name, model in models.items()}
    if not isinstance(images, ImageData):
        images = images.named(max(model.classes for model in known.values()))
    for name, model in known.items():
        try:
            check_fits(model, images, "data")
        except ValueError as error:
            error.add_note(f"While: the model '{name}'")
            raise
    norms = list({threat.norm.name: threat.norm for threat in wanted}.values()) if curves else []
    done, count = 0, len(known) * (len(chosen) + len(norms))

    def part(fraction: float) -> None:
        progress((done + fraction) / count)

    cells, lines = list[Cell](), list[tuple[str, AccuracyCurve]]()
    for name, model in known.items():
        for threat, method, attacks in chosen:
            file = None
            if save_to is not None:
                key = identity(model, images, threat, attacks, seed, fast=fast)
                file = Path(save_to) / f"{key[:32]}{'-standard' * is_standard(method)}.json"
            verdict = evaluate(
                model,
                images,
                threat,
                attacks=attacks,
                seed=seed,
                batch_size=batch_size,
                fast=fast,
                progress=part,
                save_to=file,
                keep=True,
                diagnosis=is_standard(method),
            )
            cells.append(Cell(name, threat, method, verdict))
            done += 1
        for norm in norms if has_gradients(model, images) else ():
            nearest = _nearest(model, images, norm, seed, batch_size, fast, save_to, part)
            lines.append((name, nearest.curve()))
            done += 1
    return Comparison(tuple(cells), tuple(lines))


def _interval(ends: tuple[float, float], form: str) -> str:
    low, high = ends
    return f"{low:{form}} – {high:{form}}"


def _tests(differences: Sequence[Difference]) -> Table:
    rows = list[list[str]]()
    for found in differences:
        what = [str(found.threat), found.method, f"{found.a} − {found.b}", f"{found.points:+.1f}"]
        alone, interval = f"{found.a_only}/{found.b_only}", _interval(found.interval, "+.1f")
        p = "bound" if found.is_upper_bound else f"{found.p_holm:.2g}"
        rows.append([*what, interval, alone, p])
    return ["threat", "method", "models", "points", "95 %", "alone", "p (Holm)"], rows


def _listed(values: Any) -> Iterator[Any]:
    if not isinstance(values, str | Threat | Iterable):
        raise bad_type("threats, methods", "sequences", values)
    return iter((values,) if isinstance(values, str | Threat) else values)


def _holm(values: Sequence[float]) -> list[float]:
    """The values corrected by Holm's method, in their order."""
    order, largest = sorted(range(len(values)), key=values.__getitem__), 0.0
    corrected = [0.0] * len(values)
    for rank, i in enumerate(order):
        largest = max(largest, min(1.0, (len(values) - rank) * values[i]))
        corrected[i] = largest
    return corrected


@dataclass(frozen=True)
class _Stored:
    """Distances on disk; infinite ones are null."""

    identity: str
    attack: str
    norm: str
    right: list[bool]
    distance: list[float | None]


def _nearest(
    model: Classifier,
    data: ImageData,
    norm: AbstractSize,
    seed: int,
    batch_size: int | None,
    fast: Fast,
    save_to: Path | None,
    progress: Callable[[float], None],
) -> Distances:
    """The distances by FMN, computed or read."""
    attack, file, key = fmn(norm), None, ""
    if save_to is not None:
        key = identity(model, data, Threat(norm, 1.0), [attack], seed, fast=fast)
        file = Path(save_to) / f"{key[:32]}-distances.json"
        if file.exists():
            return _read(file, key, len(data))
    size = 256 if batch_size is None else batch_size
    found = distances(attack, model, data, seed=seed, batch_size=size, fast=fast, progress=progress)
    if file is not None:
        far = [d if math.isfinite(d) else None for d in found.distance.tolist()]
        stored = {
            "identity": key,
            "attack": found.attack,
            "norm": found.norm,
            "right": found.right.tolist(),
        }
        write_json(file, with_digest({**stored, "distance": far}), indent=None)
    return found


def _read(file: Path, key: str, n: int) -> Distances:
    try:
        stored = fit(_Stored, verify_digest(parse_json(file.read_bytes())))
        if stored.identity != key or not len(stored.right) == len(stored.distance) == n:
            raise ValueError("it is of another model, other images or another version")
    except (OSError, ValueError) as error:
        raise StoreError(f"'{file}' is damaged ({error}). {REMEDY}") from error
    far = [math.inf if d is None else d for d in stored.distance]
    return Distances(
        stored.attack,
        stored.norm,
        torch.tensor(stored.right),
        torch.tensor(far, dtype=torch.float64),
    )

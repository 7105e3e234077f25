"""Tables of means and standard deviations over seeds."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from notbugs.core.schema import read_json_file
from notbugs.experiments.claims import LEVEL, exceeds, mean, spread
from notbugs.experiments.plan import TrainedSet
from notbugs.experiments.stages import DAMAGED, NUMBERS
from notbugs.store import Store

COLUMNS = (
    "clean",
    "shifted",
    "robust_half_eps",
    "robust_eps",
    "true_labels",
    "source_success",
    "relative_error",
    "from_original",
    "distance",
)
PLANTED = ("planted_robust", "planted_nonrobust", "model_robust", "model_nonrobust")
ORDER = (
    "D",
    "D_adv",
    "D_R",
    "D_NR",
    "D_rand",
    "leak:D_rand",
    "D_det",
    "leak:D_det",
    "D_other",
    "leak:D_other",
)


@dataclass(frozen=True)
class Measured:
    """The numbers of one trained set for one seed."""

    set: str
    eps: float | None
    seed: int
    values: Mapping[str, float | None]


@dataclass(frozen=True)
class Numbers:
    """All numbers of a run, by set, radius and seed.

    `chance`: the accuracy of guessing, in percent, where it is known.
    """

    rows: tuple[Measured, ...]
    chance: float | None = None

    def learnt(self, name: str) -> bool | None:
        """Whether the models trained on a set are above chance on true or on shifted labels.

        None where the seeds do not decide it.
        """
        clean, shifted = self.seeds(name, "clean"), self.seeds(name, "shifted")
        if self.chance is None or not clean:
            return True
        # Each by itself, at a level shared between them: the larger of two guesses is above chance.
        columns = [values for values in (clean, shifted) if values]
        level = 1 - (1 - LEVEL) / len(columns)
        decisions = [exceeds(values, self.chance, level) for values in columns]
        return True if True in decisions else (None if None in decisions else False)

    def seeds(self, name: str, column: str) -> list[float]:
        """The column's value for each seed of a set, at its largest radius; empty if none."""
        rows = [r for r in self.rows if r.set == name]
        radii = [r.eps for r in rows if r.eps is not None]
        largest = max(radii) if radii else None
        largest_rows = sorted((r for r in rows if r.eps == largest), key=lambda r: r.seed)
        values = [r.values.get(column) for r in largest_rows]
        return [v for v in values if v is not None]

    def tables(self) -> dict[str, list[dict[str, object]]]:
        """The tables of results.json; "planted" where the truth is known."""
        tables = {"sets": self.table()}
        if self.seeds("D", PLANTED[0]):
            tables["planted"] = self.table(PLANTED)
        return tables

    def table(self, columns: Sequence[str] = COLUMNS) -> list[dict[str, object]]:
        """One row per set and radius: mean and `_std` over seeds of every column.

        A column of robust accuracy also has an `_upper_bound` where a masking check fired.
        """
        groups = {(r.set, r.eps) for r in self.rows}
        ordered = sorted(groups, key=lambda g: (ORDER.index(g[0]), g[1] or 0.0))
        return [self._row(name, eps, columns) for name, eps in ordered]

    def _row(self, name: str, eps: float | None, columns: Sequence[str]) -> dict[str, object]:
        rows = [r for r in self.rows if (r.set, r.eps) == (name, eps)]
        row: dict[str, object] = {"set": name, "eps": eps}
        for column in columns:
            values = [v for r in rows if (v := r.values.get(column)) is not None]
            row[column] = mean(values) if values else None
            row[f"{column}_std"] = spread(values) if values else None
            if any(r.values.get(f"{column}_upper_bound") for r in rows):
                row[f"{column}_upper_bound"] = 1.0  # a masking check fired for a seed
        return row | {"seeds": len(rows)}


def collect(rows: Iterable[TrainedSet], store: Store, classes: int) -> Numbers:
    """Reads the results of the `measure` stages; `classes` sets the chance level."""
    measured: list[Measured] = []
    for row in rows:
        path = store.get(row.numbers.kind, row.numbers.key).path / NUMBERS
        values = read_json_file(dict[str, float | None], path, remedy=DAMAGED)
        measured.append(Measured(row.set, row.eps, row.seed, values))
    return Numbers(tuple(measured), 100 / classes)

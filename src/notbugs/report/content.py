"""What pages and terminals show of a run, as text: tables, claims, conditions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from notbugs.core.errors import DataError
from notbugs.engine.threat import radius
from notbugs.experiments import page
from notbugs.experiments.experiment import Experiment
from notbugs.experiments.numbers import Cell, Numbers
from notbugs.experiments.papers import PAPERS
from notbugs.report.figures.kinds import Drawn, place_of
from notbugs.report.formatting import (
    NONE,
    OPEN,
    any_number,
    duration,
    norm_name,
    verdict,
)
from notbugs.report.reading import REMEDY, Arrays

PROGRAMS = ("notbugs", "torch", "numpy", "python")


@dataclass(frozen=True)
class DrawnTable:
    """A table as text: its caption, how its columns are written, and rows of (name, cells).

    - `prose`: the cells are sentences
    """

    caption: str
    columns: Sequence[page.Column]
    rows: Sequence[tuple[str, Sequence[str]]]
    prose: bool = False


@dataclass(frozen=True)
class Content:
    """A run's results, with the paper that they are of and what figures are drawn from."""

    experiment: Experiment[Any]
    results: Mapping[str, Any]
    drawn: Drawn

    @classmethod
    def of(cls, results: Mapping[str, Any], pictures: Arrays) -> "Content":
        """**Raises** DataError where the results are of an unknown paper."""
        experiment = PAPERS.get(str(results["experiment"]))
        if experiment is None:
            raise DataError(f"The results are of an unknown paper. {REMEDY}")
        conditions, numbers = results["conditions"], Numbers(results["tables"])
        settings = _settings(conditions["config"])
        drawn = Drawn(numbers, pictures, experiment.columns, conditions["classes"], settings)
        return cls(experiment, results, drawn)

    @property
    def seeds(self) -> str:
        """The number of seeds in words."""
        seeds = self.results["conditions"]["config"]["seeds"]
        return f"{seeds} seed{'s' * (seeds != 1)}"

    def caption(self, figure: page.Figure) -> str:
        """A figure's caption with what it says of the run, so that it can stand alone."""
        text, dataset = self.drawn.worded(figure.caption), self.results["dataset"]
        if isinstance(figure, page.PictureRows | page.Curves):
            return f"{text} {dataset}, seed 0."
        whiskers = isinstance(figure, page.Bars | page.Lines) and self.seeds != "1 seed"
        return f"{text} {dataset}, {self.seeds}{'; whiskers: standard deviation' * whiskers}."

    def has(self, table: page.Table | page.Questions) -> bool:
        """Whether the run holds something of the table."""
        if isinstance(table, page.Table):
            return table.table in self.results["tables"]
        return any(self._known(question) for question in table.questions)

    def _known(self, question: page.Question) -> list[Cell]:
        """The cells that have numbers; none at all without the last one's row, the control."""
        known = [cell for cell in question.cells if self.drawn.numbers.mean(cell) is not None]
        return known if question.cells[-1].row in {cell.row for cell in known} else []

    def table(self, table: page.Table | page.Questions) -> DrawnTable:
        """A table as text; columns that apply to no row are left out."""
        if isinstance(table, page.Questions):
            return self._asked(table)
        known = self.drawn.numbers.columns(table.table)
        names = [n for n in table.columns or known if n in known]
        columns = self.drawn.columns
        limit = None if table.limit is None else self.drawn.limit(table.limit)
        rows = [
            (
                row + table.beyond * (limit is not None and (place_of(row)[1] or 0) > limit),
                [self._cell(Cell(table.table, row, name)) for name in names],
            )
            for row in self.drawn.numbers.tables[table.table]
        ]
        caption = self.drawn.worded(table.caption)
        return DrawnTable(caption, [columns.get(n, page.Column(n)) for n in names], rows)

    def _asked(self, table: page.Questions) -> DrawnTable:
        """Each question with the numbers that answer it, named by row and column."""
        rows = list[tuple[str, Sequence[str]]]()
        for question in table.questions:
            by_row: dict[str, list[str]] = {}
            for cell in self._known(question):
                text = f"{self._cell(cell)} ({self.drawn.title(cell.column)})"
                by_row.setdefault(cell.row, []).append(text)
            if by_row:
                control = self.drawn.worded(question.control)
                numbers = "; ".join(f"{row}: {', '.join(own)}" for row, own in by_row.items())
                rows.append((question.question, [control, numbers]))
        columns = page.Column("Control"), page.Column("Numbers")
        return DrawnTable(self.drawn.worded(table.caption), columns, rows, prose=True)

    def _cell(self, cell: Cell) -> str:
        numbers, column = self.drawn.numbers, self.drawn.columns.get(cell.column)
        mean, spread = numbers.mean(cell), numbers.spread(cell)
        if mean is None:
            return NONE
        if column is None or column.digits is None:
            text = any_number(mean, spread)
        else:
            text = f"{mean:.{column.digits}f}"
            text = text if spread is None else f"{text} ± {spread:.{column.digits}f}"
        some = numbers.seeds(cell)
        text = text if some is None else f"{text} (n = {some})"
        return f"≤ {text}" if numbers.is_upper_bound(cell) else text

    def claims(self) -> list[dict[str, Any]]:
        """The rows of the table of claims."""
        return [_claim(claim) for claim in self.results["claims"]]

    def counts(self) -> dict[str, int | str]:
        """The number of claims that hold, do not, and are undecided, and what the last need."""
        kinds = [verdict(c["holds"], c["seeds"]).kind for c in self.results["claims"]]
        return {kind: kinds.count(kind) for kind in ("yes", "no", "open")} | {"needs": OPEN}

    def conditions(self) -> dict[str, str]:
        """The conditions of the run by name; what it does not say is left out."""
        results, conditions = self.results, self.results["conditions"]
        images, shape = conditions["images"], conditions["shape"]
        facts = {
            "Dataset": results["dataset"],
            "Images": f"{images['train']:,} to train, {images['val']:,} held out, "
            f"{images['test']:,} to test; {shape[1]} × {shape[2]} pixels, {shape[0]} "
            f"channel{'s' * (shape[0] != 1)}, {len(conditions['classes'])} classes",
            "Seeds": f"{self.seeds} (each varies split, models and attacks)",
            "Preset": results["preset"],
            **_machine_and_time(results),
        }
        return {name: value for name, value in facts.items() if value}


def _settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings as texts name them: the norm as L2, radii as 1 or 8/255."""
    norm = str(config.get("norm", ""))
    named = {n: radius(norm, v) if isinstance(v, float) else v for n, v in config.items()}
    return named | ({"norm": norm_name(norm)} if norm else {})


def _claim(row: Mapping[str, Any]) -> dict[str, Any]:
    rule = "; ".join(filter(None, (row["rule"], row["why"])))
    return {
        "statement": row["statement"],
        "published": row["published"],
        "ours": any_number(row["ours"], row["std"]),
        "control": any_number(row["control"]),
        "rule": rule + (f" (bound: {row['fixed']})" if row["fixed"] else ""),
        "verdict": verdict(row["holds"], row["seeds"]),
    }


def _machine_and_time(results: Mapping[str, Any]) -> dict[str, str]:
    versions, gpu = results["versions"], results["versions"].get("gpu")
    machine = (
        versions.get("machine"),
        f"{versions['cores']} cores" if "cores" in versions else None,
        "no GPU" if gpu in (None, "none") else gpu,
    )
    return {
        "Machine": ", ".join(str(part) for part in machine if part),
        "Versions": ", ".join(f"{n} {versions[n]}" for n in PROGRAMS if n in versions),
        "Time": f"{duration(results['seconds'])} of compute in this run, "
        f"{duration(results['seconds_total'])} including stored results; "
        f"{duration(results['seconds_wall'])} of wall time",
    }

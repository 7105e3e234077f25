"""The page and the terminal tables of a paper, from its stored results."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table as RichTable

from notbugs.core.errors import DataError
from notbugs.experiments import page
from notbugs.experiments.claims import FEWEST
from notbugs.experiments.experiment import Experiment
from notbugs.experiments.numbers import Cell, Numbers
from notbugs.experiments.papers import PAPERS
from notbugs.experiments.results import PICTURES, RESULTS
from notbugs.report import content
from notbugs.report.figures.kinds import Drawn, draw
from notbugs.report.figures.style import DARK, LIGHT, png, svg
from notbugs.report.formatting import NONE, any_number
from notbugs.report.reading import REMEDY, checked, read_samples
from notbugs.report.rendering import embedded, template, write_page
from notbugs.report.schemas import PaperResult
from notbugs.report.terminal import claims_table, count_text, plain_text


def write_paper(folder: Path) -> Path:
    """Writes `folder/report.html` and its figures, as PNG and SVG, from the run's results.

    **Raises** DataError where `folder` holds no results of a paper; StoreError where it cannot
    be written.
    """
    results = checked(PaperResult, folder / RESULTS)
    experiment = PAPERS.get(str(results["experiment"]))
    if experiment is None:
        raise DataError(f"'{folder / RESULTS}' is of an unknown paper. {REMEDY}")
    drawn = Drawn(Numbers(results["tables"]), read_samples(folder / PICTURES), experiment.columns)
    figures = [
        {
            f"figure-{i + 1}-{j + 1}": figure
            for j, figure in enumerate(section.figures)
            if drawn.has(figure)
        }
        for i, section in enumerate(experiment.sections)
    ]
    named = {name: figure for own in figures for name, figure in own.items()}
    drawings = {name: draw(figure, drawn, LIGHT) for name, figure in named.items()}
    light = {name: png(drawing) for name, drawing in drawings.items()}
    vectors = {name: svg(drawing) for name, drawing in drawings.items()}
    dark = {name: png(draw(figure, drawn, DARK)) for name, figure in named.items()}
    pictures = {n: {"light": embedded(light[n]), "dark": embedded(dark[n])} for n in named}
    text = _render(experiment, results, drawn, figures, pictures)
    return write_page(folder, text, light, vectors)


def _render(
    experiment: Experiment[Any],
    results: Mapping[str, Any],
    drawn: Drawn,
    figures: Sequence[Mapping[str, page.Figure]],
    pictures: Mapping[str, Mapping[str, str]],
) -> str:
    sections = [
        {
            "title": section.title,
            "text": section.text,
            "figures": [
                (name, f"{figure.caption} {_conditions(figure, results)}")
                for name, figure in own.items()
            ],
            "tables": [
                _table(table, drawn) for table in section.tables if table.table in results["tables"]
            ],
        }
        for section, own in zip(experiment.sections, figures, strict=True)
    ]
    return template("paper.html.j2").render(
        title=results["dataset"],
        experiment=experiment,
        claims=[content.any_claim(claim) for claim in results["claims"]],
        counts=content.counts(results["claims"]),
        results=results,
        conditions=_facts(results),
        sections=sections,
        settings=json.dumps(results["conditions"]["config"], indent=1, ensure_ascii=False),
        pictures=pictures,
    )


def _conditions(figure: page.Figure, results: Mapping[str, Any]) -> str:
    """What a caption says of the run, so that the figure can stand alone."""
    if isinstance(figure, page.PictureRows):
        return f"{results['dataset']}, seed 0."
    seeds = results["conditions"]["config"]["seeds"]
    whiskers = isinstance(figure, page.Bars | page.Lines) and seeds > 1
    spread = "; whiskers: standard deviation" * whiskers
    return f"{results['dataset']}, {seeds} seed{'s' * (seeds != 1)}{spread}."


def _facts(results: Mapping[str, Any]) -> dict[str, str]:
    conditions = results["conditions"]
    images, shape = conditions["images"], conditions["shape"]
    facts = {
        "Dataset": results["dataset"],
        "Images": f"{images['train']:,} to train, {images['val']:,} held out, "
        f"{images['test']:,} to test; {shape[1]} × {shape[2]} pixels",
        "Seeds": f"{conditions['config']['seeds']} (each varies split, models and attacks)",
        "Preset": results["preset"],
        **content.machine_and_time(results),
    }
    return {name: value for name, value in facts.items() if value}


def _cell(drawn: Drawn, cell: Cell) -> str:
    column = drawn.columns.get(cell.column)
    mean, spread = drawn.numbers.mean(cell), drawn.numbers.spread(cell)
    if column is None or column.digits is None:
        return any_number(mean, spread)
    if mean is None:
        return NONE
    text = f"{mean:.{column.digits}f}"
    return text if spread is None else f"{text} ± {spread:.{column.digits}f}"


def _table(table: page.Table, drawn: Drawn) -> dict[str, Any]:
    names = table.columns or tuple(drawn.numbers.columns(table.table))
    columns = [drawn.columns.get(name, page.Column(name)) for name in names]
    return {
        "caption": table.caption,
        "columns": columns,
        "rows": [
            (row, [_cell(drawn, Cell(table.table, row, name)) for name in names])
            for row in drawn.numbers.tables[table.table]
        ],
    }


def print_paper(results: Mapping[str, Any], console: Console) -> None:
    """Prints the tables of the page's sections, then the claims."""
    experiment = PAPERS[str(results["experiment"])]
    drawn = Drawn(Numbers(results["tables"]), {}, experiment.columns)
    seeds = results["conditions"]["config"]["seeds"]
    console.print(plain_text(f"{experiment.name} · {results['dataset']}", style="bold"))
    console.print(f"Mean ± standard deviation over {seeds} seed{'s' * (seeds != 1)}.")
    if results["preset"] == "smoke":
        console.print("Preset smoke only shows that everything runs: its verdicts say nothing.")
    for section in experiment.sections:
        for table in section.tables:
            if table.table in results["tables"]:
                console.print(_rich(_table(table, drawn)))
    console.print(claims_table(results, any_number))
    for claim in results["claims"]:
        if claim["holds"] is None and seeds >= FEWEST:
            console.print(plain_text(f"Undecided: {claim['statement']}: {claim['why']}."))
    console.print(count_text(results["claims"]))


def _rich(table: Mapping[str, Any]) -> RichTable:
    drawn = RichTable(
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
        title=table["caption"],
        title_justify="left",
    )
    drawn.add_column("", no_wrap=True)
    for column in table["columns"]:
        unit = f" {column.unit}" if column.unit else ""
        drawn.add_column(f"{column.title}{unit}", justify="right")
    for name, cells in table["rows"]:
        drawn.add_row(plain_text(name), *(cell.replace(" ± ", " ±") for cell in cells))
    return drawn

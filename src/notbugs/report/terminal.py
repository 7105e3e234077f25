"""A run's tables in the terminal."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from notbugs.core.visible import visible
from notbugs.experiments import page
from notbugs.experiments.numbers import FEWEST
from notbugs.report.content import Content, DrawnTable
from notbugs.report.formatting import NONE, OPEN, any_number, verdict

STYLES = {"yes": "green", "no": "bold red", "open": "yellow"}


def print_result(results: Mapping[str, Any], console: Console) -> None:
    """Prints the tables of the page's sections, then the claims.

    On a console that is too narrow for a table its last columns are left out, and named.
    """
    content = Content.of(results, {})
    seeds = results["conditions"]["config"]["seeds"]
    title = plain_text(f"{results['experiment']} · {results['dataset']}", style="bold")
    title.append(f" · mean ± std over {seeds} seed{'s' * (seeds != 1)}", style="not bold")
    console.print(title)
    if results["preset"] == "smoke":
        console.print("Preset smoke only shows that everything runs: its verdicts say nothing.")
    for section in content.experiment.sections:
        for table in section.tables:
            if isinstance(table, page.Table) and content.has(table):
                _print_table(content.table(table), console)
    console.print(claims_table(results))
    for claim in results["claims"]:
        if claim["holds"] is None and seeds >= FEWEST:
            console.print(plain_text(f"Undecided: {claim['statement']}: {claim['why']}."))
    console.print(count_text(results["claims"]))


def plain_text(words: Any, style: str = "") -> Text:
    """Escaped text without markup."""
    return Text(visible(str(words)), style=style)


def _print_table(table: DrawnTable, console: Console) -> None:
    """Prints a table with as many columns as fit."""
    shown = len(table.columns)
    while shown > 1 and _width(_rich(table, shown), console) > console.width:
        shown -= 1
    console.print(_rich(table, shown))
    if shown < len(table.columns):
        named = ", ".join(column.title for column in table.columns[shown:])
        text = f"Left out, for the width: {named}. They are in report.html."
        console.print(plain_text(text), soft_wrap=True)


def _width(table: Table, console: Console) -> int:
    wide = console.options.update(width=1000)
    return Measurement.get(console, wide, table).maximum


def _rich(table: DrawnTable, shown: int) -> Table:
    rich = Table(
        box=box.SIMPLE_HEAD,
        padding=(0, 1),
        pad_edge=False,
        title=table.caption,
        title_justify="left",
    )
    rich.add_column("", no_wrap=True)
    for column in table.columns[:shown]:
        words = f"{column.title} {column.unit}".rstrip()
        rich.add_column(words.replace(" ", "\n", 1), justify="right", no_wrap=True)
    for name, cells in table.rows:
        short = [cell.replace(" ± ", " ±").replace("≤ ", "≤") for cell in cells[:shown]]
        style = "dim" if page.is_control(name) else None
        rich.add_row(plain_text(name), *short, style=style)
    return rich


def claims_table(results: Mapping[str, Any]) -> Table:
    """The claims with their verdicts."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("verdict", no_wrap=True)
    table.add_column("claim", ratio=3)
    table.add_column("published", ratio=2)
    table.add_column("ours", justify="right", no_wrap=True)
    table.add_column("control", justify="right", no_wrap=True)
    for claim in results["claims"]:
        outcome = verdict(claim["holds"], claim["seeds"])
        table.add_row(
            Text(f"{outcome.mark} {outcome.words}", style=STYLES[outcome.kind]),
            plain_text(claim["statement"]),
            plain_text(claim["published"]),
            any_number(claim["ours"], claim["std"]).replace(" ± ", " ±"),
            any_number(claim["control"]),
        )
    return table


def count_text(claims: Sequence[Mapping[str, Any]]) -> Text:
    """How many claims hold, do not, and are undecided."""
    kinds = [verdict(c["holds"], c["seeds"]).kind for c in claims]
    text = Text("Claims: ")
    for kind, words in (("yes", "hold"), ("no", "do not hold"), ("open", "undecided")):
        if kind == "yes" or kind in kinds:
            text.append(f"{kinds.count(kind)} {words}", style=STYLES[kind]).append(", ")
    text.right_crop(2)
    if "open" in kinds:
        text.append(f" ({NONE} {OPEN})")
    return text.append(".")

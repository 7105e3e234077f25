"""A run's tables in the terminal."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from notbugs.core.visible import visible
from notbugs.report.formatting import (
    NONE,
    OPEN,
    any_number,
    base_name,
    cell,
    eps_text,
    norm_name,
    number,
    verdict,
    with_spread,
)
from notbugs.report.reading import SetRow, set_row

COMPACT = {
    "clean": "clean",
    "shifted": "shifted\ny + 1",
    "robust_half_eps": "robust\nε/2",
    "robust_eps": "robust\nε",
}
REST = {"true_labels": "true\nlabels", "source_success": "source\nfooled"}
DISPENSABLE = ("source_success", "robust_half_eps", "true_labels", "shifted")
"""Columns that a narrow console leaves out, the least important first."""
ENGSTROM_COLUMNS = {
    "inversion": {
        "relative_error": "match\nerror",
        "ssim": "SSIM",
        "lpips": "LPIPS",
        "distance": "L2",
    },
    "visualisation": {
        "neighbours": "neighbours\nagree %",
        "judge": "judge\nagrees %",
        "high_frequencies": "high\nfreq. %",
    },
    "manipulation": {"missed": "missed", "neighbours": "neighbours\nagree %"},
    "gradients": {"high_frequencies": "high\nfreq. %", "board_2": "checker-\nboard"},
}
"""The columns of each table of engstrom2019 that the terminal shows."""
STYLES = {"yes": "green", "no": "bold red", "open": "yellow"}


def print_result(result: Mapping[str, Any], console: Console) -> None:
    """Prints the content of results.json: the table of sets, then the claims.

    Numbers are percent of the test images, means ± standard deviation over seeds. The
    tables fit into 80 columns; on a narrower console columns are left out and named.
    """
    conditions = result["conditions"]
    console.print(_title(result, conditions))
    _print_sets(result, console)
    console.print(claims_table(result))
    console.print(count_text(result["claims"]))


def print_engstrom_result(result: Mapping[str, Any], console: Console) -> None:
    """Prints the results of engstrom2019: the main tables, then the claims."""
    seeds = result["conditions"]["config"]["models"]["seeds"]
    text = plain_text(f"{result['experiment']} · {result['dataset']}", style="bold")
    text.append(f" · mean ± std over {seeds} seed{'s' * (seeds != 1)}", style="not bold")
    console.print(text)
    if result["preset"] == "smoke":
        console.print("Preset smoke only shows that everything runs: its verdicts say nothing.")
    for name, columns in ENGSTROM_COLUMNS.items():
        console.print(_engstrom_table(name, result["tables"].get(name, []), columns))
    console.print(claims_table(result, any_number))
    console.print(count_text(result["claims"]))


def plain_text(words: Any, style: str = "") -> Text:
    """Escaped text without markup."""
    return Text(visible(str(words)), style=style)


def _engstrom_table(
    name: str, rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]
) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column(name, no_wrap=True)
    for head in columns.values():
        table.add_column(head, justify="right", no_wrap=True)
    for row in rows:
        cells = [any_number(row.get(c), row.get(f"{c}_std")).replace(" ± ", " ±") for c in columns]
        table.add_row(plain_text(row["row"]), *cells)
    return table


def _title(result: Mapping[str, Any], conditions: Mapping[str, Any]) -> Text:
    config = conditions["config"]
    eps = float(config["eps_eval"])
    norm = str(config["norm"])
    seeds = max((int(r.get("seeds", 1)) for r in result["tables"]["sets"]), default=1)
    text = plain_text(f"{result['experiment']} · {result['dataset']}", style="bold")
    text.append(
        f" · percent, mean ± std over {seeds} seed{'s' * (seeds != 1)} · "
        f"{norm_name(norm)} ε = {eps_text(norm, eps)} · chance "
        f"{100 / len(conditions['classes']):.3g} %",
        style="not bold",
    )
    return text


def _print_sets(result: Mapping[str, Any], console: Console) -> None:
    """Prints the table with less padding, then fewer columns, until it fits."""
    table = _sets_table(result, 1, ())
    left_out: tuple[str, ...] = ()
    for count in range(len(DISPENSABLE) + 1):
        if _width(table, console) <= console.width:
            break
        left_out = DISPENSABLE[:count]
        table = _sets_table(result, 0, left_out)
    console.print(table)
    if left_out:
        named = ", ".join((COMPACT | REST)[column].replace("\n", " ") for column in left_out)
        console.print(f"Left out, for the width: {named}. They are in report.html.")


def _width(table: Table, console: Console) -> int:
    wide = console.options.update(width=1000)
    return Measurement.get(console, wide, table).maximum


def _sets_table(result: Mapping[str, Any], padding: int, left_out: Sequence[str]) -> Table:
    norm = str(result["conditions"]["config"]["norm"])
    table = Table(box=box.SIMPLE_HEAD, padding=(0, padding), pad_edge=False)
    table.add_column("trained on", no_wrap=True)
    table.add_column("built\nat ε", justify="right", no_wrap=True)
    shown = {name: head for name, head in (COMPACT | REST).items() if name not in left_out}
    for head in shown.values():
        table.add_column(head, justify="right", no_wrap=True)
    for values in result["tables"]["sets"]:
        row = set_row(values)
        cells = [_short(row, c) if c in COMPACT else number(row.mean(c)) for c in shown]
        style = "dim" if row.is_control else None
        table.add_row(plain_text(_name(row)), eps_text(norm, row.eps), *cells, style=style)
    return table


def _name(row: SetRow) -> str:
    return f"  control {base_name(row.name)}" if row.is_control else row.name


def _short(row: SetRow, column: str) -> str:
    return cell(row, column).replace(" ± ", " ±").replace("≤ ", "≤")


def claims_table(result: Mapping[str, Any], number: Callable[..., str] = with_spread) -> Table:
    """The claims with their verdicts; `number` writes a mean and its deviation."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False)
    table.add_column("verdict", no_wrap=True)
    table.add_column("claim", ratio=3)
    table.add_column("published", ratio=2)
    table.add_column("ours", justify="right", no_wrap=True)
    table.add_column("control", justify="right", no_wrap=True)
    for claim in result["claims"]:
        outcome = verdict(claim["holds"], claim["seeds"])
        table.add_row(
            Text(f"{outcome.mark} {outcome.words}", style=STYLES[outcome.kind]),
            plain_text(claim["statement"]),
            plain_text(claim["published"]),
            number(claim["ours"], claim["std"]).replace(" ± ", " ±"),
            number(claim["control"], None),
        )
    return table


def count_text(claims: Any) -> Text:
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

from io import StringIO

import pytest
from rich.console import Console

from notbugs.experiments.numbers import Cell, Numbers
from notbugs.report import print_result
from notbugs.report.formatting import OPEN
from report.made_run import Made, make_result

SHOWN = {"sets": ("clean", "shifted"), "robust": ("clean", "robust_half_eps", "robust_eps")}


def printed(result, width=100):
    console = Console(file=StringIO(), width=width, color_system=None)
    print_result(result, console)
    return console.file.getvalue()


def numbers_of(result, table, row) -> dict[str, str]:
    """The numbers of a row as they are printed, by column."""
    numbers = Numbers(result["tables"])
    found = {}
    for column in SHOWN[table]:
        cell = Cell(table, row, column)
        found[column] = f"{numbers.mean(cell):.1f} ±{numbers.spread(cell):.1f}"
    return found


def line_of(text, row) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(f"{row} "))


def test_the_tables_fit_a_hundred_columns() -> None:
    text = printed(make_result(Made()))
    rows = [x for x in text.splitlines() if x.strip().startswith(("D_", "leak:"))]
    assert len(rows) == 6 + 18 + 3
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "…" not in text


@pytest.mark.parametrize("width", [48, 50, 60, 70, 80, 90, 100, 120])
def test_no_number_is_cut_at_any_width(width) -> None:
    result = make_result(Made())
    text = printed(result, width)
    sets = text.split("verdict", maxsplit=1)[0]
    assert "…" not in sets
    lines = [line for line in sets.splitlines() if not line.startswith("Left out")]
    assert max(len(line) for line in lines) <= width
    whole = len(line_of(printed(result, 400), "D_R").rstrip())
    assert ("Left out, for the width" in sets) == (width < whole)
    line, shown = line_of(sets, "D_R"), numbers_of(result, "robust", "D_R")
    assert shown["clean"] in line
    assert (shown["robust_eps"] in line) == (width >= 60)
    last = any("Chance" in x for x in sets.splitlines() if x.startswith("Left out"))
    assert last == (width < whole)


def test_every_set_is_printed_with_its_numbers() -> None:
    result = make_result(Made())
    text = printed(result, 140)
    for table in SHOWN:
        for row, values in result["tables"][table].items():
            line = line_of(text, row)
            assert all(number in line for number in numbers_of(result, table, row).values())
            assert f"{values['true_labels'][1]:.1f}" in line
    assert "ε is L2 1." in text
    marked = [x.split()[:4] for x in text.splitlines() if x.strip().startswith("D_det at")]
    assert [words[3] == "*" for words in marked] == [False, True, True]
    assert "over 3 seeds" in text.splitlines()[0]


def test_verdicts_are_printed_whatever_they_are() -> None:
    text = printed(make_result(Made()))
    assert "✓ holds" in text
    assert "✗ does not hold" in text
    assert "– undecided at" in text
    assert f"Claims: 2 hold, 1 do not hold, 1 undecided (– {OPEN})." in text
    assert "80.2 ±1.7" in text
    assert "Undecided: D_other beats <b>its</b> control: the bounds disagree." in text


def test_one_seed_prints_no_deviation() -> None:
    text = printed(make_result(Made(seeds=1, radii=(2.0,), norm="linf", eps_eval=8 / 255)))
    assert "±" not in text.split("\n", 1)[1]
    assert "over 1 seed" in text
    assert "L∞ 8/255" in text


def test_names_in_brackets_are_not_styles() -> None:
    result = make_result(Made(title="[red]mine[/red] [/]"))
    assert "[red]mine[/red] [/]" in printed(result)

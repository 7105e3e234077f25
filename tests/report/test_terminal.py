from io import StringIO

import pytest
from rich.console import Console

from notbugs.report import print_result
from notbugs.report.formatting import OPEN
from report.made_run import Made, make_result


def printed(result, width=100):
    console = Console(file=StringIO(), width=width, color_system=None)
    print_result(result, console)
    return console.file.getvalue()


def test_the_tables_fit_a_hundred_columns() -> None:
    text = printed(make_result(Made()), width=400)
    sets = [x for x in text.splitlines() if x.strip().startswith(("D_", "control"))]
    assert len(sets) == 21
    assert max(len(line.rstrip()) for line in sets) <= 100
    narrow = printed(make_result(Made()))
    assert max(len(line) for line in narrow.splitlines()) <= 100
    assert "…" not in narrow


@pytest.mark.parametrize("width", [48, 50, 60, 70, 80, 90, 100])
def test_no_number_is_cut_at_any_width(width) -> None:
    result = make_result(Made())
    text = printed(result, width)
    sets = text.split("verdict", maxsplit=1)[0]
    assert "…" not in sets
    assert max(len(line) for line in sets.splitlines()) <= width
    assert ("Left out, for the width" in sets) == (width < 80)
    rows = [line for line in sets.splitlines() if line.startswith(" D_det ")]
    row = [r for r in result["tables"]["sets"] if r["set"] == "D_det"]
    for line, values in zip(rows, row, strict=True):
        assert f"{values['clean']:.1f} ±{values['clean_std']:.1f}" in line
        assert f"{values['robust_eps']:.1f} ±{values['robust_eps_std']:.1f}" in line
        assert (f"{values['source_success']:.1f}" in line) == (width >= 80)


def test_every_set_is_printed_with_its_numbers() -> None:
    result = make_result(Made())
    lines = printed(result).splitlines()
    for row in result["tables"]["sets"]:
        name = row["set"].replace("leak:", "control ")
        eps = "–" if row["eps"] is None else f"{row['eps']:g}"
        line = next(x for x in lines if x.split()[: len(name.split()) + 1] == [*name.split(), eps])
        for column in ("clean", "shifted", "robust_half_eps", "robust_eps"):
            assert f"{row[column]:.1f} ±{row[column + '_std']:.1f}" in line
        assert f"{row['true_labels']:.1f}" in line
    assert "L2 ε = 1" in lines[0]
    assert "over 3 seeds" in lines[0]


def test_verdicts_are_printed_whatever_they_are() -> None:
    text = printed(make_result(Made()))
    assert "✓ holds" in text
    assert "✗ does not hold" in text
    assert "– undecided at" in text
    assert f"Claims: 2 hold, 1 do not hold, 1 undecided (– {OPEN})." in text
    assert "80.2 ±1.7" in text


def test_one_seed_prints_no_deviation() -> None:
    text = printed(make_result(Made(seeds=1, radii=(2.0,), norm="linf", eps_eval=8 / 255)))
    assert "±" not in text.split("\n", 1)[1]
    assert "over 1 seed ·" in text
    assert "L∞ ε = 8/255" in text


def test_names_in_brackets_are_not_styles() -> None:
    result = make_result(Made(title="[red]mine[/red] [/]"))
    assert "[red]mine[/red] [/]" in printed(result)

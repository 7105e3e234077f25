import pytest

from notbugs.report import terminal
from notbugs.report.formatting import (
    cell,
    duration,
    eps_text,
    math_name,
    number,
    verdict,
    with_spread,
)
from notbugs.report.reading import set_row


@pytest.mark.parametrize(
    ("norm", "eps", "text"),
    [
        ("l2", 0.5, "0.5"),
        ("l2", 2.0, "2"),
        ("linf", 8 / 255, "8/255"),
        ("linf", 0.03, "0.03"),
        ("l2", 0.123456, "0.123456"),
        ("linf", 8.0000001 / 255, repr(8.0000001 / 255)),
        ("l2", None, "–"),
    ],
)
def test_radii(norm, eps, text) -> None:
    assert eps_text(norm, eps) == text


def test_numbers_and_spreads() -> None:
    assert number(None) == "–"
    assert number(62.468) == "62.5"
    assert with_spread(62.468, 0.908) == "62.5 ± 0.9"
    assert with_spread(62.468, None) == "62.5"
    assert with_spread(None, None) == "–"
    assert with_spread(0.01589, 0.00116, percent=False) == "0.016 ± 0.001"


def test_a_cell_knows_what_is_percent() -> None:
    row = set_row({"set": "D_R", "eps": None, "clean": 98.07, "clean_std": 0.5, "distance": 0.4321})
    assert cell(row, "clean") == "98.1 ± 0.5"
    assert cell(row, "distance") == "0.432"
    assert cell(row, "unheard_of") == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.4, "0.4 s"), (8.2, "8 s"), (125, "2 min 05 s"), (4200, "1 h 10 min"), (None, "–")],
)
def test_durations(seconds, text) -> None:
    assert duration(seconds) == text


def test_verdicts_differ_in_mark_and_words() -> None:
    marks = {verdict(h, 3).mark for h in (True, False, None)}
    assert marks == {"✓", "✗", "–"}
    assert verdict(None, 3).words == "undecided at 3 seeds"
    assert verdict(None, 1).words == "undecided at 1 seed"


def test_names_are_typeset_only_where_we_know_them() -> None:
    assert math_name("D") == "$D$"
    assert math_name("leak:D_det") == r"$D_{\mathrm{det}}$"
    assert math_name("cost $5") == r"cost \$5"


def test_a_number_beside_a_firing_check_is_marked_wherever_a_table_shows_it() -> None:
    measured = {"set": "D", "eps": None, "clean": 98.0, "robust_eps": 95.0, "robust_eps_std": 1.0}
    row = set_row(measured | {"robust_eps_upper_bound": 1.0})
    assert cell(row, "robust_eps") == "≤ 95.0 ± 1.0"
    assert cell(row, "clean") == "98.0"
    assert cell(set_row(measured), "robust_eps") == "95.0 ± 1.0"
    assert row.columns == ("clean", "robust_eps")
    assert terminal._short(row, "robust_eps") == "≤95.0 ±1.0"

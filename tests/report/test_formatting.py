import pytest

from notbugs.experiments import page
from notbugs.report.content import Content
from notbugs.report.formatting import any_number, duration, norm_name, verdict
from report.made_run import Made, make_result

TABLE = page.Table("sets", "All sets.", limit="eps_eval", beyond=" *")


def result_of(rows, **changes):
    """A made-up result with other rows of sets."""
    return make_result(Made(**changes)) | {"tables": {"sets": rows}}


def cells(rows, table: page.Table = TABLE) -> dict[str, dict[str, str]]:
    """The cells of a table as they are shown, by row and head."""
    drawn = Content.of(result_of(rows), {}).table(table)
    heads = [column.title for column in drawn.columns]
    return {name: dict(zip(heads, shown, strict=True)) for name, shown in drawn.rows}


@pytest.mark.parametrize(
    ("norm", "eps", "text"),
    [
        ("l2", 0.5, "0.5"),
        ("l2", 2.0, "2"),
        ("linf", 8 / 255, "8/255"),
        ("linf", 0.03, "0.03"),
        ("l2", 0.123456, "0.123456"),
        ("linf", 8.0000001 / 255, repr(8.0000001 / 255)),
    ],
)
def test_radii(norm, eps, text) -> None:
    content = Content.of(make_result(Made(norm=norm, eps_eval=eps)), {})
    assert content.drawn.worded("{norm} {eps_eval}") == f"{norm_name(norm)} {text}"


def test_numbers_and_spreads() -> None:
    assert any_number(None) == "–"
    assert any_number(62.468) == "62.5"
    assert any_number(62.468, 0.908) == "62.5 ± 0.91"
    assert any_number(0.01589, 0.00116) == "0.0159 ± 0.0012"


def test_a_cell_knows_its_unit() -> None:
    columns = {
        "clean": [97.57, 98.57],
        "distance": [0.4321],
        "unheard_of": [0.01234],
        "shifted": [None],
    }
    (shown,) = cells({"D_R": columns}).values()
    assert shown == {
        "Clean": "98.1 ± 0.7",
        "Distance": "0.432",
        "unheard_of": "0.0123",
    }
    two = cells({"D_R": columns, "D": {"clean": [50.0]}})
    assert two["D"] == {"Clean": "50.0", "Distance": "–", "unheard_of": "–"}


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


def test_a_number_beside_a_firing_check_is_marked_wherever_a_table_shows_it() -> None:
    measured = {"clean": [98.0, 98.0], "robust_eps": [94.0, 96.0]}
    one_fires = measured | {"robust_eps_upper_bound": [0.0, 1.0]}
    none_fires = measured | {"robust_eps_upper_bound": [0.0, 0.0]}
    shown = cells({"D": one_fires, "D_R": none_fires, "D_NR": measured})
    assert shown["D"] == {"Clean": "98.0 ± 0.0", "Robust ε": "≤ 95.0 ± 1.4"}
    assert shown["D_R"] == shown["D_NR"] == {"Clean": "98.0 ± 0.0", "Robust ε": "95.0 ± 1.4"}

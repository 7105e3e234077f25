import sys
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer, ErrorbarContainer

from notbugs.experiments import page
from notbugs.experiments.ilyas2019 import SECTIONS
from notbugs.experiments.numbers import Cell, Numbers
from notbugs.report.figures import DARK, LIGHT, png
from notbugs.report.figures.kinds import Drawn, draw
from notbugs.report.figures.picture_rows import PictureRow, rows_of_pictures
from notbugs.report.figures.sheet import picture
from notbugs.report.figures.style import fitted, printable, svg, width_of
from report.conftest import content_of
from report.made_run import Made, make_run

EXAMPLES, FIRST, OTHERS, NOISE, DET, SOURCES, COUNTS, SETS, BARS, WIDTHS, ATTACKED = (
    f for s in SECTIONS for f in s.figures
)
LONG = ("a very long class name, $x^2$ and 5 % more", "golden retriever")
SMALL = Made(classes=LONG, shape=(3, 6, 4), radii=(1.0,), seeds=1)


@pytest.fixture(scope="module")
def drawn(run) -> Drawn:
    return run.drawn


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Drawn:
    """Two classes of long names, colour, one radius, one seed."""
    return content_of(make_run(tmp_path_factory.mktemp("small"), SMALL)).drawn


def of_rows(drawn: Drawn, rows: Mapping) -> Drawn:
    """The same with other rows."""
    return replace(drawn, numbers=Numbers(dict.fromkeys(("sets", "radii", "robust"), rows)))


def words(figure):
    return [t for ax in figure.axes for t in ax.texts if t.get_text()]


def written(figure):
    """All texts of a figure: of axes, ticks and legends as well."""
    texts = words(figure)
    for ax in figure.axes:
        if ax.axison:
            texts += [ax.xaxis.label, ax.yaxis.label, *_ticks(ax.xaxis), *_ticks(ax.yaxis)]
        if ax.get_legend():
            texts += ax.get_legend().get_texts()
    return [t for t in texts if t.get_text() and t.get_visible()]


def _ticks(axis):
    """The labels of ticks within the limits, which are those that are drawn."""
    low, high = sorted(axis.get_view_interval())
    return [t.label1 for t in axis.get_major_ticks() if low <= t.get_loc() <= high]


def overlaps(figure, artists):
    """Pairs of texts whose boxes overlap by more than a pixel each way."""
    renderer = figure.canvas.get_renderer()
    boxes = [(a.get_text(), a.get_window_extent(renderer)) for a in artists]
    pairs = []
    for (text, a), (other, b) in combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        if across > 1 and down > 1:
            pairs.append((text, other))
    return pairs


def outside(figure):
    """The texts that leave the figure by more than a pixel."""
    renderer, frame = figure.canvas.get_renderer(), figure.bbox
    boxes = [(t.get_text(), t.get_window_extent(renderer)) for t in written(figure)]
    return [
        text
        for text, box in boxes
        if box.x0 < -1 or box.y0 < -1 or box.x1 > frame.x1 + 1 or box.y1 > frame.y1 + 1
    ]


def bars_of(figure) -> list[BarContainer]:
    (ax,) = figure.axes
    return [c for c in ax.containers if isinstance(c, BarContainer)]


def lengths(figure) -> list[float]:
    """Those of all bars, a column after the other."""
    return [bar.get_width() for container in bars_of(figure) for bar in container]


def whiskers(figure) -> list[float]:
    """The lengths of all whiskers that are drawn."""
    (ax,) = figure.axes
    segments = [
        s for c in ax.collections if isinstance(c, LineCollection) for s in c.get_segments()
    ]
    return [
        float(np.abs(s[1] - s[0]).max()) for s in segments if len(s) == 2 and np.isfinite(s).all()
    ]


def lines(figure) -> dict:
    """The lines with their points, by label."""
    (ax,) = figure.axes
    found = [c for c in ax.containers if isinstance(c, ErrorbarContainer) and c.get_label()]
    return {c.get_label(): c.lines[0] for c in found if not c.get_label().startswith("_")}


def points(line) -> list[tuple[float, float]]:
    """The points of a line that are drawn."""
    pairs = zip(line.get_xdata(), line.get_ydata(), strict=True)
    return [(float(x), float(y)) for x, y in pairs if np.isfinite(y)]


def legend(figure) -> list[str]:
    (ax,) = figure.axes
    return [t.get_text() for t in ax.get_legend().get_texts()]


JUDGED = ["D", "D_adv", "D_R", "D_NR"]
COLUMNS = ("clean", "robust_half_eps", "robust_eps")


def test_bars_are_the_numbers(drawn) -> None:
    figure = draw(BARS, drawn, LIGHT)
    (ax,) = figure.axes
    assert [t.get_text() for t in ax.get_yticklabels()] == JUDGED
    expected = [
        drawn.numbers.mean(Cell("robust", name, column)) for column in COLUMNS for name in JUDGED
    ]
    assert lengths(figure) == pytest.approx(expected)
    middles = [bar.get_y() + bar.get_height() / 2 for c in bars_of(figure) for bar in c]
    assert np.allclose(np.round(middles), [*range(4)] * 3)


def test_bars_of_named_rows_are_those_that_there_are(drawn) -> None:
    rows, labels = ("D_R", "D_lost", "D_adv"), ("of robust features", "lost", "adversarial")
    figure = draw(replace(BARS, rows=rows, labels=labels), drawn, LIGHT)
    assert lengths(figure)[:2] == pytest.approx([93.7, 91.3])
    (ax,) = figure.axes
    assert [t.get_text() for t in ax.get_yticklabels()] == ["of robust features", "adversarial"]
    lost = draw(replace(BARS, columns=("clean", "clean_mlp")), drawn, LIGHT)
    assert len(lengths(lost)) == 4


def test_the_first_figure_compares_a_set_with_its_controls(drawn) -> None:
    figure = draw(FIRST, drawn, LIGHT)
    (ax,) = figure.axes
    labels = [t.get_text() for t in ax.get_yticklabels()]
    assert [label.startswith("control") for label in labels] == [False, True]
    (container,) = bars_of(figure)
    assert [bool(bar.get_hatch()) for bar in container] == [False, True]
    line = next(x for x in ax.get_lines() if str(x.get_label()).startswith("chance"))
    assert line.get_xdata()[0] == 10.0


def test_bars_show_deviation(drawn) -> None:
    figure = draw(BARS, drawn, LIGHT)
    deviations = [
        drawn.numbers.spread(Cell("robust", name, column)) for column in COLUMNS for name in JUDGED
    ]
    assert whiskers(figure) == pytest.approx([2 * d for d in deviations])
    assert legend(figure) == ["Clean", "Robust ε/2", "Robust ε"]


def test_a_single_seed_has_no_whiskers(small) -> None:
    for figure in (draw(f, small, LIGHT) for f in (BARS, DET, OTHERS)):
        assert whiskers(figure) == []
        (ax,) = figure.axes
        caps = [c.lines[1] for c in ax.containers if isinstance(c, ErrorbarContainer)]
        places = [np.asarray(cap.get_ydata(), float) for pair in caps for cap in pair]
        assert not any(np.isfinite(place).any() for place in places)
    assert len(lengths(draw(BARS, small, LIGHT))) == 12


def test_a_missing_number_is_not_a_zero(drawn) -> None:
    bare = {"clean": [50.0], "robust_eps": [None], "chance": [10.0]}
    figure = draw(BARS, of_rows(drawn, {"D": bare}), LIGHT)
    assert [v for v in lengths(figure) if np.isfinite(v)] == [50.0]
    assert len(png(figure, 40)) > 0


def test_names_beside_the_bars_do_not_touch(drawn) -> None:
    figure = draw(BARS, drawn, LIGHT)
    figure.draw_without_rendering()
    assert overlaps(figure, written(figure)) == []
    assert outside(figure) == []


def test_lines_are_the_curves(drawn) -> None:
    figure = draw(DET, drawn, LIGHT)
    found = lines(figure)
    titles = {drawn.title(column): column for column in ("clean", "shifted")}
    named = {(name, title) for name in ("D_det", "leak:D_det") for title in titles}
    assert set(found) == {f"{name}, {title}" for name, title in named}
    for name, title in named:
        line = found[f"{name}, {title}"]
        expected = [
            (x, drawn.numbers.mean(Cell("radii", f"{name} at {x:g}", titles[title])))
            for x in (0.5, 1.0, 2.0)
        ]
        assert points(line) == expected
        assert line.is_dashed() is name.startswith("leak:")
    others = draw(replace(OTHERS, lines=None), drawn, LIGHT)
    assert set(lines(others)) == {
        f"{leak}D_{kind}" for leak in ("", "leak:") for kind in ("rand", "det", "other")
    }
    inks = {name: to_hex(line.get_color()) for name, line in lines(others).items()}
    assert inks["D_other"] == inks["leak:D_other"] != inks["D_rand"]
    (ax,) = figure.axes
    assert [t.get_text() for t in ax.get_xticklabels()] == ["0.5", "1", "2"]
    assert list(ax.get_xticks()) == [0.5, 1.0, 2.0]
    assert len(whiskers(figure)) == 4 * 3
    (shade,) = ax.patches
    assert shade.get_x() + shade.get_width() == 0.5
    assert [t.get_text() for t in words(figure)] == ["headline"]
    assert "L2, pixel units" in ax.get_xlabel()
    assert "chance, 10 %" in legend(figure)
    line = next(x for x in ax.get_lines() if str(x.get_label()).startswith("chance"))
    assert line.get_ydata()[0] == 10.0


def test_the_whiskers_of_lines_are_deviations(drawn) -> None:
    figure = replace(DET, lines=("D_det",), columns=("clean",), chance=None)
    deviations = [
        drawn.numbers.spread(Cell("radii", f"D_det at {x:g}", "clean")) for x in (0.5, 1.0, 2.0)
    ]
    assert whiskers(draw(figure, drawn, LIGHT)) == pytest.approx([2 * d for d in deviations])


def test_lines_at_a_single_radius_are_points(small) -> None:
    for figure in (draw(f, small, LIGHT) for f in (DET, OTHERS)):
        for line in lines(figure).values():
            assert len(points(line)) == 1
            assert line.get_marker() not in (None, "None")
        (ax,) = figure.axes
        assert [t.get_text() for t in ax.get_xticklabels()] == ["1"]
        assert png(figure, 50)[:4] == b"\x89PNG"


def test_lines_skip_a_missing_number(drawn) -> None:
    rows = {f"D_det at {e}": {"clean": [v]} for e, v in ((4, 60.0), (1, 20.0), (2, None))}
    found = lines(draw(replace(DET, chance=None), of_rows(drawn, rows), LIGHT))
    assert points(found["D_det"]) == [(1.0, 20.0), (4.0, 60.0)]


def test_the_names_of_lines_stay_in_the_figure(drawn) -> None:
    for figure in (draw(f, drawn, LIGHT) for f in (DET, OTHERS)):
        figure.draw_without_rendering()
        assert overlaps(figure, written(figure)) == []
        assert outside(figure) == []


def test_examples_show_every_picture_with_its_label(drawn) -> None:
    figure, pictures = draw(SETS, drawn, LIGHT), drawn.pictures
    (ax,) = figure.axes
    assert len(ax.images) == 5 * 8
    assert {i.get_interpolation() for i in ax.images} == {"nearest"}
    assert np.allclose(ax.images[0].get_array(), pictures["D.images"][0, 0])
    said = [t.get_text() for t in words(figure)]
    wrong = 0
    for name in ("D_rand", "D_det"):
        wrong += int((pictures[f"{name}.labels"] != pictures["D.labels"]).sum())
    assert sum(t.startswith("really: ") for t in said) == wrong
    coloured = [t for t in words(figure) if t.get_color() == LIGHT.vermillion]
    assert len(coloured) == wrong
    truths = [f"really: {drawn.classes[int(v)]}" for v in pictures["D.labels"]]
    assert [t for t in said if t.startswith("really")][-8:] == truths
    assert overlaps(figure, words(figure)) == []


def test_long_names_fit_and_are_not_math(small) -> None:
    for figure in (draw(f, small, LIGHT) for f in (EXAMPLES, SETS, ATTACKED)):
        figure.draw_without_rendering()
        assert overlaps(figure, words(figure)) == []
        assert any("…" in t.get_text() for t in words(figure))
        edge = figure.bbox.x1
        for text in words(figure):
            box = text.get_window_extent(figure.canvas.get_renderer())
            assert box.x0 >= 0
            assert box.x1 <= edge


def test_a_name_of_a_class_is_never_math(small) -> None:
    figure = draw(EXAMPLES, replace(small, classes=("$x^2$", "a$b")), LIGHT)
    said = {t.get_text(): t for t in words(figure)}
    assert not said["$x^2$"].get_parse_math()
    assert png(figure, 40)[:4] == b"\x89PNG"


def test_colour_pictures_keep_their_shape(small) -> None:
    (ax,) = draw(EXAMPLES, small, LIGHT).axes
    first = ax.images[0]
    assert first.get_array().shape == (6, 4, 3)
    left, right, bottom, top = first.get_extent()
    assert abs(right - left) / abs(top - bottom) == pytest.approx(4 / 6)


def test_attacked_pictures_say_what_each_model_says(drawn) -> None:
    figure, pictures = draw(ATTACKED, drawn, LIGHT), drawn.pictures
    (ax,) = figure.axes
    assert len(ax.images) == 5 * 8
    said = [t.get_text() for t in words(figure)]
    assert "standard: change, magnified" in said
    coloured = [t.get_text() for t in words(figure) if t.get_color() == LIGHT.vermillion]
    fooled = [
        drawn.classes[int(label)]
        for model in ("standard", "robust")
        for label, true in zip(
            pictures[f"{model}.labels"], pictures["attacked.labels"], strict=True
        )
        if label != true
    ]
    assert coloured == fooled
    assert len(fooled) == 9
    assert sum(t.startswith("really: ") for t in said) == 9
    change = pictures["standard.difference"][0, 0]
    assert np.allclose(ax.images[8].get_array(), change)
    assert ax.images[8].get_clim() == (0, 1)


def test_colour_changes_stand_around_grey(small) -> None:
    (ax,) = draw(ATTACKED, small, LIGHT).axes
    expected = small.pictures["standard.difference"][0].transpose(1, 2, 0)
    assert np.allclose(ax.images[8].get_array(), expected)


def test_no_image_to_fool(drawn) -> None:
    of = ("attacked.", "standard.", "robust.")
    empty = {k: v[:0] if k.startswith(of) else v for k, v in drawn.pictures.items()}
    assert not replace(drawn, pictures=empty).has(ATTACKED)


def test_rows_may_have_heads_and_empty_places() -> None:
    image = np.zeros((1, 4, 4))
    head = "A head that is far longer than the two pictures below it"
    figure = rows_of_pictures([PictureRow("a", [image, None], head), PictureRow("b", [image])])
    (ax,) = figure.axes
    assert len(ax.images) == 2
    assert [t.get_text() for t in words(figure)] == [head, "a", "b"]
    assert overlaps(figure, words(figure)) == []
    assert outside(figure) == []


def test_other_channel_counts_are_drawn_in_grey() -> None:
    assert picture(np.full((2, 3, 4), 0.25)).shape == (3, 4)
    assert picture(np.full((4, 3, 5), 0.25)).shape == (3, 5, 3)


def test_a_figure_is_drawn_if_the_run_holds_what_it_shows(drawn) -> None:
    assert all(drawn.has(f) for f in (EXAMPLES, BARS, DET, OTHERS, ATTACKED))
    bare = replace(drawn, numbers=Numbers({}), pictures={"D.images": drawn.pictures["D.images"]})
    assert [bare.has(f) for f in (EXAMPLES, BARS, DET, OTHERS, ATTACKED)] == [True] + [False] * 4


def test_a_matrix_writes_its_means_and_a_dash(drawn) -> None:
    rows = {"a": {"x": [10.0, 20.0], "y": [None, None]}, "b": {"x": [90.0, 90.0], "y": [1.0, 1.0]}}
    figure = draw(page.Matrix("sets", "", "%"), of_rows(drawn, rows), LIGHT)
    (ax,) = figure.axes
    assert [t.get_text() for t in ax.texts] == ["15.0", "–", "90.0", "1.0"]


def test_text_is_made_smaller_then_cut_in_the_middle() -> None:
    assert fitted("cat", 1.0, 9.0) == ("cat", 9.0)
    text, size = fitted("golden retriever", 0.9, 9.5)
    assert text == "golden retriever"
    assert size < 9.5
    text, size = fitted("a name that is far too long to fit", 0.8, 9.5)
    assert size == 6.0
    assert text.startswith("a na")
    assert text.endswith("fit")
    assert width_of(text, size) <= 0.8
    assert fitted("a\n  b", 1.0, 9.0)[0] == "a b"
    assert fitted("wide", 0.01, 9.0)[0] == "w…e"


@pytest.mark.parametrize("length", [100, 300, 1_000])
def test_a_long_name_is_measured_a_few_times(length: int, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = list[str]()
    monkeypatch.setattr(
        "notbugs.report.figures.style.width_of",
        lambda text, size, bold=False: measured.append(text) or 0.1 * len(text),
    )
    text, _ = fitted("ab" * (length // 2), 2.05, 9.0)
    assert len(text) == 20
    assert len(measured) < 30


def test_themes_change_inks_not_numbers(drawn) -> None:
    light, dark = draw(BARS, drawn, LIGHT), draw(BARS, drawn, DARK)
    assert lengths(light) == lengths(dark)
    assert to_hex(dark.get_facecolor()) == DARK.paper
    light, dark = lines(draw(DET, drawn, LIGHT)), lines(draw(DET, drawn, DARK))
    assert {n: points(line) for n, line in light.items()} == {
        n: points(line) for n, line in dark.items()
    }


@pytest.mark.parametrize("figure", [EXAMPLES, BARS, DET, ATTACKED], ids=lambda f: type(f).__name__)
def test_the_same_figure_is_the_same_bytes(drawn, figure) -> None:
    assert png(draw(figure, drawn, LIGHT), 40) == png(draw(figure, drawn, LIGHT), 40)
    assert svg(draw(figure, drawn, LIGHT)) == svg(draw(figure, drawn, LIGHT))


def test_no_figure_stays_in_global_state(drawn) -> None:
    png(draw(BARS, drawn, LIGHT), 40)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_names_in_other_scripts_are_drawn_without_a_warning(drawn) -> None:
    classes = ("猫", "chat", *drawn.classes[2:])
    for kind in (EXAMPLES, SETS, ATTACKED):
        figure = draw(kind, replace(drawn, classes=classes), LIGHT)
        png(figure, 40)
        said = {t.get_text() for t in words(figure)}
        assert "猫" not in said
    assert printable("猫 é ε") == "□ é ε"


def test_points_of_one_kind_share_a_colour_and_missing_ones_are_left_out(drawn) -> None:
    rows = {
        "standard at 1": {"x": [1.0, None], "y": [2.0, 3.0]},
        "standard at 2": {"x": [4.0, 5.0], "y": [6.0, 7.0]},
        "robust at 1": {"x": [8.0]},
        "robust at 2": {"x": [9.0], "y": [-1.0]},
    }
    figure = draw(page.Scatter("sets", "x", "y", "", zero=True), of_rows(drawn, rows), LIGHT)
    (ax,) = figure.axes
    standard, robust = ax.collections
    assert standard.get_offsets().tolist() == [[1, 2], [4, 6], [5, 7]]
    assert robust.get_offsets().tolist() == [[9, -1]]
    assert standard.get_facecolor().tolist() != robust.get_facecolor().tolist()
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["standard", "robust"]
    across, diagonal = ax.lines
    assert across.get_ydata()[0] == 0
    assert diagonal.get_slope() == 1


def test_points_of_a_kind_apart_do_not_stretch_the_axes_and_kinds_keep_their_colours(
    drawn,
) -> None:
    rows = {
        "useful at 1": {"x": [1.0], "y": [-2.0]},
        "useful at 2": {"x": [0.5], "y": [0.4]},
        "useless at 3": {"x": [0.1], "y": [-90.0]},
    }
    kinds = ("robust", "useful", "useless")
    first = page.Scatter("sets", "x", "y", "", kinds=kinds, apart="useless")
    (ax,) = draw(first, of_rows(drawn, rows), LIGHT).axes
    low, high = ax.get_ylim()
    assert -3 < low < -2
    assert 1 < high < 2
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["useful", "useless"]
    more = {**rows, "robust at 4": {"x": [1.0], "y": [0.5]}}
    (other,) = draw(first, of_rows(drawn, more), LIGHT).axes
    colours = [
        {c.get_label(): c.get_facecolor().tolist() for c in of.collections} for of in (ax, other)
    ]
    assert colours[0]["useful"] == colours[1]["useful"]
    assert colours[0]["useless"] == colours[1]["useless"]


def test_many_lines_look_different(drawn) -> None:
    rows = {f"line {i}th at {x}": {"y": [float(i)]} for i in range(9) for x in (1, 2)}
    figure = draw(page.Lines("sets", ("y",), "", "y", "x"), of_rows(drawn, rows), LIGHT)
    (ax,) = figure.axes
    looks = {(h.lines[0].get_color(), h.lines[0].get_marker()) for h in ax.containers}
    assert len(looks) == 9

import sys
from itertools import combinations

import numpy as np
import pytest
from matplotlib.colors import to_hex
from matplotlib.container import BarContainer

from notbugs.report.figures import DARK, LIGHT, adversarial, bars, crossover, examples, png
from notbugs.report.figures.adversarial import magnification
from notbugs.report.figures.sheet import picture
from notbugs.report.figures.style import fitted, printable, width_of
from notbugs.report.reading import read_run, set_row
from report.made_run import Made, make_run

LONG = ("a very long class name, $x^2$ and 5 % more", "golden retriever")
SMALL = Made(classes=LONG, shape=(3, 6, 4), radii=(1.0,), seeds=1)


@pytest.fixture(scope="module")
def small_run(tmp_path_factory: pytest.TempPathFactory):
    """Two classes of long names, colour, one radius, one seed."""
    return read_run(make_run(tmp_path_factory.mktemp("small"), SMALL))


def words(figure):
    return [t for ax in figure.axes for t in ax.texts if t.get_text()]


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


def heights(ax):
    return [c.patches[0].get_height() for c in bars_of(ax)]


def bars_of(ax):
    return [c for c in ax.containers if isinstance(c, BarContainer)]


def whiskers(ax):
    return [c for c in ax.containers if not isinstance(c, BarContainer)]


def test_bars_are_the_numbers_at_the_largest_radius(run) -> None:
    (ax,) = bars(run).axes
    expected = []
    order = ["D", "D_adv", "D_R", "D_NR"]
    for name in ("D_rand", "D_det", "D_other"):
        order += [name, f"leak:{name}"]
    rows = {r.name: r for r in run.at_largest()}
    for name in order:
        row = rows[name]
        expected += [row.mean(c) for c in ("clean", "robust_half_eps", "robust_eps")]
    assert heights(ax) == pytest.approx(expected)
    labels = [t.get_text() for t in ax.get_xticklabels()]
    assert len(labels) == 10
    assert "original" in labels[0]
    assert "ε = 2" in labels[4]
    assert labels[5].startswith("control")


def test_bars_show_deviation_chance_and_controls(run) -> None:
    (ax,) = bars(run).axes
    assert len(whiskers(ax)) == 30
    line = next(x for x in ax.get_lines() if str(x.get_label()).startswith("chance"))
    assert line.get_ydata()[0] == 10.0
    hatched = [c.patches[0].get_gid() for c in bars_of(ax) if c.patches[0].get_hatch()]
    assert len(hatched) == 9
    assert all(name.startswith("leak:") for name in hatched)
    legend = [t.get_text() for t in ax.get_legend().get_texts()]
    assert "under L2 attack, ε = 0.5" in legend
    assert "control: leakage only" in legend


def test_a_single_seed_has_no_whiskers(small_run) -> None:
    (ax,) = bars(small_run).axes
    assert whiskers(ax) == []
    assert len(heights(ax)) == 30


def test_a_missing_number_is_a_dash_not_a_zero(run) -> None:
    row = set_row({"set": "D", "eps": None, "clean": 50.0, "clean_std": None, "robust_eps": None})
    (ax,) = bars(type(run)(run.result, (row,), (), run.classes, {})).axes
    assert heights(ax) == [50.0]
    assert [t.get_text() for t in ax.texts].count("–") == 2


def test_names_under_the_bars_do_not_touch(run) -> None:
    figure = bars(run)
    figure.draw_without_rendering()
    (ax,) = figure.axes
    assert overlaps(figure, ax.get_xticklabels()) == []
    assert overlaps(figure, ax.texts) == []


def lines(ax):
    return {a.get_gid(): a for a in ax.get_lines() if a.get_gid()}


def test_crossover_lines_are_the_curves(run) -> None:
    left, right = crossover(run).axes
    drawn = lines(left)
    assert set(drawn) == {
        "D_det.clean",
        "D_det.shifted",
        "leak:D_det.clean",
        "leak:D_det.shifted",
    }
    for gid, line in drawn.items():
        name, column = gid.rsplit(".", 1)
        assert list(line.get_xdata()) == [0.5, 1.0, 2.0]
        assert list(line.get_ydata()) == [r.mean(column) for r in run.curve(name)]
        assert line.is_dashed() is name.startswith("leak:")
    others = {"D_other.clean", "D_rand.clean", "leak:D_other.clean", "leak:D_rand.clean"}
    assert set(lines(right)) == others
    assert [t.get_text() for t in left.get_xticklabels()] == ["0.5", "1", "2"]
    assert len(left.collections) == 4  # the bands of the deviations
    assert "L2, pixel units" in left.get_xlabel()


def test_crossover_of_a_single_radius_is_points(small_run) -> None:
    left, right = crossover(small_run).axes
    for line in (*lines(left).values(), *lines(right).values()):
        assert len(line.get_xdata()) == 1
        assert line.get_marker() not in (None, "None")
    assert [t.get_text() for t in left.get_xticklabels()] == ["1"]
    assert png(crossover(small_run), 50)[:4] == b"\x89PNG"


def test_crossover_skips_a_missing_number(run) -> None:
    rows = tuple(
        set_row({"set": "D_det", "eps": e, "clean": v, "seeds": 1})
        for e, v in ((1.0, 20.0), (2.0, None), (4.0, 60.0))
    )
    left, _ = crossover(type(run)(run.result, rows, (), run.classes, {})).axes
    assert list(lines(left)["D_det.clean"].get_xdata()) == [1.0, 4.0]
    assert list(lines(left)["D_det.clean"].get_ydata()) == [20.0, 60.0]


def test_examples_show_every_picture_with_its_label(run) -> None:
    figure = examples(run)
    (ax,) = figure.axes
    assert len(ax.images) == 6 * 8
    assert {i.get_interpolation() for i in ax.images} == {"nearest"}
    assert np.allclose(ax.images[0].get_array(), run.samples["D.images"][0, 0])
    said = [t.get_text() for t in words(figure)]
    wrong = 0
    for name in ("D_rand", "D_det", "D_other"):
        wrong += int((run.samples[f"{name}.labels"] != run.samples["D.labels"]).sum())
    assert sum(t.startswith("really: ") for t in said) == wrong
    coloured = [t for t in words(figure) if t.get_color() == LIGHT.vermillion]
    assert len(coloured) == wrong
    truths = [f"really: {run.classes[int(v)]}" for v in run.samples["D.labels"]]
    assert [t for t in said if t.startswith("really")][-8:] == truths
    assert overlaps(figure, words(figure)) == []


def test_long_names_fit_and_are_not_math(small_run) -> None:
    for figure in (examples(small_run), adversarial(small_run)):
        figure.draw_without_rendering()
        assert overlaps(figure, words(figure)) == []
        assert any("…" in t.get_text() for t in words(figure))
        edge = figure.bbox.x1
        for text in words(figure):
            box = text.get_window_extent(figure.canvas.get_renderer())
            assert box.x0 >= 0
            assert box.x1 <= edge


def test_colour_pictures_keep_their_shape(small_run) -> None:
    (ax,) = examples(small_run).axes
    first = ax.images[0]
    assert first.get_array().shape == (6, 4, 3)
    left, right, bottom, top = first.get_extent()
    assert abs(right - left) / abs(top - bottom) == pytest.approx(4 / 6)


def test_adversarial_says_what_each_model_says(run) -> None:
    figure = adversarial(run)
    (ax,) = figure.axes
    assert len(ax.images) == 5 * 5
    said = [t.get_text() for t in words(figure)]
    scale = magnification(run)
    assert f"change for the\nstandard model, ×{scale:g}" in said
    for i in range(5):
        assert f"✗ {run.classes[int(run.samples['adv.standard.said'][i])]}" in said
    assert sum(t.startswith("✓") for t in said) == 4
    assert sum(t.startswith("✗") for t in said) == 6
    change = run.samples["adv.standard.images"][0, 0] - run.samples["adv.images"][0, 0]
    shown = ax.images[1]
    assert np.allclose(shown.get_array(), change)
    assert shown.get_clim() == (-0.5 / scale, 0.5 / scale)


def test_colour_changes_stand_around_grey(small_run) -> None:
    (ax,) = adversarial(small_run).axes
    change = small_run.samples["adv.standard.images"][0] - small_run.samples["adv.images"][0]
    expected = np.clip(0.5 + magnification(small_run) * change, 0, 1).transpose(1, 2, 0)
    assert np.allclose(ax.images[1].get_array(), expected)


def test_no_image_to_fool(run) -> None:
    empty = {k: v[:0] if k.startswith("adv.") else v for k, v in run.samples.items()}
    figure = adversarial(type(run)(run.result, run.sets, (), run.classes, empty))
    assert "none of the images right" in words(figure)[0].get_text()


def test_magnification_keeps_changes_in_range(run) -> None:
    biggest = max(
        np.quantile(np.abs(run.samples[f"adv.{m}.images"] - run.samples["adv.images"]), 0.99)
        for m in ("standard", "robust")
    )
    assert 0.2 < magnification(run) * biggest <= 0.51


def test_other_channel_counts_are_drawn_in_grey() -> None:
    assert picture(np.full((2, 3, 4), 0.25)).shape == (3, 4)
    assert picture(np.full((4, 3, 5), 0.25)).shape == (3, 5, 3)


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


def test_themes_change_inks_not_numbers(run) -> None:
    light, dark = bars(run, LIGHT), bars(run, DARK)
    assert heights(light.axes[0]) == heights(dark.axes[0])
    assert to_hex(dark.get_facecolor()) == DARK.paper


def test_the_same_figure_is_the_same_bytes(run) -> None:
    assert png(crossover(run), 40) == png(crossover(run), 40)


def test_no_figure_stays_in_global_state(run) -> None:
    png(bars(run), 40)
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or pyplot.get_fignums() == []


def test_names_in_other_scripts_are_drawn_without_a_warning(run) -> None:
    classes = ("猫", "chat", *run.classes[2:])
    figure = examples(type(run)(run.result, run.sets, (), classes, run.samples))
    png(figure, 40)
    said = {t.get_text() for t in words(figure)}
    assert "猫" not in said
    assert printable("猫 é ε") == "□ é ε"

"""The pictures of curves: lines are the numbers, names touch nothing, odd results draw too."""

import warnings
from itertools import combinations

import numpy as np
import pytest
import torch

from notbugs.judge import AccuracyCurve, Distances, LossCurve, LossRun
from notbugs.report.figures import (
    DARK,
    accuracy_curves,
    budget_sheet,
    distance_histograms,
    loss_curves,
    nearest_sheet,
    png,
)

INF = float("inf")
ROWS = torch.arange(60)


def found(scale=1.0, norm="l2", never=0) -> Distances:
    """Sixty images, five of them wrong, distances from 0.02 to 1.1 times `scale`."""
    distance = scale * (ROWS.double() / 54) ** 1.5
    distance[:5] = 0
    if never:
        distance[-never:] = INF
    return Distances("A", norm, ROWS >= 5, distance)


def points(*standing, n=60) -> AccuracyCurve:
    eps = tuple(0.25 * i for i in range(len(standing)))
    return AccuracyCurve("PGD", "l2", n, eps, standing, exact=False)


def falling(*tries, steps=10) -> LossCurve:
    t = np.arange(steps + 1)
    runs = [
        LossRun(
            rows,
            *(tuple((-(0.4 + i + j / 3) * t / steps).tolist()) for j in (0, 1, 0, -1)),
            reached=tuple((10 * i + 9 * t / steps).tolist()),
        )
        for i, rows in enumerate(tries)
    ]
    return LossCurve("PGD", "linf:8/255", 60, tuple(runs))


def lines(ax):
    return {a.get_gid(): a for a in ax.get_lines() if str(a.get_gid()).startswith("line:")}


def written(ax):
    return [a for a in ax.texts if a.get_gid() == "name"]


def shown(axis, tick):
    low, high = axis.get_view_interval()
    return low <= tick.get_loc() <= high


def assert_apart(figure) -> None:
    """No two texts of the figure meet, and none is cut."""
    figure.draw_without_rendering()
    width, height = figure.get_size_inches() * figure.dpi
    seen = []
    for ax in figure.axes:
        ticks = [t.label1 for a in (ax.xaxis, ax.yaxis) for t in a.get_major_ticks() if shown(a, t)]
        texts = [*ax.texts, ax._left_title, ax.xaxis.label, ax.yaxis.label, *ticks]
        seen += [a for a in texts if a.get_visible() and a.get_text().strip()]
    boxes = [(a.get_text(), a.get_window_extent()) for a in seen]
    for text, box in boxes:
        assert box.x0 >= -1, text
        assert box.y0 >= -1, text
        assert box.x1 <= width + 1, text
        assert box.y1 <= height + 1, text
    for (text, a), (other, b) in combinations(boxes, 2):
        across = min(a.x1, b.x1) - max(a.x0, b.x0)
        down = min(a.y1, b.y1) - max(a.y0, b.y0)
        assert min(across, down) <= 1.5, (text, other)


def test_the_line_of_exact_distances_is_their_step_function() -> None:
    each = found(never=3)
    (ax,) = accuracy_curves({"FMN": each.curve()}).axes
    x, y = lines(ax)["line:FMN"].get_xydata().T
    for eps in (0.0, 0.1, 0.33, 0.8, float(x[-1])):
        drawn = y[np.searchsorted(x, eps, side="right") - 1]
        assert drawn == pytest.approx(each.robust_accuracy(eps))
    assert (x[0], y[0]) == (0, pytest.approx(100 * 55 / 60))
    assert y[-1] == pytest.approx(100 * 3 / 60)
    assert ax.get_xlim()[0] == 0
    assert len(ax.collections) == 1  # the band


def test_a_curve_of_points_is_drawn_through_them() -> None:
    curve = points(55, 40, 12)
    (ax,) = accuracy_curves({"PGD": curve}).axes
    line = lines(ax)["line:PGD"]
    assert line.get_xdata().tolist() == list(curve.eps)
    assert line.get_ydata().tolist() == pytest.approx(curve.accuracy)
    band = ax.collections[0].get_paths()[0].vertices[:, 1]
    low, high = np.array(curve.ci95).T
    assert band.min() == pytest.approx(low.min())
    assert band.max() == pytest.approx(high.max())


def test_every_line_has_its_name_and_ink_and_names_touch_nothing() -> None:
    curves = {f"model {i}": found(1 + 0.5 * i).curve() for i in range(6)}
    figure = accuracy_curves(curves)
    (ax,) = figure.axes
    assert sorted(a.get_text() for a in written(ax)) == sorted(curves)
    looks = {(a.get_color(), str(a.get_linestyle())) for a in lines(ax).values()}
    assert len(looks) == 6
    for label in written(ax):
        assert label.get_color() == lines(ax)[f"line:{label.get_text()}"].get_color()
    assert_apart(figure)


def test_histograms_count_every_image_that_was_right() -> None:
    figure = distance_histograms({"plain": found(), "robust": found(2.0, never=7)})
    assert len(figure.axes) == 2
    assert_apart(figure)
    for ax, never in zip(figure.axes, (0, 7), strict=True):
        assert sum(p.get_height() for p in ax.containers[0]) == 55 - never
        beyond = [p for p in ax.patches if p.get_hatch()]
        assert [p.get_height() for p in beyond] == ([never] if never else [])
    assert figure.axes[1].get_xticklabels()[-1].get_text() == "∞"
    assert "7 never broken" in figure.axes[1].texts[-1].get_text()
    assert "5 wrong already" in figure.axes[0].texts[-1].get_text()
    (median,) = [a for a in figure.axes[0].get_lines() if a.get_gid() == "median"]
    assert median.get_xdata()[0] == found().median


@pytest.mark.parametrize("most", [7, 31, 32, 200])
def test_pixels_are_counted_whole(most) -> None:
    count = torch.linspace(1, most, 60).round().double()
    (ax,) = distance_histograms({"CW": Distances("A", "l0", ROWS >= 0, count)}).axes
    bars = [(p.get_x() + p.get_width() / 2, p.get_height()) for p in ax.containers[0]]
    assert sum(height for _, height in bars) == 60
    if most < 32:  # a bar for each number, where the number is
        wanted = [(k, int((count == k).sum())) for k in range(most + 1)]
        assert [height for _, height in bars] == [height for _, height in wanted]
        assert [x for x, _ in bars] == pytest.approx([x for x, _ in wanted])


def test_linf_is_written_in_255ths() -> None:
    figure = nearest_sheet({"FMN": found(8 / 255, "linf")})
    left, right = figure.axes
    assert "255ths" in left.get_xlabel()
    ticks = [float(t.get_text()) for t in left.get_xticklabels()]
    assert ticks == pytest.approx([255 * x for x in left.get_xticks()])
    assert max(ticks) > 6
    assert any("/255" in t.get_text() for t in right.texts)


def test_losses_are_drawn_try_by_try() -> None:
    curve = falling(60, 31, 1)
    figure = loss_curves({"PGD": curve})
    top, bottom = figure.axes
    assert list(lines(top)) == list(lines(bottom)) == [f"line:PGD:{k}" for k in range(3)]
    for k, run in enumerate(curve.runs):
        assert lines(top)[f"line:PGD:{k}"].get_ydata().tolist() == pytest.approx(run.mean)
        assert lines(bottom)[f"line:PGD:{k}"].get_ydata().tolist() == pytest.approx(run.reached)
    assert [a.get_text() for a in written(top)] == ["PGD, try 1", "try 2: 31 images",
                                                    "try 3: 1 image"]  # fmt: skip
    assert "ε = 8/255" in top.get_title(loc="left")
    assert top.get_xlim() == bottom.get_xlim() == (0, 10)
    assert_apart(figure)
    many = loss_curves({"APGD-T": falling(*range(60, 51, -1))})
    assert [a.get_text() for a in written(many.axes[0])] == ["APGD-T, try 1", "try 9: 52 images"]


def test_sheets_hold_both_pictures() -> None:
    near = nearest_sheet({"a": found(), "b": found(3.0, never=2)}, DARK)
    assert len(near.axes) == 3
    assert_apart(near)
    budget = budget_sheet({"PGD": points(55, 40, 20, 3)}, {"PGD": falling(60, 20)})
    assert len(budget.axes) == 3
    assert len(lines(budget.axes[0])) == 1
    assert_apart(budget)
    for figure in (near, budget):
        file = png(figure)
        assert file.startswith(b"\x89PNG\r\n\x1a\n")
        assert len(file) > 10_000
        assert png(figure) == file
        assert_apart(figure)


def nothing(norm="l2") -> Distances:
    return Distances("A", norm, ROWS < 0, torch.zeros(60, dtype=torch.float64))


def test_results_at_the_edge_are_drawn_without_a_warning() -> None:
    unbroken = Distances("A", "l2", ROWS >= 5, torch.where(ROWS >= 5, INF, 0.0).double())
    nan, inf = (float("nan"),) * 11, (INF,) * 11
    broken = LossRun(60, nan, inf, inf, inf, (0.0,) * 11)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for each in (nothing(), unbroken, found(1e-6), found(100, "l0")):
            figure = nearest_sheet({"a name, much too long for the place beside it $x^2$": each})
            assert_apart(figure)
            assert png(figure).startswith(b"\x89PNG")
        for curve in (
            LossCurve("CW", None, 60, ()),
            LossCurve("PGD", "l2:1", 60, (broken,)),
            falling(60, steps=1),
        ):
            figure = loss_curves({"PGD": curve})
            assert_apart(figure)
            assert png(figure).startswith(b"\x89PNG")
    words = nearest_sheet({"x": unbroken}).axes[1].texts[-1].get_text()
    assert "no median" in words


def test_norms_are_not_mixed() -> None:
    with pytest.raises(ValueError, match=r"`results` must be of one norm; got l2, linf"):
        accuracy_curves({"a": found().curve(), "b": found(norm="linf").curve()})
    with pytest.raises(ValueError, match="at least one result; got none"):
        distance_histograms({})

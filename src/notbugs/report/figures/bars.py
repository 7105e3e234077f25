"""Standard and robust accuracy of each training set, as in the paper's Figure 2."""

import math
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from notbugs.report.figures.style import (
    LABEL,
    LIGHT,
    SMALL,
    TINY,
    Theme,
    axes_of,
    chance_line,
    legend,
    new_figure,
    percent_axis,
    plain_axes,
)
from notbugs.report.formatting import eps_text, math_name, norm_name, short_text
from notbugs.report.reading import Run, SetRow

WIDTH = 0.27
CONTROL_GAP, SET_GAP = 0.96, 1.18
"""Steps between groups: a control stands closer to its set than the next set does."""


def bars(run: Run, theme: Theme = LIGHT) -> Figure:
    """Accuracy on clean and attacked test images, one group of bars a training set."""
    figure = new_figure(11.0, 4.7, theme)
    draw_bars(axes_of(figure, 1, 1), run, theme)
    return figure


def draw_bars(ax: Axes, run: Run, theme: Theme, *, controls: bool = True) -> None:
    """Draws the bars on given axes, with the controls beside their sets unless left out."""
    rows = [r for r in run.at_largest() if controls or not r.is_control]
    rows = _beside(rows)
    places = _places(rows)
    plain_axes(ax, theme)
    percent_axis(ax, theme, "accuracy on the test set (%)")
    chance_line(ax, run.chance, theme)
    for row, place in zip(rows, places, strict=True):
        for i, (column, color) in enumerate(_inks(theme).items()):
            _bar(ax, row, column, place + (i - 1) * WIDTH, color, theme)
    ax.set_xlim(places[0] - 0.62, places[-1] + 0.62)
    ax.set_xticks(places, [_label(r, run.norm) for r in rows])
    _tint_controls(ax, rows, theme)
    _explain(ax, run, theme, any(r.is_control for r in rows))


def _inks(theme: Theme) -> dict[str, str]:
    return {
        "clean": theme.blue,
        "robust_half_eps": theme.orange,
        "robust_eps": theme.vermillion,
    }


def _beside(rows: Sequence[SetRow]) -> list[SetRow]:
    """Each control right after its set."""
    sets = [r for r in rows if not r.is_control]
    controls = {r.name: r for r in rows if r.is_control}
    ordered: list[SetRow] = []
    for row in sets:
        ordered.append(row)
        control = controls.pop(f"leak:{row.name}", None)
        if control is not None:
            ordered.append(control)
    return ordered + list(controls.values())


def _places(rows: Sequence[SetRow]) -> list[float]:
    places = [0.0]
    for row in rows[1:]:
        places.append(places[-1] + (CONTROL_GAP if row.is_control else SET_GAP))
    return places


def _bar(ax: Axes, row: SetRow, column: str, x: float, color: str, theme: Theme) -> None:
    """One bar with its deviation and its number above; a dash where there is no number."""
    value, std = row.mean(column), row.std(column)
    if value is None:
        ax.text(x, 1.5, "–", ha="center", fontsize=TINY, color=theme.faint)
        return
    patches = ax.bar(x, value, WIDTH * 0.94, color=color, gid=f"{row.name}.{column}", zorder=2)
    if row.is_control:
        for patch in patches:
            patch.set(alpha=0.45, hatch="////", edgecolor=theme.paper, linewidth=0)
    top = value
    if std is not None:
        low = min(std, value)
        ax.errorbar(
            x,
            value,
            yerr=[[low], [std]],
            color=theme.ink,
            elinewidth=1.1,
            capsize=2.2,
            capthick=1.1,
            zorder=3,
        )
        top += std
    ax.text(
        x,
        min(top, 103) + 1.2,
        f"{math.floor(value + 0.5)}",
        ha="center",
        va="bottom",
        fontsize=TINY,
        color=theme.faint if row.is_control else theme.ink,
        zorder=4,
        path_effects=[withStroke(linewidth=2.5, foreground=theme.paper)],
    )


def _label(row: SetRow, norm: str) -> str:
    name = math_name(row.name)
    if row.is_control:
        return f"control\nof {name}"
    radius = "" if row.eps is None else f"\nε = {eps_text(norm, row.eps)}"
    return f"{name}\n{short_text(row.name)}{radius}".rstrip()


def _tint_controls(ax: Axes, rows: Sequence[SetRow], theme: Theme) -> None:
    for tick, row in zip(ax.get_xticklabels(), rows, strict=True):
        tick.set_color(theme.faint if row.is_control else theme.ink)
        tick.set_fontsize(SMALL if len(rows) <= 12 else TINY)
        tick.set_linespacing(1.25)


def _explain(ax: Axes, run: Run, theme: Theme, controls: bool) -> None:
    attack = f"under {norm_name(run.norm)} attack, ε = "
    texts = {
        "clean": "clean",
        "robust_half_eps": attack + _half(run),
        "robust_eps": attack + eps_text(run.norm, run.eps_eval),
    }
    handles = [Patch(color=color, label=texts[column]) for column, color in _inks(theme).items()]
    if controls:
        handles.append(
            Patch(
                facecolor=theme.faint,
                alpha=0.5,
                hatch="////",
                edgecolor=theme.paper,
                label="control: leakage only",
            )
        )
    handles += [line for line in ax.get_lines() if str(line.get_label()).startswith("chance")]
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1.01), "borderaxespad": 0}
    legend(ax, theme, handles=handles, ncols=len(handles), **place)
    ax.yaxis.label.set_fontsize(LABEL)


def _half(run: Run) -> str:
    return eps_text(run.norm, run.eps_eval / 2)

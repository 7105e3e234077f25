"""The curves of a training: loss, and accuracy on held-out images."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from notbugs.core.errors import bad_value
from notbugs.report.figures.labels import label_lines
from notbugs.report.figures.radius import inks, title
from notbugs.report.figures.style import LIGHT, Theme, axes_of, new_figure, percent_axis, plain_axes

WATCHED = {
    "val_clean": "clean, held out",
    "val_robust": "robust, held out",
    "guard_robust": "robust, guard",
}


def training_sheet(history: Sequence[Mapping[str, float]], theme: Theme = LIGHT) -> Figure:
    """The loss of each epoch and, where it was measured, accuracy in percent."""
    if not history:
        raise bad_value("history", "hold at least one epoch", "none")
    watched = {
        label: [(row["epoch"], row[key]) for row in history if key in row]
        for key, label in WATCHED.items()
    }
    watched = {label: points for label, points in watched.items() if points}
    figure = new_figure(10.0 if watched else 5.6, 4.2, theme)
    axes = axes_of(figure, 1, 2 if watched else 1, squeeze=False)[0]
    losses = {"": [(row["epoch"], row["loss"]) for row in history]}
    plain_axes(axes[0], theme)
    _drawn(axes[0], losses, theme)
    axes[0].set_ylabel("loss (mean of the epoch)")
    title(axes[0], "Loss", theme)
    if watched:
        plain_axes(axes[1], theme)
        percent_axis(axes[1], theme, "accuracy (%)")
        lines = _drawn(axes[1], watched, theme)
        title(axes[1], "Accuracy", theme)
        axes[1].set_xlim(axes[0].get_xlim())  # also where it was measured from a later epoch on
        label_lines(axes[1], lines, theme)
    return figure


def _drawn(
    ax: Axes, curves: Mapping[str, list[tuple[float, float]]], theme: Theme
) -> list[tuple[Line2D, str]]:
    lines: list[tuple[Line2D, str]] = []
    pens = inks(len(curves), theme)
    for (name, points), (color, dashes) in zip(curves.items(), pens, strict=True):
        x, y = zip(*points, strict=True)
        dots = "o" if len(points) < 30 else None
        (line,) = ax.plot(
            x, y, color=color, linestyle=dashes, linewidth=2.2, marker=dots, markersize=4.5
        )
        line.set_gid(f"line:{name}")
        lines.append((line, name))
    ax.set_xlabel("epoch")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return lines

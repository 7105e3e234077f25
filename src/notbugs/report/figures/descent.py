"""Loss and success rate against steps."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from notbugs.judge import LossCurve, LossRun
from notbugs.report.figures.radius import inks, title
from notbugs.report.figures.style import LABEL, Theme, percent_axis, plain_axes
from notbugs.report.formatting import norm_name

MOST_NAMED = 4
"""Restarts of one attack that are labelled; of more, the first and the last."""


def draw_losses(
    top: Axes, bottom: Axes, curves: Mapping[str, LossCurve], theme: Theme
) -> list[tuple[Line2D, str]]:
    """Draws the objective above, the successes below; returns the upper lines with names."""
    for ax in (top, bottom):
        plain_axes(ax, theme)
    percent_axis(bottom, theme, "succeeded (%)")
    top.set_ylabel("objective (the attack lowers it)", color=theme.ink, fontsize=LABEL)
    several = any(len(curve.runs) > 1 for curve in curves.values())
    bottom.set_xlabel(
        "steps taken\nline: mean over images, band: quartiles" + " of try 1" * several,
        color=theme.ink,
        fontsize=LABEL,
        linespacing=1.4,
    )
    lines: list[tuple[Line2D, str]] = []
    pens = inks(len(curves), theme)
    for (name, curve), ink in zip(curves.items(), pens, strict=True):
        lines += _loss_lines(top, bottom, name, curve, ink)
    longest = max((len(run.mean) for c in curves.values() for run in c.runs), default=2)
    bottom.set_xlim(0, longest - 1)
    bottom.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    title(top, _loss_title(curves), theme)
    return lines


def _loss_lines(
    top: Axes, bottom: Axes, name: str, curve: LossCurve, ink: tuple[str, Any]
) -> list[tuple[Line2D, str]]:
    color, dashes = ink
    count = len(curve.runs)
    lines: list[tuple[Line2D, str]] = []
    for k, run in enumerate(curve.runs):
        steps = np.arange(len(run.mean))
        alpha = 1.0 if k == 0 else max(0.35, 0.8 - 0.1 * k)
        look: dict[str, Any] = {"color": color, "alpha": alpha, "linewidth": 2.2 if k == 0 else 1.3}
        look |= {"linestyle": dashes, "gid": f"line:{name}:{k}"}
        (line,) = top.plot(steps, run.mean, zorder=3, **look)
        if k == 0:
            band: dict[str, Any] = {"color": color, "alpha": 0.15, "linewidth": 0, "zorder": 2}
            top.fill_between(steps, run.low, run.high, **band)
        bottom.plot(steps, run.reached, zorder=3, clip_on=False, **look)
        if k in (0, count - 1) or count <= MOST_NAMED:
            lines.append((line, _run_name(name, run, k, count)))
    return lines


def _run_name(name: str, run: LossRun, k: int, count: int) -> str:
    if k == 0:
        return name if count == 1 else f"{name}, try 1"
    return f"try {k + 1}: {run.rows:,} image{'s' * (run.rows != 1)}"


def _loss_title(curves: Mapping[str, LossCurve]) -> str:
    threats = {curve.threat for curve in curves.values()}
    threat = threats.pop() if len(threats) == 1 else None
    if threat is None:
        return "Loss against steps"
    norm, _, eps = threat.partition(":")
    return f"Loss against steps, {norm_name(norm)}, ε = {eps}"

"""The page of a run of ilyas2019: one self-contained HTML file."""

from collections.abc import Mapping
from pathlib import Path

from notbugs.report import content, figures
from notbugs.report.command import reproduction
from notbugs.report.figures import DARK, LIGHT, Theme
from notbugs.report.figures.adversarial import MODELS, magnification
from notbugs.report.reading import Run, read_run
from notbugs.report.rendering import embedded, template, write_page

DRAWN = {
    "examples": figures.examples,
    "bars": figures.bars,
    "crossover": figures.crossover,
    "adversarial": figures.adversarial,
}
NEEDED = {
    "examples": ("D.images", "D.labels"),
    "adversarial": (
        "adv.images",
        "adv.labels",
        *(f"adv.{model}.{what}" for model in MODELS for what in ("images", "said")),
    ),
}
"""The sample tensors without which a figure cannot be drawn."""


def write_report(folder: Path) -> Path:
    """Writes `folder/report.html` and `folder/figures/*.png` from the run's results.

    The page is self-contained: pictures and styles are embedded.

    **Raises** DataError where `folder` holds no results.json of notbugs, or damaged pictures;
    StoreError where the folder cannot be written.

    >>> write_report(Path("runs/demo"))  # doctest: +SKIP
    """
    run = read_run(folder)
    light = _draw(run, LIGHT)
    return write_page(folder, render(run, light, _draw(run, DARK)), light)


def _draw(run: Run, theme: Theme) -> dict[str, bytes]:
    """All figures for which the run has the data, as PNG."""
    return {n: figures.png(draw(run, theme)) for n, draw in DRAWN.items() if _possible(run, n)}


def _possible(run: Run, name: str) -> bool:
    if name in NEEDED:
        return all(key in run.samples for key in NEEDED[name])
    return name != "crossover" or any(r.eps is not None for r in run.sets)


def render(run: Run, light: Mapping[str, bytes], dark: Mapping[str, bytes]) -> str:
    """The page as text, with the pictures of both colour schemes inside."""
    return template("page.html.j2").render(
        run=run,
        result=run.result,
        facts=content.facts(run),
        conditions=content.conditions(run),
        claims=[content.claim(c) for c in run.result["claims"]],
        counts=content.counts(run.result["claims"]),
        sets=content.table(run.sets, run.norm),
        planted=content.table(run.planted, run.norm),
        glossary=content.glossary(run),
        recipes=content.recipes(run.config),
        again=reproduction(str(run.result["experiment"]), run.config),
        pictures={n: {"light": embedded(light[n]), "dark": embedded(dark[n])} for n in light},
        scale=magnification(run) if "adversarial" in light else None,
    )

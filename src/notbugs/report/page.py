"""The page of a run: one self-contained HTML file, from its stored results."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from notbugs.core.errors import DataError
from notbugs.experiments import page
from notbugs.report.content import Content
from notbugs.report.figures.kinds import draw
from notbugs.report.figures.style import DARK, LIGHT, png, slide, svg
from notbugs.report.reading import REMEDY, read_pictures, read_results
from notbugs.report.rendering import embedded, template, write_page


def write_report(folder: Path) -> Path:
    """Writes `folder/report.html` and its figures, as PNG, SVG and slides, from stored results.

    The page is self-contained: pictures and styles are embedded.

    **Raises** DataError where `folder` holds no results of a paper, or damaged pictures;
    StoreError where it cannot be written.

    >>> write_report(Path("runs/demo"))  # doctest: +SKIP
    """
    content = Content.of(read_results(folder), read_pictures(folder))
    figures = [
        {
            f"figure-{i + 1}-{j + 1}": figure
            for j, figure in enumerate(section.figures)
            if content.drawn.has(figure)
        }
        for i, section in enumerate(content.experiment.sections)
    ]
    named = {name: figure for own in figures for name, figure in own.items()}
    drawings = {name: draw(figure, content.drawn, LIGHT) for name, figure in named.items()}
    light = {name: png(drawing) for name, drawing in drawings.items()}
    others = {f"{name}.svg": svg(drawing) for name, drawing in drawings.items()}
    others |= {f"slides/{name}.png": slide(drawing) for name, drawing in drawings.items()}
    dark = {name: png(draw(figure, content.drawn, DARK)) for name, figure in named.items()}
    pictures = {n: {"light": embedded(light[n]), "dark": embedded(dark[n])} for n in named}
    return write_page(folder, _render(content, figures, pictures), light, others)


def _render(
    content: Content,
    figures: Sequence[Mapping[str, page.Figure]],
    pictures: Mapping[str, Mapping[str, str]],
) -> str:
    results, sections = content.results, list[Mapping[str, object]]()
    for section, own in zip(content.experiment.sections, figures, strict=True):
        tables = [content.table(t) for t in section.tables if content.has(t)]
        if own or tables:
            captions = [(name, content.caption(figure)) for name, figure in own.items()]
            text = content.drawn.worded(section.text)
            sections.append(
                {"title": section.title, "text": text, "figures": captions, "tables": tables}
            )
    if not sections:
        raise DataError(f"The results hold no table of {content.experiment.name}. {REMEDY}")
    return template("page.html.j2").render(
        title=results["dataset"],
        experiment=content.experiment,
        is_control=page.is_control,
        claims=content.claims(),
        counts=content.counts(),
        results=results,
        conditions=content.conditions(),
        sections=sections,
        settings=json.dumps(results["conditions"]["config"], indent=1, ensure_ascii=False),
        pictures=pictures,
    )

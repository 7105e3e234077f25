"""HTML of the explorer and the lecture: pictures, tables and drawings in the figures' colours."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from html import escape
from importlib.resources import files

from matplotlib.figure import Figure
from torch import Tensor

import notbugs.report  # noqa: F401  # pyright: ignore[reportUnusedImport] (before matplotlib)
from notbugs.core.visible import visible
from notbugs.data.pictures import picture_png
from notbugs.report.figures import DARK, LIGHT
from notbugs.report.figures.style import svg
from notbugs.report.rendering import embedded

COLOURS: Mapping[str, str] = asdict(LIGHT)
STYLE = "pieces.css"
"""The file of the pieces' styles."""
_HEAD = re.compile(r"^.*?(?=<svg)|<metadata>.*?</metadata>", re.DOTALL)
_IDS = re.compile(r'(?<=id=")|(?<=url\(#)|(?<=xlink:href="#)')


def static(name: str) -> str:
    """A file of this package's folder `static`."""
    return (files("notbugs.app") / "static" / name).read_text(encoding="utf-8")


def text(words: object) -> str:
    """Untrusted text as HTML, with control characters shown."""
    return escape(visible(str(words)))


def variables(dark: str) -> str:
    """CSS: the figures' colours as variables; `dark`: a selector with braces for a dark screen."""

    def block(colours: Mapping[str, str]) -> str:
        return " ".join(f"--nb-{name}: {colour};" for name, colour in colours.items())

    return f":root {{ {block(COLOURS)} }}\n{dark.format(block(asdict(DARK)))}"


def image(x: Tensor, alt: str, caption: str = "", note: str = "") -> str:
    """An image [c, h, w] in [0, 1], its pixels sharp, with words below it."""
    source = embedded(picture_png(x.clamp(0, 1)))
    under = f"<figcaption>{text(caption)}<small>{text(note)}</small></figcaption>"
    shown = under if caption or note else ""
    return f'<figure class="nb-image"><img src="{source}" alt="{text(alt)}">{shown}</figure>'


def images(figures: Sequence[str]) -> str:
    """Pictures side by side."""
    return f'<div class="nb-images">{"".join(figures)}</div>'


def scrolled(content: str, name: str) -> str:
    """HTML that scrolls sideways where the screen is narrow, also by keys."""
    return (
        f'<div class="nb-scroll" tabindex="0" role="region" aria-label="{text(name)}">'
        f"{content}</div>"
    )


def sentence(words: str, *, kind: str = "") -> str:
    """A paragraph of untrusted text; `kind`: "note", "yes" or "no"."""
    return f'<p class="nb-text {kind}">{text(words)}</p>'


def bars(
    heads: Sequence[str],
    rows: Sequence[tuple[str, Sequence[tuple[float, str, bool]]]],
    caption: str,
) -> str:
    """A table with a bar in each cell.

    - `rows`: of each the head, and of each cell (share 0..1, text, whether it is the largest)
    """
    cells = "".join(
        f'<tr><th scope="row">{text(head)}</th>'
        + "".join(
            f'<td{" class=nb-top" * top}><i style="width:{100 * min(max(share, 0), 1):.1f}%"></i>'
            f"<span>{text(words)}</span></td>"
            for share, words, top in row
        )
        + "</tr>"
        for head, row in rows
    )
    head = "".join(f'<th scope="col">{text(name)}</th>' for name in heads)
    return (
        f'<table class="nb-bars"><caption>{text(caption)}</caption>'
        f"<thead><tr><td></td>{head}</tr></thead><tbody>{cells}</tbody></table>"
    )


def drawing(figure: Figure, alt: str, prefix: str, extra: str = "") -> str:
    """A figure of the theme LIGHT as inline SVG, which takes the colours of the page.

    - `prefix`: of its ids, another for each drawing of a page; `extra`: SVG on top of it
    """
    source = _HEAD.sub("", svg(figure).decode())
    for name, colour in COLOURS.items():
        source = source.replace(colour, f"var(--nb-{name})")
    source = _IDS.sub(f"{prefix}-", source)
    start, end = source.index(">") + 1, source.rindex("</svg>")
    box = re.search(r'viewBox="[^"]+"', source)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" {box[0] if box else ""}'
    head += f' class="nb-drawing" role="img" aria-label="{text(alt)}">'
    return head + source[start:end].replace("xlink:href", "href") + extra + "</svg>"

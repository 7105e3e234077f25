"""Shared by all pages: templates and embedded pictures."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, Template

from notbugs.core.visible import visible
from notbugs.data.writing import write_file

PAGE = "report.html"


def template(name: str) -> Template:
    """A template of this package; text is escaped, and a missing value is an error."""
    environment = Environment(
        loader=PackageLoader("notbugs.report"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def _shown(value: Any) -> Any:
    """Escapes invisible characters in text; trusted markup is returned as it is."""
    return visible(value) if type(value) is str else value


def embedded(content: bytes) -> str:
    """A PNG as a data URL."""
    return "data:image/png;base64," + base64.b64encode(content).decode()


def write_page(
    folder: Path,
    text: str,
    pictures: Mapping[str, bytes],
    others: Mapping[str, bytes],
) -> Path:
    """Writes `folder/report.html` and, in `folder/figures`, PNGs and other files by their names.

    **Raises** StoreError where the folder cannot be written.
    """
    for name, picture in pictures.items():
        _write(folder / "figures" / f"{name}.png", picture)
    for name, content in others.items():
        _write(folder / "figures" / name, content)
    _write(folder / PAGE, text.encode("utf-8"))
    return folder / PAGE


def _write(path: Path, content: bytes) -> None:
    write_file(path, lambda file: file.write(content))

"""Docstrings as Markdown: examples become code, and indices are no links."""

import re
from typing import Any

from griffe import Extension, Object


class Docstrings(Extension):
    """Rewrites every docstring before it is drawn."""

    def on_object(self, *, obj: Object, **options: Any) -> None:
        """Called for each object that was read."""
        if obj.docstring is not None:
            obj.docstring.value = as_markdown(obj.docstring.value)


def as_markdown(text: str) -> str:
    """Doctests in fences; `[n][m]` outside code is text."""
    lines, fenced = list[str](), False
    for line in text.splitlines():
        begins = line.lstrip().startswith(">>>")
        if begins and not fenced:
            lines += ["", "```pycon"]
            fenced = True
        elif fenced and not line.strip():
            lines += ["```"]
            fenced = False
        lines.append(line.strip() if fenced else re.sub(r"\]\[", r"]\\[", line))
    return "\n".join([*lines, "```"] if fenced else lines)

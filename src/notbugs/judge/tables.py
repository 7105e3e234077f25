"""Tables as Markdown and LaTeX."""

import re
from collections.abc import Sequence
from typing import TypeAlias

_NUMBER = re.compile(r"[-+−≤≥<–]? ?\d|–?$")
Table: TypeAlias = tuple[list[str], list[list[str]]]
"""A head, and rows."""


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown; columns of numbers lie to the right."""
    numbers = [all(_NUMBER.match(row[i]) for row in rows) for i in range(len(head))]
    lines = [head, ["---:" if number else "---" for number in numbers], *rows]
    return "\n".join(f"| {' | '.join(map(_cell, line))} |" for line in lines)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def latex(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A `tabular` with the rules of `booktabs`; special characters are escaped."""
    lines = [" & ".join(map(_escaped, line)) + r" \\" for line in (head, *rows)]
    columns = "l" + "r" * (len(head) - 1)
    body = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", lines[0], r"\midrule", *lines[1:]]
    return "\n".join([*body, r"\bottomrule", r"\end{tabular}"])


LATEX = {
    "\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "≤": r"$\leq$", "−": "$-$", "–": "--", **{sign: f"\\{sign}" for sign in "&%$#_{}"},
}  # fmt: skip


def _escaped(text: str) -> str:
    escaped = "".join(LATEX.get(sign, sign) for sign in " ".join(text.split()))
    return re.sub(r"(?<![\w$-])-(?=\d)", "$-$", escaped)

"""The console for all terminal output: names of users and files are text, never markup."""

from typing import Any

from rich.console import Console
from rich.text import Text

from notbugs.core.visible import one_line, visible


class PlainConsole(Console):
    """A rich console without markup and emoji names, which escapes control characters.

    Strings are printed as one line each, with control characters and direction marks as escapes
    (`visible`), also in tables. Use `Text` for styled output.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints as rich does; a string is one line."""
        super().print(*(one_line(o) if isinstance(o, str) else o for o in objects), **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """The text of a table cell or message, escaped."""
        return super().render_str(visible(text), **options)

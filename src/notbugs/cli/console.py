"""The only way to the terminal: what users and their files are called is text, not markup."""

from typing import Any

from rich.console import Console
from rich.text import Text

from notbugs.core.visible import one_line, visible


class PlainConsole(Console):
    """A console that reads no markup and no emoji names in text, and shows what would act.

    Strings are printed as one line each, with control characters and marks of direction as
    escapes (`visible`); so are strings in tables. What is to have a style is a `Text` of ours.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def print(self, *objects: Any, **options: Any) -> None:
        """Prints as rich does; a string is one line."""
        super().print(*(one_line(o) if isinstance(o, str) else o for o in objects), **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """A string of a table or a message as it is shown."""
        return super().render_str(visible(text), **options)

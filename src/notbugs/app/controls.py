"""Shared by the tabs: events with errors as messages, and checks of what controls send."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import wraps
from html import escape
from typing import Any

from notbugs.app import markup
from notbugs.core.errors import NotbugsError, bad_value
from notbugs.core.visible import visible

LOOK_UPS = 4
"""Answers that are looked up at once."""
ERRORS = (NotbugsError, ValueError, TypeError)
"""Those whose text is shown; of others gradio shows that there was one."""


@dataclass(frozen=True)
class Controls:
    """gradio, and how events of the page are answered.

    - `gr`: the module; `copies`: how many answers are computed at once
    """

    gr: Any
    copies: int

    def on(
        self,
        triggers: Sequence[Any],
        function: Callable[..., Any],
        inputs: Any,
        outputs: Any,
        name: str | None,
        *,
        computes: bool = False,
    ) -> None:
        """Answers events by a function; of events that come meanwhile only the last counts.

        - `name`: of the endpoint; None: it is left out of the API's list
        - `computes`: it runs models; others do not wait for those that do
        """
        self.gr.on(
            list(triggers),
            self._explained(function),
            inputs,
            outputs,
            api_name=name,
            api_visibility="public" if name else "private",
            trigger_mode="always_last",
            show_progress="hidden",
            concurrency_limit=self.copies if computes else LOOK_UPS,
            concurrency_id="computed" if computes else "looked up",
        )

    def html(self, value: str = "", **options: Any) -> Any:
        """A piece of HTML without gradio's styles of text."""
        return self.gr.HTML(value, apply_default_css=False, **options)

    def start(self, function: Callable[[], str]) -> str:
        """What a tab shows at first, or the error instead."""
        try:
            return function()
        except ERRORS as error:
            return markup.sentence(str(error), kind="no")

    def _explained(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(function)
        def call(*given: Any) -> Any:
            try:
                return function(*given)
            except ERRORS as error:
                words = escape(visible(str(error)), quote=False)
                raise self.gr.Error(words, print_exception=False, title="Not possible") from error

        return call


def class_choices(names: Sequence[str]) -> list[tuple[str, int]]:
    """Classes as a list's choices: their names and numbers."""
    return [(name, i) for i, name in enumerate(names)]


def row_of(value: object, count: int) -> int:
    """A number that a slider sent, as a row.

    **Raises** ValueError for anything but a whole number in 0..count-1.
    """
    if not isinstance(value, int | float) or value != value or not 0 <= value < count:
        raise bad_value("image", f"lie in 0..{count - 1}", value, "Move the slider.")
    return int(value)

"""`notbugs lecture`: a page for lectures that needs no server."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from rich.console import Console

from notbugs.cli.common import default_workers
from notbugs.cli.explore import cached_store
from notbugs.cli.kinds import FOLDER
from notbugs.cli.outputs import Output, check_outputs, inputs_of
from notbugs.cli.progress import StageDisplay


@dataclass(frozen=True)
class Lecture:
    """Write a page for lectures: labels that change hands, the theory, wrong labels.

    A new folder with index.html and pictures, of the digits, that any host can serve and any
    browser can open from a disk: nothing in it comes from elsewhere. A standard and a robust CNN
    are trained for it, and kept for the next time.

    Try:
      notbugs lecture --out lecture
    """

    if_stopped: ClassVar[str] = "Stopped. The same command takes up what is finished."

    out: Path
    """The folder to write."""
    store: Path | None = None
    """Where models and what is computed once are kept; without it in the cache folder."""

    def run(self, console: Console) -> None:
        """Trains what is missing, and writes the folder."""
        check_outputs({"--out": Output(self.out, FOLDER)}, inputs_of(), overwrite=False)
        from notbugs.app import crossovers_of, digits_subjects, write_lecture

        store, display = cached_store(self.store), StageDisplay(console)
        with display.shown():
            subjects = digits_subjects(store, workers=default_workers("cpu"), observer=display)
            pair = (subjects.first, "other")
            found = crossovers_of(subjects, store, [pair], observer=display)[pair]
        page = write_lecture(self.out, found, subjects.test.class_names, subjects.test.name)
        console.print(f"Page: {page}", soft_wrap=True)

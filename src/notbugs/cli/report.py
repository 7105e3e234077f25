"""`notbugs report`: draws the page of a finished run again."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console

from notbugs.cli.progress import duration
from notbugs.experiments.results import RESULTS


@dataclass(frozen=True)
class Report:
    """Draw the page and figures of a finished run again, from its stored results.

    Nothing is computed. Writes report.html and figures/ in the folder, and prints the tables.

    Try:
      notbugs report runs/ilyas2019-digits-laptop
    """

    draws: ClassVar[bool] = True

    folder: Annotated[Path, tyro.conf.Positional]
    """The folder that `notbugs reproduce` wrote."""

    def run(self, console: Console) -> None:
        """Draws it, prints the tables and says where the page is."""
        from notbugs.report.reading import read_results

        draw_report(self.folder, read_results(self.folder), console, again=True)


def _is_newer(page: Path, results: Path) -> bool:
    """Whether a page is newer than all that it is drawn from: results, and how they are shown."""
    package = Path(__file__).parents[1]
    sources = [p for part in ("experiments", "report") for p in (package / part).rglob("*.*")]
    drawn_from = [results, *(p for p in sources if p.suffix != ".pyc")]
    if not page.is_file() or not (page.parent / "figures").is_dir():
        return False
    return page.stat().st_mtime_ns > max(p.stat().st_mtime_ns for p in drawn_from)


def draw_report(folder: Path, results: Any, console: Console, *, again: bool) -> None:
    """Writes the page, prints the tables, and says where the page is and how long it took.

    - `again`: write it even where it is newer than the results
    """
    from notbugs.report import PAGE, print_result, write_report

    page = folder / PAGE
    if again or not _is_newer(page, folder / RESULTS):
        write_report(folder)
    print_result(results, console)
    console.print(
        f"Compute time of this run: {duration(results['seconds'])}; including stored results: "
        f"{duration(results['seconds_total'])}; wall time: {duration(results['seconds_wall'])}."
    )
    console.print(f"Report: {page}", soft_wrap=True)

"""Pages, figures and terminal tables of a finished run, from its stored results."""

# Before anything that imports matplotlib.
import notbugs.report.backend  # noqa: F401  # pyright: ignore[reportUnusedImport]
from notbugs.report.engstrom_page import write_engstrom_report
from notbugs.report.hero import hero
from notbugs.report.page import write_report
from notbugs.report.paper import print_paper, write_paper
from notbugs.report.terminal import print_engstrom_result, print_result

__all__ = [
    "hero",
    "print_engstrom_result",
    "print_paper",
    "print_result",
    "write_engstrom_report",
    "write_paper",
    "write_report",
]

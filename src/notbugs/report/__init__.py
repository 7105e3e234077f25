"""Pages, figures and terminal tables of a finished run: reads results, computes none."""

# Before anything that imports matplotlib.
import notbugs.report.backend  # noqa: F401  # pyright: ignore[reportUnusedImport]
from notbugs.report.hero import hero
from notbugs.report.looks import write_looks
from notbugs.report.page import write_report
from notbugs.report.terminal import print_looks, print_result

__all__ = ["hero", "print_looks", "print_result", "write_looks", "write_report"]

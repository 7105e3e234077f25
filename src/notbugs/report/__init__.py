"""The page, figures and terminal tables of a finished run, from its stored results."""

# Before anything that imports matplotlib.
import notbugs.report.backend  # noqa: F401  # pyright: ignore[reportUnusedImport]
from notbugs.report.page import write_report
from notbugs.report.rendering import PAGE
from notbugs.report.terminal import print_result

__all__ = ["PAGE", "print_result", "write_report"]

"""Pages, figures and terminal tables of a finished run: reads results, computes none."""

from notbugs.report.hero import hero
from notbugs.report.page import write_report
from notbugs.report.terminal import print_result

__all__ = ["hero", "print_result", "write_report"]

"""The explorer: models, attacks and features by clicks, and a page of them without a server."""

from notbugs.app.crossover import Crossover, crossover
from notbugs.app.explorer import QUICK, Explorer, Once, crossovers_of, explored
from notbugs.app.lecture import write_lecture
from notbugs.app.plane import Plane, plane
from notbugs.app.serving import Served, serve
from notbugs.app.subjects import Subjects, digits_subjects

__all__ = [
    "QUICK",
    "Crossover",
    "Explorer",
    "Once",
    "Plane",
    "Served",
    "Subjects",
    "crossover",
    "crossovers_of",
    "digits_subjects",
    "explored",
    "plane",
    "serve",
    "write_lecture",
]

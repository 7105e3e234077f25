"""The papers that `notbugs reproduce` knows as one value each."""

from collections.abc import Mapping
from typing import Any

from notbugs.experiments import szegedy2013
from notbugs.experiments.experiment import Experiment

PAPERS: Mapping[str, Experiment[Any]] = {
    experiment.name: experiment for experiment in (szegedy2013.EXPERIMENT,)
}

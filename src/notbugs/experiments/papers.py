"""The papers that `notbugs reproduce` knows as one value each."""

from collections.abc import Mapping
from typing import Any

from notbugs.experiments import (
    carlini2016,
    engstrom2019,
    gaussians,
    goodfellow2014,
    ilyas2019,
    kurakin2016,
    perceptron,
    szegedy2013,
    usefulness,
)
from notbugs.experiments.experiment import Experiment

PAPERS: Mapping[str, Experiment[Any]] = {
    paper.name: paper
    for paper in (
        ilyas2019.EXPERIMENT,
        engstrom2019.EXPERIMENT,
        szegedy2013.EXPERIMENT,
        goodfellow2014.EXPERIMENT,
        carlini2016.EXPERIMENT,
        kurakin2016.EXPERIMENT,
        perceptron.EXPERIMENT,
        usefulness.EXPERIMENT,
        gaussians.EXPERIMENT,
    )
}

"""The papers that `notbugs reproduce` knows as one value each."""

from collections.abc import Mapping
from typing import Any

from notbugs.experiments import (
    autoencoders,
    carlini2016,
    discussion2019,
    engstrom2019,
    gaussians,
    geirhos2020,
    goodfellow2014,
    hendrycks2019,
    ilyas2019,
    invertibility,
    kurakin2016,
    perceptron,
    salman2020,
    sparse_codes,
    superposition,
    szegedy2013,
    transferability,
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
        autoencoders.EXPERIMENT,
        sparse_codes.EXPERIMENT,
        superposition.EXPERIMENT,
        transferability.EXPERIMENT,
        discussion2019.EXPERIMENT,
        geirhos2020.EXPERIMENT,
        hendrycks2019.EXPERIMENT,
        salman2020.EXPERIMENT,
        invertibility.EXPERIMENT,
    )
}

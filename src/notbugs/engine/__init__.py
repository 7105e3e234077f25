"""The engine: change an input, inside a set, to lower an objective. Imports core only."""

from notbugs.engine.apgd import APGD
from notbugs.engine.distance import Distance, Paced, Perceptual, WithinDistance
from notbugs.engine.keep import (
    AbstractKeep,
    Kept,
    Last,
    LowestValue,
    SmallestSuccess,
    SuccessThenLowest,
)
from notbugs.engine.norms import L2, AbstractNorm, AbstractSize, Linf
from notbugs.engine.objective import AbstractObjective, Draw, Evaluation, OfOutputs
from notbugs.engine.out_of_reach import OutOfReach
from notbugs.engine.parameterize import AbstractParameterization, Pixels
from notbugs.engine.rules import AbstractStepRule, Adam, Momentum, Steepest, StepInfo
from notbugs.engine.sets import AbstractSet, Ball, BallInBox, Box, Everywhere
from notbugs.engine.solution import Check, Solution, Status
from notbugs.engine.solve import Solver
from notbugs.engine.sparse import L0, L1
from notbugs.engine.start import AbstractStart, AtCenter, FromImages, UniformIn
from notbugs.engine.stop import AbstractStop, Never, OnSuccess, Plateau
from notbugs.engine.threat import NORMS, SIZES, Threat
from notbugs.engine.trace import Observer, Trace, on_rows

__all__ = [
    "APGD",
    "L0",
    "L1",
    "L2",
    "NORMS",
    "SIZES",
    "AbstractKeep",
    "AbstractNorm",
    "AbstractObjective",
    "AbstractParameterization",
    "AbstractSet",
    "AbstractSize",
    "AbstractStart",
    "AbstractStop",
    "AbstractStepRule",
    "Adam",
    "AtCenter",
    "Ball",
    "BallInBox",
    "Box",
    "Check",
    "Distance",
    "Draw",
    "Evaluation",
    "Everywhere",
    "FromImages",
    "Kept",
    "Last",
    "Linf",
    "LowestValue",
    "Momentum",
    "Never",
    "Observer",
    "OfOutputs",
    "OnSuccess",
    "OutOfReach",
    "Paced",
    "Perceptual",
    "Pixels",
    "Plateau",
    "SmallestSuccess",
    "Solution",
    "Solver",
    "Status",
    "Steepest",
    "StepInfo",
    "SuccessThenLowest",
    "Threat",
    "Trace",
    "UniformIn",
    "WithinDistance",
    "on_rows",
]

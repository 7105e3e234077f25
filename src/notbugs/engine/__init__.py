"""The engine: change an input, inside a set, to lower an objective. Imports core only."""

from notbugs.engine.apgd import APGD
from notbugs.engine.crops import RandomCrop, UniformNoise, cropped_view
from notbugs.engine.distance import Distance, Paced, Perceptual, WithinDistance
from notbugs.engine.fourier import ColorRoot, Fourier, color_root
from notbugs.engine.give_up import GiveUp
from notbugs.engine.keep import (
    AbstractKeep,
    Kept,
    Last,
    LowestValue,
    SmallestSuccess,
    SuccessThenLowest,
)
from notbugs.engine.lbfgs import LBFGS
from notbugs.engine.maco import MaCo, Spectrum, spectrum_of
from notbugs.engine.norms import L2, AbstractNorm, AbstractSize, Linf
from notbugs.engine.objective import AbstractObjective, Derivative, Draw, Evaluation, OfOutputs
from notbugs.engine.parameterize import AbstractParameterization, Pixels
from notbugs.engine.rules import AbstractStepRule, Adam, Momentum, Steepest, StepInfo
from notbugs.engine.sets import AbstractSet, Ball, BallInBox, Box, Everywhere
from notbugs.engine.solution import Solution
from notbugs.engine.solve import Solver
from notbugs.engine.sparse import L0, L1
from notbugs.engine.start import AbstractStart, AtCenter, FromImages, UniformIn
from notbugs.engine.stop import AbstractStop, Never, OnSuccess, Plateau
from notbugs.engine.threat import NORMS, SIZES, Threat
from notbugs.engine.trace import Observer, Trace, on_rows
from notbugs.engine.transformed import Transformed
from notbugs.engine.transforms import Chain, Jitter, Pad, Rotate, Scale, Transform, robust_view

__all__ = [
    "APGD",
    "AbstractKeep",
    "AbstractNorm",
    "AbstractObjective",
    "AbstractParameterization",
    "AbstractSet",
    "AbstractSize",
    "AbstractStart",
    "AbstractStepRule",
    "AbstractStop",
    "Adam",
    "AtCenter",
    "Ball",
    "BallInBox",
    "Box",
    "Chain",
    "ColorRoot",
    "Distance",
    "Derivative",
    "Draw",
    "Evaluation",
    "Everywhere",
    "Fourier",
    "FromImages",
    "Jitter",
    "Kept",
    "L0",
    "L1",
    "L2",
    "LBFGS",
    "Last",
    "Linf",
    "LowestValue",
    "MaCo",
    "Momentum",
    "NORMS",
    "Never",
    "Observer",
    "OfOutputs",
    "OnSuccess",
    "GiveUp",
    "Pad",
    "Paced",
    "Perceptual",
    "Pixels",
    "Plateau",
    "RandomCrop",
    "Rotate",
    "SIZES",
    "Scale",
    "SmallestSuccess",
    "Solution",
    "Solver",
    "Spectrum",
    "Steepest",
    "StepInfo",
    "SuccessThenLowest",
    "Threat",
    "Trace",
    "Transform",
    "Transformed",
    "UniformIn",
    "UniformNoise",
    "color_root",
    "cropped_view",
    "spectrum_of",
    "WithinDistance",
    "on_rows",
    "robust_view",
]

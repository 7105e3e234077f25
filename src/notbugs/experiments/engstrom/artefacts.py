"""Spectra and checkerboards of gradients and pictures, and patterns of high frequency."""

import torch
from torch import Tensor

from notbugs.analysis import (
    as_pattern,
    band_pass,
    checkerboard,
    downsamplings,
    high_frequency_share,
    input_gradients,
    pattern_response,
    radial_spectrum,
)
from notbugs.core import random
from notbugs.experiments.engstrom.stage_io import KINDS, StageIO
from notbugs.experiments.stages import model_of
from notbugs.judge import accuracy
from notbugs.models import Classifier
from notbugs.models.cnn import DOWN
from notbugs.models.upsampling import UPSAMPLES
from notbugs.representations import default_visualisation_solver, visualise
from notbugs.representations.priors import NO_PRIORS
from notbugs.store import StageContext

EPS = (0.02, 0.05, 0.1, 0.2)
HIGH = 0.25
"""Cycles a pixel above which the patterns lie."""


def measure_artefacts(context: StageContext) -> None:
    """Spectra of both models' gradients, and responses to high-frequency patterns."""
    io = StageIO(context)
    x, y = io.tests(500)
    for i, kind in enumerate(KINDS):
        model = io.models[kind]
        gradients = input_gradients(model, x, y)
        spectrum = radial_spectrum(_scaled(gradients))
        io.show(f"spectrum/{kind}", spectrum.power.mean(dim=0))
        io.show("spectrum/frequency", spectrum.frequency)
        nonzero = gradients.flatten(1).any(dim=1)
        share = 100 * high_frequency_share(gradients[nonzero])
        numbers = {"high_frequencies": share, "zero": 100 * float((~nonzero).float().mean())}
        io.add("gradients", kind, numbers | _boards(gradients, model))
        _patterns(io, kind, model)
        context.progress((i + 1) / 3)
    images = 100 * high_frequency_share(x)
    io.add("gradients", "images", {"high_frequencies": images, **_boards(x, io.judge)})
    spectrum = radial_spectrum(_scaled(x))
    io.show("spectrum/images", spectrum.power.mean(dim=0))
    io.write()


def measure_downsampling(context: StageContext) -> None:
    """Checkerboard scores by a classifier's downsampling and a generator's upsampling."""
    io = StageIO(context)
    x, y = io.tests(500)
    named = [(down, f"down {down}") for down in DOWN if f"down {down}" in context.inputs]
    for down, name in named:
        model = model_of(context, name)
        gradients = input_gradients(model, x, y)
        steps = context.config["visual_steps"]
        images = _class_pictures(model, steps, io.seed)
        layers = downsamplings(model)
        io.add(
            "downsampling",
            f"classifier, {down}",
            {
                "clean": accuracy(model, io.parts.test),
                "even": float(all(d.even for d in layers)),
                "gradient_board": _board(gradients),
                "picture_board": _board(images),
                "high_frequencies": 100 * high_frequency_share(gradients),
            },
        )
        io.show(f"down/{down}", _scaled(gradients[:6]))
    codes = torch.randn(256, 16, generator=random.generator(io.seed, "codes"))
    for how in UPSAMPLES:
        net = io.generator("generator" if how == "resize" else f"up {how}")
        with torch.no_grad():
            images = net.decode(codes[:, : net.width].to(io.device))
        io.add("downsampling", f"generator, {how}", {"picture_board": _board(images)})
        io.show(f"up/{how}", images[:6])
    io.add("downsampling", "images", {"picture_board": _board(x)})
    io.write()


def _patterns(io: StageIO, kind: str, model: Classifier) -> None:
    """Responses to the high frequencies of class visualisations, alone and on images."""
    visualised = _class_pictures(model, io.config["visual_steps"], io.seed)
    grey = torch.full_like(visualised, 0.5)
    waves = band_pass(visualised - grey, HIGH)
    largest = waves.abs().flatten(1).amax(dim=1).clamp(min=1e-9)
    patterns = as_pattern((grey + 0.5 * waves / largest[:, None, None, None]).clamp(0, 1))
    images, _ = io.tests(200)
    classes = torch.arange(model.classes, device=io.device)
    response = pattern_response(model, patterns, classes, images, EPS, layer="logits")
    spread = response.spread.clamp(min=1e-9)
    for i, eps in enumerate(EPS):
        io.add(
            "patterns",
            f"{kind}, eps {eps:g}",
            {
                "alone": response.alone[i] / spread,
                "added": response.added[i] / spread,
                "seen_alone": response.seen_alone[i],
                "seen_added": response.seen_added[i],
            },
        )
    io.show(f"pattern/{kind}", 0.5 + 0.5 * patterns[:6])


def _class_pictures(model: Classifier, steps: int, seed: int) -> Tensor:
    """Visualisations of all classes, starting from grey."""
    solver = default_visualisation_solver(NO_PRIORS, model.shape[1:], steps)
    return visualise(model, layer="logits", start="grey", solver=solver, seed=seed).x


def _boards(images: Tensor, model: Classifier) -> dict[str, float]:
    """The checkerboard scores of the model's periods, where the images are large enough."""
    periods = sorted({d.period for d in downsamplings(model)} | {2})
    return {f"board_{p}": _board(images, p) for p in periods if min(images.shape[2:]) >= 3 * p}


def _board(images: Tensor, period: int = 2) -> float:
    """The checkerboard score with images scaled to equal standard deviation."""
    return checkerboard(_scaled(images), period) if min(images.shape[2:]) >= 3 * period else 0.0


def _scaled(images: Tensor) -> Tensor:
    """Each image divided by its own spread; an image without any stays as it is."""
    spread = images.flatten(1).std(dim=1)
    return images / torch.where(spread > 0, spread, 1)[:, None, None, None]

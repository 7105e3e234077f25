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
from notbugs.experiments.engstrom.producers import KINDS, Desk
from notbugs.experiments.stages import model_of
from notbugs.judge import accuracy
from notbugs.models import Classifier
from notbugs.models.cnn import DOWN
from notbugs.models.upsampling import UPSAMPLES
from notbugs.representations import usual_visualisation, visualise
from notbugs.representations.priors import NO_PRIORS
from notbugs.store import StageContext

EPS = (0.02, 0.05, 0.1, 0.2)
HIGH = 0.25
"""Cycles a pixel above which the patterns lie."""


def look_artefacts(context: StageContext) -> None:
    """How gradients of both models are spread over frequencies, and what patterns do."""
    desk = Desk(context)
    x, y = desk.tests(500)
    for i, kind in enumerate(KINDS):
        model = desk.models[kind]
        gradients = input_gradients(model, x, y)
        spectrum = radial_spectrum(_scaled(gradients))
        desk.show(f"spectrum/{kind}", spectrum.power.mean(dim=0))
        desk.show("spectrum/frequency", spectrum.frequency)
        there = gradients.flatten(1).any(dim=1)
        share = 100 * high_frequency_share(gradients[there])
        numbers = {"high_frequencies": share, "zero": 100 * float((~there).float().mean())}
        desk.add("gradients", kind, numbers | _boards(gradients, model))
        _patterns(desk, kind, model)
        context.progress((i + 1) / 3)
    images = 100 * high_frequency_share(x)
    desk.add("gradients", "images", {"high_frequencies": images, **_boards(x, desk.judge)})
    spectrum = radial_spectrum(_scaled(x))
    desk.show("spectrum/images", spectrum.power.mean(dim=0))
    desk.write()


def look_downsampled(context: StageContext) -> None:
    """Checkerboards by how a classifier halves its maps, and a generator doubles them."""
    desk = Desk(context)
    x, y = desk.tests(500)
    named = [(down, f"down {down}") for down in DOWN if f"down {down}" in context.inputs]
    for down, name in named:
        model = model_of(context, name)
        gradients = input_gradients(model, x, y)
        steps = context.config["visual_steps"]
        made = _class_pictures(model, steps, desk.seed)
        known = downsamplings(model)
        desk.add(
            "downsampling",
            f"classifier, {down}",
            {
                "clean": accuracy(model, desk.parts.test),
                "even": float(all(d.even for d in known)),
                "gradient_board": _board(gradients),
                "picture_board": _board(made),
                "high_frequencies": 100 * high_frequency_share(gradients),
            },
        )
        desk.show(f"down/{down}", _scaled(gradients[:6]))
    codes = torch.randn(256, 16, generator=random.generator(desk.seed, "codes"))
    for how in UPSAMPLES:
        net = desk.generator("generator" if how == "resize" else f"up {how}")
        with torch.no_grad():
            made = net.decode(codes[:, : net.width].to(desk.device))
        desk.add("downsampling", f"generator, {how}", {"picture_board": _board(made)})
        desk.show(f"up/{how}", made[:6])
    desk.add("downsampling", "images", {"picture_board": _board(x)})
    desk.write()


def _patterns(desk: Desk, kind: str, model: Classifier) -> None:
    """The high frequencies of what each class likes, alone and on images."""
    made = _class_pictures(model, desk.config["visual_steps"], desk.seed)
    grey = torch.full_like(made, 0.5)
    waves = band_pass(made - grey, HIGH)
    largest = waves.abs().flatten(1).amax(dim=1).clamp(min=1e-9)
    patterns = as_pattern((grey + 0.5 * waves / largest[:, None, None, None]).clamp(0, 1))
    images, _ = desk.tests(200)
    classes = torch.arange(model.classes, device=desk.device)
    found = pattern_response(model, patterns, classes, images, EPS, layer="logits")
    unit = found.spread.clamp(min=1e-9)
    for i, eps in enumerate(EPS):
        desk.add(
            "patterns",
            f"{kind}, eps {eps:g}",
            {
                "alone": found.alone[i] / unit,
                "added": found.added[i] / unit,
                "seen_alone": found.seen_alone[i],
                "seen_added": found.seen_added[i],
            },
        )
    desk.show(f"pattern/{kind}", 0.5 + 0.5 * patterns[:6])


def _class_pictures(model: Classifier, steps: int, seed: int) -> Tensor:
    """What makes each class likely, from grey."""
    solver = usual_visualisation(NO_PRIORS, model.shape[1:], steps)
    return visualise(model, layer="logits", start="grey", solver=solver, seed=seed).x


def _boards(images: Tensor, model: Classifier) -> dict[str, float]:
    """The checkerboard scores of the model's periods, where the images are large enough."""
    periods = sorted({d.period for d in downsamplings(model)} | {2})
    return {f"board_{p}": _board(images, p) for p in periods if min(images.shape[2:]) >= 3 * p}


def _board(images: Tensor, period: int = 2) -> float:
    """Every image weighing the same."""
    return checkerboard(_scaled(images), period) if min(images.shape[2:]) >= 3 * period else 0.0


def _scaled(images: Tensor) -> Tensor:
    """Each image divided by its own spread; an image without any stays as it is."""
    spread = images.flatten(1).std(dim=1)
    return images / torch.where(spread > 0, spread, 1)[:, None, None, None]

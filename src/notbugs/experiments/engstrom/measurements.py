"""Measurements of inversion, interpolation, visualisation and manipulation of both models."""

import torch
from torch import Tensor

from notbugs.analysis import high_frequency_share
from notbugs.core import random
from notbugs.core.types import Images, Labels
from notbugs.engine import robust_view
from notbugs.experiments.engstrom.stage_io import KINDS, StageIO
from notbugs.models import Classifier, frozen
from notbugs.models.denoiser import Denoiser
from notbugs.representations import (
    Priors,
    add_feature,
    default_visualisation_solver,
    find_attribute,
    fourier_solver,
    interpolate,
    invert_images,
    most_activating,
    visualise,
)
from notbugs.representations.batches import read_all
from notbugs.representations.priors import NO_PRIORS
from notbugs.representations.reading import layer_of
from notbugs.store import StageContext

STARTS = ("noise", "another image")
WEIGHTS = (0.01, 0.1, 1.0, 10.0, 100.0, 1000.0)
"""Weights of a prior that are tried, in units of the logits' spread over images."""
VARIANTS = (
    "no prior",
    "total variation",
    "frequency weights",
    "random moves",
    "waves",
    "denoiser",
    "generator",
)
STRENGTHS = (-1.0, 0.5, 1.0, 2.0)
"""What is added to a feature, in units of the difference between the attribute's groups."""
SHOWN = 8


def measure_inversion(context: StageContext) -> None:
    """Inversion from noise and from another image."""
    io = StageIO(context)
    closeness: dict[str, dict[str, Tensor]] = {}
    x, y = io.tests(io.config["targets"])
    others = _of_another_class(x, y)
    io.show("targets", x[:SHOWN])
    done = 0
    for start in STARTS:
        begin = "noise" if start == "noise" else others
        for kind in KINDS:
            result = invert_images(
                io.models[kind], x, start=begin, solver=io.solver(), seed=io.seed
            )
            close = io.close(result.x, x)
            numbers = {"relative_error": result.relative_error, "start_error": result.start_error}
            before = io.close(result.start, x)
            io.add(
                "inversion",
                f"{kind}, from {start}",
                {**numbers, **close, **{f"{k}_before": v for k, v in before.items()}},
            )
            closeness[kind] = close
            io.show(f"inverted/{start}/{kind}", result.x[:SHOWN])
            io.show(f"inverted/{start}/start", result.start[:SHOWN])
            done += 1
            context.progress(done / 4)
        gains = {
            name: closeness["robust"][name] - closeness["standard"][name]
            for name in closeness["robust"]
        }
        io.add("gain", f"robust - standard, from {start}", gains | _errors(gains))
    io.write()


def measure_interpolation(context: StageContext) -> None:
    """Interpolation through each representation and, for comparison, of pixels."""
    io = StageIO(context)
    pairs, denoise = io.config["pairs"], io.denoiser()
    x, y = io.tests(2 * pairs)
    first, last = x[:pairs], _of_another_class(x, y)[:pairs]
    for i, kind in enumerate(KINDS):
        model = io.models[kind]
        result = interpolate(
            model, first, last, points=io.config["points"], solver=io.solver(), seed=io.seed
        )
        for name, path in ((kind, result.through), (f"pixels, seen by {kind}", result.plain)):
            inner = path.frames[:, 1:-1].flatten(0, 1)
            io.add(
                "interpolation",
                name,
                {
                    "relative_error": result.relative_error
                    if path is result.through
                    else float("nan"),
                    "pixel_unevenness": path.pixel_unevenness,
                    "representation_unevenness": path.representation_unevenness,
                    "unnatural": _unnatural(denoise, inner),
                },
            )
        io.show(f"path/{kind}", result.through.frames[:3])
        io.show("path/pixels", result.plain.frames[:3])
        context.progress((i + 1) / 2)
    io.write()


def measure_visualisation(context: StageContext) -> None:
    """Visualisations of each class with each prior, and of coordinates of the embedding."""
    io = StageIO(context)
    denoise = io.denoiser()
    for i, kind in enumerate(KINDS):
        model = io.models[kind]
        spread = _spread_of_logits(io, model)
        for j, variant in enumerate(VARIANTS):
            _visualise(io, kind, variant, denoise, spread)
            context.progress((i + (j + 1) / (len(VARIANTS) + 1)) / 2)
        _contact_sheet(io, kind, model)
    io.write()


def measure_manipulation(context: StageContext) -> None:
    """Adds each class's most predictive coordinate to images of other classes."""
    io = StageIO(context)
    train, labels = io.trained_on()
    tests, true = io.tests(500)
    classes = io.judge.classes
    for i, kind in enumerate(KINDS):
        model = io.models[kind]
        after: dict[float, list[Tensor]] = {s: [] for s in STRENGTHS}
        wanted: list[Tensor] = []
        for c in range(classes):
            attribute = find_attribute(model, train[labels == c], train[labels != c])
            images = tests[true != c][: io.config["pushed"]]
            difference = float(attribute.difference[attribute.unit])
            rows = [images[0]] if c < SHOWN else []
            wanted.append(torch.full((len(images),), c, device=images.device))
            for strength in STRENGTHS:
                result = add_feature(
                    model,
                    images,
                    attribute.unit,
                    strength * difference,
                    solver=io.solver(),
                    seed=io.seed,
                )
                missed = (result.after - result.wanted).abs() / abs(strength * difference)
                predictions = io.classes_seen(result.x)
                columns = [missed, result.distance, *(1.0 * (v == c) for v in predictions.values())]
                after[strength].append(torch.stack([v.float() for v in columns]))
                rows += [result.x[0]] if c < SHOWN else []
            if rows:
                io.show(f"pushed/{kind}/{c}", torch.stack(rows))
            context.progress((i + (c + 1) / classes) / 2)
        for strength in STRENGTHS:
            missed, moved, judge, near = torch.cat(after[strength], dim=1)
            io.add(
                "manipulation",
                f"{kind}, {strength:+g}",
                {"missed": missed, "moved": moved, "judge": 100 * judge, "neighbours": 100 * near},
            )
    io.write()


def _visualise(io: StageIO, kind: str, variant: str, denoise: Denoiser, spread: float) -> None:
    """Visualises with the weight at which judge and neighbours recognise most for this model.

    Both are used because neighbours ignore contrast and would accept a nearly blank image.
    """
    model = io.models[kind]
    weighted = variant in ("total variation", "frequency weights", "denoiser")
    best: dict[str, float] = {}
    images: Images | None = None
    for weight in WEIGHTS if weighted else (float("nan"),):
        x, activation, wanted = _class_images(io, model, variant, weight * spread, denoise)
        numbers = _recognised(io, x, wanted) | {
            "rise": float(activation.mean()) / spread,
            "high_frequencies": 100 * float(high_frequency_share(x).mean()),
            "unnatural": float(_unnatural(denoise, x).mean()),
            "weight": weight,
        }
        if images is None or _agreement(numbers) > _agreement(best):
            best, images = numbers, x
    assert images is not None
    io.add("visualisation", f"{kind}, {variant}", best)
    copies = io.config["copies"]
    io.show(f"seen/{kind}/{variant}", images[::copies])


def _class_images(
    io: StageIO, model: Classifier, variant: str, weight: float, denoise: Denoiser
) -> tuple[Images, Tensor, Labels]:
    """Images for every class from several starts, the logits reached, and the classes."""
    steps, copies = io.config["visual_steps"], io.config["copies"]
    classes = torch.arange(model.classes).repeat_interleave(copies)
    priors = {
        "total variation": lambda: Priors(total_variation=weight),
        "frequency weights": lambda: Priors(frequency_penalty=weight),
        "denoiser": lambda: Priors(denoiser=denoise, denoising=weight),
        "random moves": lambda: Priors(transform=robust_view(min(model.shape[1:]))),
        "generator": lambda: Priors(generator=io.generator()),
    }.get(variant, Priors)()
    default_solver = default_visualisation_solver(priors, model.shape[1:], steps)
    result = visualise(
        model,
        classes,
        layer="logits",
        start="noise",
        solver=fourier_solver(steps) if variant == "waves" else default_solver,
        priors=priors,
        seed=random.seed_of(io.seed, "visualise"),
    )
    return result.x, result.activation, classes.to(io.device)


def _contact_sheet(io: StageIO, kind: str, model: Classifier) -> None:
    """Coordinates of the embedding, beside the test images that activate them most and least."""
    x, _ = io.tests(1000)
    with frozen(model), torch.no_grad():
        active = read_all(model, layer_of(model), x, 256).amax(dim=0) > 0
    units = active.nonzero()[:, 0][: io.config["units"]].cpu()
    solver = default_visualisation_solver(NO_PRIORS, model.shape[1:], io.config["visual_steps"])
    result = visualise(model, units, solver=solver, seed=io.seed)
    real = most_activating(model, x, units, count=3)
    io.show(f"units/{kind}/made", result.x)
    io.show(f"units/{kind}/most", x[real.highest[:, :3].to(x.device)])
    io.show(f"units/{kind}/least", x[real.lowest[:, :3].to(x.device)])
    io.add(
        "units",
        kind,
        {
            "high_frequencies": 100 * high_frequency_share(result.x),
            "activation": result.activation,
            "most_of_real": real.highest_values[:, 0],
        },
    )


def _recognised(io: StageIO, x: Images, wanted: Labels) -> dict[str, float]:
    """Percent of images that the judge and the neighbours classify as the wanted class."""
    predictions = io.classes_seen(x)
    return {
        name: 100 * float((labels == wanted).float().mean()) for name, labels in predictions.items()
    }


def _agreement(numbers: dict[str, float]) -> float:
    return numbers["judge"] + numbers["neighbours"]


def _unnatural(denoise: Denoiser, x: Images) -> Tensor:
    """How far a denoiser would move each image, root mean square in pixel units, [n]."""
    with torch.no_grad():
        return (x - denoise(x)).square().flatten(1).mean(dim=1).sqrt()


def _spread_of_logits(io: StageIO, model: Classifier) -> float:
    x, _ = io.trained_on(1000)
    with frozen(model), torch.no_grad():
        return float(model.logits(x).std(dim=0).mean())


def _of_another_class(x: Images, y: Labels) -> Images:
    """For each image the next one of another class, wrapping around at the end."""
    n = len(x)
    chosen: list[int] = []
    for i in range(n):
        later = [(i + j) % n for j in range(1, n)]
        chosen.append(next((j for j in later if y[j] != y[i]), (i + 1) % n))
    return x[torch.tensor(chosen, device=x.device)]


def _errors(gains: dict[str, Tensor]) -> dict[str, float]:
    """The standard errors of the means over images, under `NAME_error`."""
    return {f"{k}_error": float(v.std() / len(v) ** 0.5) for k, v in gains.items()}

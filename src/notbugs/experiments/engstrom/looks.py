"""Inversion, interpolation, visualisation and manipulation of both models, with their numbers."""

import torch
from torch import Tensor

from notbugs.analysis import high_frequency_share
from notbugs.core import random
from notbugs.core.types import Images, Labels
from notbugs.engine import robust_view
from notbugs.experiments.engstrom.producers import KINDS, Desk
from notbugs.models import Classifier, frozen
from notbugs.models.denoiser import Denoiser
from notbugs.representations import (
    Priors,
    add_feature,
    find_attribute,
    in_waves,
    interpolate,
    invert_images,
    most_activating,
    usual_visualisation,
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
"""What is added to a feature, in units of the difference that the attribute makes."""
SHOWN = 8


def look_inverted(context: StageContext) -> None:
    """Images of the same representation, from noise and from another image."""
    desk = Desk(context)
    found: dict[str, dict[str, Tensor]] = {}
    x, y = desk.tests(desk.config["targets"])
    others = _of_another_class(x, y)
    desk.show("targets", x[:SHOWN])
    done = 0
    for start in STARTS:
        begin = "noise" if start == "noise" else others
        for kind in KINDS:
            made = invert_images(
                desk.models[kind], x, start=begin, solver=desk.solver(), seed=desk.seed
            )
            close = desk.close(made.x, x)
            numbers = {"relative_error": made.relative_error, "start_error": made.start_error}
            before = desk.close(made.start, x)
            desk.add(
                "inversion",
                f"{kind}, from {start}",
                {**numbers, **close, **{f"{k}_before": v for k, v in before.items()}},
            )
            found[kind] = close
            desk.show(f"inverted/{start}/{kind}", made.x[:SHOWN])
            desk.show(f"inverted/{start}/start", made.start[:SHOWN])
            done += 1
            context.progress(done / 4)
        gains = {name: found["robust"][name] - found["standard"][name] for name in found["robust"]}
        desk.add("gain", f"robust - standard, from {start}", gains | _errors(gains))
    desk.write()


def look_interpolated(context: StageContext) -> None:
    """From image to image through each representation, beside the mixture of pixels."""
    desk = Desk(context)
    pairs, denoise = desk.config["pairs"], desk.denoiser()
    x, y = desk.tests(2 * pairs)
    first, last = x[:pairs], _of_another_class(x, y)[:pairs]
    for i, kind in enumerate(KINDS):
        model = desk.models[kind]
        found = interpolate(
            model, first, last, points=desk.config["points"], solver=desk.solver(), seed=desk.seed
        )
        for name, path in ((kind, found.through), (f"pixels, seen by {kind}", found.plain)):
            inner = path.frames[:, 1:-1].flatten(0, 1)
            desk.add(
                "interpolation",
                name,
                {
                    "relative_error": found.relative_error
                    if path is found.through
                    else float("nan"),
                    "pixel_unevenness": path.pixel_unevenness,
                    "representation_unevenness": path.representation_unevenness,
                    "unnatural": _unnatural(denoise, inner),
                },
            )
        desk.show(f"path/{kind}", found.through.frames[:3])
        desk.show("path/pixels", found.plain.frames[:3])
        context.progress((i + 1) / 2)
    desk.write()


def look_visualised(context: StageContext) -> None:
    """What makes each class most likely, with each prior; and coordinates of the embedding."""
    desk = Desk(context)
    denoise = desk.denoiser()
    for i, kind in enumerate(KINDS):
        model = desk.models[kind]
        spread = _spread_of_logits(desk, model)
        for j, variant in enumerate(VARIANTS):
            _visualise(desk, kind, variant, denoise, spread)
            context.progress((i + (j + 1) / (len(VARIANTS) + 1)) / 2)
        _contact_sheet(desk, kind, model)
    desk.write()


def look_manipulated(context: StageContext) -> None:
    """Each class's best coordinate, added to images of other classes."""
    desk = Desk(context)
    known, labels = desk.trained_on()
    tests, true = desk.tests(500)
    classes = desk.judge.classes
    for i, kind in enumerate(KINDS):
        model = desk.models[kind]
        after: dict[float, list[Tensor]] = {s: [] for s in STRENGTHS}
        wanted: list[Tensor] = []
        for c in range(classes):
            found = find_attribute(model, known[labels == c], known[labels != c])
            few = tests[true != c][: desk.config["pushed"]]
            more = float(found.difference[found.unit])
            rows = [few[0]] if c < SHOWN else []
            wanted.append(torch.full((len(few),), c, device=few.device))
            for strength in STRENGTHS:
                made = add_feature(
                    model, few, found.unit, strength * more, solver=desk.solver(), seed=desk.seed
                )
                missed = (made.after - made.wanted).abs() / abs(strength * more)
                seen = desk.seen_as(made.x)
                columns = [missed, made.distance, *(1.0 * (v == c) for v in seen.values())]
                after[strength].append(torch.stack([v.float() for v in columns]))
                rows += [made.x[0]] if c < SHOWN else []
            if rows:
                desk.show(f"pushed/{kind}/{c}", torch.stack(rows))
            context.progress((i + (c + 1) / classes) / 2)
        for strength in STRENGTHS:
            missed, moved, judge, near = torch.cat(after[strength], dim=1)
            desk.add(
                "manipulation",
                f"{kind}, {strength:+g}",
                {"missed": missed, "moved": moved, "judge": 100 * judge, "neighbours": 100 * near},
            )
    desk.write()


def _visualise(desk: Desk, kind: str, variant: str, denoise: Denoiser, spread: float) -> None:
    """The variant with the weight at which both judges recognise most, for this very model.

    Both, because neighbours do not see contrast and would take an image of almost nothing.
    """
    model = desk.models[kind]
    weighted = variant in ("total variation", "frequency weights", "denoiser")
    best: dict[str, float] = {}
    images: Images | None = None
    for weight in WEIGHTS if weighted else (float("nan"),):
        x, activation, wanted = _class_images(desk, model, variant, weight * spread, denoise)
        numbers = _recognised(desk, x, wanted) | {
            "rise": float(activation.mean()) / spread,
            "high_frequencies": 100 * float(high_frequency_share(x).mean()),
            "unnatural": float(_unnatural(denoise, x).mean()),
            "weight": weight,
        }
        if images is None or _agreed(numbers) > _agreed(best):
            best, images = numbers, x
    assert images is not None
    desk.add("visualisation", f"{kind}, {variant}", best)
    copies = desk.config["copies"]
    desk.show(f"seen/{kind}/{variant}", images[::copies])


def _class_images(
    desk: Desk, model: Classifier, variant: str, weight: float, denoise: Denoiser
) -> tuple[Images, Tensor, Labels]:
    """Images for every class from several starts, the logits reached, and the classes."""
    steps, copies = desk.config["visual_steps"], desk.config["copies"]
    classes = torch.arange(model.classes).repeat_interleave(copies)
    priors = {
        "total variation": lambda: Priors(smoothness=weight),
        "frequency weights": lambda: Priors(slowness=weight),
        "denoiser": lambda: Priors(denoiser=denoise, denoising=weight),
        "random moves": lambda: Priors(transform=robust_view(min(model.shape[1:]))),
        "generator": lambda: Priors(generator=desk.generator()),
    }.get(variant, Priors)()
    usual = usual_visualisation(priors, model.shape[1:], steps)
    found = visualise(
        model,
        classes,
        layer="logits",
        start="noise",
        solver=in_waves(steps) if variant == "waves" else usual,
        priors=priors,
        seed=random.seed_of(desk.seed, "visualise"),
    )
    return found.x, found.activation, classes.to(desk.device)


def _contact_sheet(desk: Desk, kind: str, model: Classifier) -> None:
    """Coordinates of the embedding, beside the test images that activate them most and least."""
    x, _ = desk.tests(1000)
    with frozen(model), torch.no_grad():
        active = read_all(model, layer_of(model), x, 256).amax(dim=0) > 0
    units = active.nonzero()[:, 0][: desk.config["units"]].cpu()
    solver = usual_visualisation(NO_PRIORS, model.shape[1:], desk.config["visual_steps"])
    found = visualise(model, units, solver=solver, seed=desk.seed)
    real = most_activating(model, x, units, count=3)
    desk.show(f"units/{kind}/made", found.x)
    desk.show(f"units/{kind}/most", x[real.highest[:, :3].to(x.device)])
    desk.show(f"units/{kind}/least", x[real.lowest[:, :3].to(x.device)])
    desk.add(
        "units",
        kind,
        {
            "high_frequencies": 100 * high_frequency_share(found.x),
            "activation": found.activation,
            "most_of_real": real.highest_values[:, 0],
        },
    )


def _recognised(desk: Desk, x: Images, wanted: Labels) -> dict[str, float]:
    """Percent that the judge and the neighbours take for what they are to be."""
    seen = desk.seen_as(x)
    return {name: 100 * float((said == wanted).float().mean()) for name, said in seen.items()}


def _agreed(numbers: dict[str, float]) -> float:
    return numbers["judge"] + numbers["neighbours"]


def _unnatural(denoise: Denoiser, x: Images) -> Tensor:
    """How far a denoiser would move each image, root mean square in pixel units, [n]."""
    with torch.no_grad():
        return (x - denoise(x)).square().flatten(1).mean(dim=1).sqrt()


def _spread_of_logits(desk: Desk, model: Classifier) -> float:
    x, _ = desk.trained_on(1000)
    with frozen(model), torch.no_grad():
        return float(model.logits(x).std(dim=0).mean())


def _of_another_class(x: Images, y: Labels) -> Images:
    """For each image the next one, in a circle, of another class."""
    n = len(x)
    chosen: list[int] = []
    for i in range(n):
        later = [(i + j) % n for j in range(1, n)]
        chosen.append(next((j for j in later if y[j] != y[i]), (i + 1) % n))
    return x[torch.tensor(chosen, device=x.device)]


def _errors(gains: dict[str, Tensor]) -> dict[str, float]:
    """The standard errors of means over images, named for what they are of."""
    return {f"{k}_error": float(v.std() / len(v) ** 0.5) for k, v in gains.items()}

"""All that the explorer's tabs need, computed once and kept in a store."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from torch import Tensor

from notbugs.app.crossover import KINDS as TARGETS
from notbugs.app.crossover import Crossover, crossover, radii_for
from notbugs.app.inside import Attributes, attributes
from notbugs.app.plane import MOST, Plane, plane
from notbugs.app.subjects import Pool, Subjects
from notbugs.core.errors import bad_value
from notbugs.data import safefile
from notbugs.engine import Threat
from notbugs.store import Observer, SilentObserver, Stage, StageContext, Store, run_stages

FILE = "tensors.safetensors"


@dataclass(frozen=True)
class Once:
    """How finely what is computed once is.

    - `count`: test images, the first, that are pushed, by `steps` steps at each of `points` radii
    - `images`: test images, the first, on which each unit is attacked, by `unit_steps` steps
    """

    count: int = 100
    steps: int = 30
    points: int = 12
    images: int = 150
    unit_steps: int = 10


QUICK = Once(count=20, steps=4, points=4, images=80, unit_steps=2)
"""For a first look: the curves are rough."""


@dataclass(frozen=True, eq=False)
class Explorer:
    """Models with everything that is computed once. It never changes; users share it.

    - `pool`: copies of the models, for what is computed at a click
    - `crossovers`: by (model that the images are pushed on, kind); `planes`, `attributes`: by model
    - `threat`: of the planes
    """

    subjects: Subjects
    pool: Pool
    crossovers: Mapping[tuple[str, str], Crossover]
    planes: Mapping[str, Plane]
    attributes: Mapping[str, Attributes]
    threat: str


def explored(
    subjects: Subjects,
    store: Store,
    *,
    threat: str = "l2:0.5",
    copies: int = 2,
    once: Once = Once(),
    observer: Observer | None = None,
) -> Explorer:
    """The crossovers and planes of models, from the store or computed into it.

    - `threat`: of the planes; `copies`: of the models, for so many requests at once

    **Raises** ValueError where a class has no image among the test images that are looked at.
    """
    threat, observer = str(Threat.parse(threat)), observer or SilentObserver()
    _check_classes(subjects, once.images)
    pairs = list(product(subjects.models, TARGETS))
    crossovers = crossovers_of(subjects, store, pairs, once=once, observer=observer)
    planes = {name: _plane_stage(subjects, name, threat, once) for name in subjects.models}
    run_stages(list(planes.values()), store, workers=0, observer=observer)
    return Explorer(
        subjects,
        Pool(subjects, copies),
        crossovers,
        {name: Plane.of(_tensors(stage, store)) for name, stage in planes.items()},
        {name: attributes(model, subjects.train) for name, model in subjects.models.items()},
        threat,
    )


def crossovers_of(
    subjects: Subjects,
    store: Store,
    pairs: Sequence[tuple[str, str]],
    *,
    once: Once = Once(),
    observer: Observer | None = None,
) -> dict[tuple[str, str], Crossover]:
    """The crossovers of (model that the images are pushed on, kind), from the store or into it."""
    stages = {pair: _crossover_stage(subjects, pair, once) for pair in pairs}
    run_stages(list(stages.values()), store, workers=0, observer=observer or SilentObserver())
    return {p: Crossover.of(_tensors(s, store), subjects.models) for p, s in stages.items()}


def _check_classes(subjects: Subjects, images: int) -> None:
    test = subjects.test.select(slice(0, images))
    for label, name in enumerate(test.class_names):
        if not bool((test.labels == label).any()):
            remedy = "Take more test images, or models of fewer classes."
            expected = f"hold an image of every class among its first {images}"
            raise bad_value("test", expected, f"none of '{name}'", remedy)


def _crossover_stage(subjects: Subjects, pair: tuple[str, str], once: Once) -> Stage:
    source, kind = pair
    radii = radii_for(subjects.test.shape, once.points)

    def tensors(progress: Callable[[float], None]) -> Mapping[str, Tensor]:
        data = subjects.test.select(slice(0, once.count))
        return crossover(
            subjects.models, source, subjects.train, data, kind, radii, steps=once.steps,
            progress=progress,
        ).tensors()  # fmt: skip

    settings = {"radii": radii, "count": once.count, "steps": once.steps}
    label = f"push images on {source}, {kind}"
    config = {"source": source, "kind": kind, **settings}
    return _stage("explorer-crossover", label, subjects, config, tensors)


def _plane_stage(subjects: Subjects, name: str, threat: str, once: Once) -> Stage:
    def tensors(progress: Callable[[float], None]) -> Mapping[str, Tensor]:
        model, test = subjects.models[name], subjects.test.select(slice(0, once.images))
        return plane(
            model, subjects.train, test, threat, steps=once.unit_steps, progress=progress
        ).tensors()

    settings = {"images": once.images, "steps": once.unit_steps, "most": MOST}
    config = {"model": name, "threat": threat, **settings}
    return _stage("explorer-plane", f"attack each unit of {name}", subjects, config, tensors)


def _stage(
    kind: str,
    label: str,
    subjects: Subjects,
    config: Mapping[str, object],
    tensors: Callable[[Callable[[float], None]], Mapping[str, Tensor]],
) -> Stage:
    """A stored result; what computes it is in no key, for the subjects' digest is."""
    return Stage(
        kind,
        label,
        write_tensors,
        version=1,
        config={"subjects": subjects.digest, **config},
        settings={"tensors": tensors},
    )


def write_tensors(context: StageContext) -> None:
    """Computes what a stage stores."""
    found = context.settings["tensors"](context.progress)
    safefile.write_tensors(
        context.work / FILE, {name: t.cpu().contiguous() for name, t in found.items()}, {}
    )


def _tensors(stage: Stage, store: Store) -> Mapping[str, Tensor]:
    return safefile.read_tensors(store.get(stage.kind, stage.key).path / FILE, what="data")[0]

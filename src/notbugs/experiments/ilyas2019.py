"""Ilyas et al. 2019, "Adversarial Examples Are Not Bugs, They Are Features", end to end.

For each seed: a standard and a robust model; from them the constructed sets, each with controls
that take one explanation away; students of several architectures on each; and the same test of all
of them on the original test images. The radius of the targeted sets is the largest that no
observer sees, chosen on held-out training images.

**Source**: arXiv 1905.02175, section 3 and Appendix C; D_noise, Kumano et al. 2024 (arXiv
2402.10470). The published numbers beside the claims are for CIFAR-10 and ResNet-50; robust
accuracies at L2 0.25.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from notbugs.core.errors import bad_value
from notbugs.data import Splits
from notbugs.engine import Threat
from notbugs.engine.threat import radius
from notbugs.experiments import constructed, visibility
from notbugs.experiments.config import DATASETS, PRESETS, Config, config_for
from notbugs.experiments.constructed import (
    DATASET,
    STUDENTS,
    AgainstTruth,
    AttackPictures,
    Constructed,
    Evaluated,
    First,
    Fitted,
    Inverted,
    Leakage,
    Learnt,
    Moved,
    Projected,
    Pushes,
    SetPictures,
    Shuffled,
    Targeted,
)
from notbugs.experiments.experiment import Experiment, Row, Stage
from notbugs.experiments.ilyas2019_claims import claims_of
from notbugs.experiments.ilyas2019_page import SECTIONS
from notbugs.experiments.model_training import Net, new_model
from notbugs.experiments.rules import Claim
from notbugs.experiments.shared import Data, Trained
from notbugs.experiments.visibility import Headline, HeldOut, Observers, Seen
from notbugs.features import DIRECTIONS
from notbugs.models.weights import MODEL
from notbugs.store import AnyStage
from notbugs.training import Adversary

KINDS = ("rand", "det", "other")
"""The targeted sets made of images: D_rand, D_det and D_other."""
OF_NOISE = ("untrained", "shuffled")
"""The controls of D_noise."""


def threat(config: Config, eps: float) -> Threat:
    """The run's norm at a radius."""
    return Threat.parse(f"{config.norm}:{eps!r}")


def source(config: Config, seed: int, role: str) -> Trained:
    """The "standard" or the "robust" model, trained on the original images.

    Of other roles: "judge", a standard model of other weights; "shuffled", one that was trained
    on shuffled labels.
    """
    data = Data.of(config, seed)
    recipe = config.robust if role == "robust" else config.standard
    return Trained(data, config.net, recipe, role, Shuffled(data) if role == "shuffled" else None)


def observers(config: Config, seed: int) -> Observers:
    """Who looks at the changed images of a seed."""
    return Observers(source(config, seed, "judge"), source(config, seed, "robust"), config.blur)


def pushes(config: Config) -> Pushes:
    """How images are pushed towards a class."""
    return Pushes(config.push_steps, config.push_step_size, config.batch_size, config.precision)


def looks(config: Config, seed: int) -> dict[float, HeldOut]:
    """How visible changes of each radius of the grid are, on held-out images of a seed."""
    standard, who = source(config, seed, "standard"), observers(config, seed)
    return {
        eps: HeldOut(standard, threat(config, eps), pushes(config), who) for eps in config.eps_grid
    }


def choices(config: Config) -> Mapping[str, Stage[Any]]:
    """The radius of the headline, where the settings leave it open."""
    if config.eps_headline is not None:
        return {}
    each = [looks(config, seed) for seed in range(config.seeds)]
    by_radius = tuple((eps, tuple(look[eps] for look in each)) for eps in config.eps_grid)
    return {"eps_headline": Headline(by_radius)}


def check(config: Config, parts: Splits) -> None:
    """Refuses settings that do not fit the images or each other, before any work."""
    for count in config.counts:
        if not config.student.batch_size <= count <= len(parts.train):
            raise bad_value(
                "counts",
                f"lie between student.batch_size and the {len(parts.train)} training images",
                count,
                "Leave it out, or use another number.",
            )
    for net in (config.net, *config.students, *config.sources, *config.inverted):
        new_model(net, parts.train, 0)  # raises for an unknown architecture or option
    trained = Threat.parse((config.robust.adversary or Adversary()).threat).norm.name
    if trained != config.norm:
        remedy = f"Use --set robust.adversary.threat={config.norm}:... as well."
        raise bad_value("norm", "be that of the robust model's training", config.norm, remedy)


def targeted(config: Config, seed: int, name: str, eps: float) -> Constructed:
    """D_rand, D_det, D_other or D_noise, or a control of one, by the name of its row."""
    standard, at, push = source(config, seed, "standard"), threat(config, eps), pushes(config)
    set_name, _, control = name.removeprefix("leak:").removeprefix("D_").partition("/")
    noise = set_name == "noise"
    kind = "other" if noise else set_name
    if name.startswith("leak:"):
        return Leakage(standard.data, kind, at)
    if control == "projected":
        return Projected(Targeted(standard, kind, at, push))
    if control in DIRECTIONS:
        return Moved(standard, kind, at, control, config.batch_size)
    if control == "cycle":
        return Targeted(standard, control, at, push)
    model = source(config, seed, "shuffled") if control == "shuffled" else standard
    return Targeted(model, kind, at, push, noise, control != "untrained")


def names(config: Config) -> list[str]:
    """The rows of targeted sets and their controls, at the radius of the headline."""
    found: list[str] = []
    for kind in (kind for kind in (*KINDS, "noise") if kind in config.sets):
        fitting = [c for c in config.controls if kind != "noise" or c in OF_NOISE]
        controls = [f"leak:D_{kind}" if c == "leak" else f"D_{kind}/{c}" for c in fitting]
        found += [f"D_{kind}", *controls, *["D_det/cycle"] * (kind == "det")]
    return found


def curves(config: Config) -> list[str]:
    """The rows that are made at every radius."""
    return [name for name in names(config) if "/" not in name]


def inverted(config: Config, seed: int) -> dict[str, Inverted]:
    """D_R from images and from noise, and D_NR."""
    if "R" not in config.sets:
        return {}
    noise = replace(config.inversion, start="noise")
    standard, robust = source(config, seed, "standard"), source(config, seed, "robust")
    return {
        "D_R": _inverted(config, robust, "D_R"),
        "D_R/noise": Inverted(robust, "D_R", noise, config.batch_size, config.precision),
        "D_NR": _inverted(config, standard, "D_NR"),
    }


def _inverted(config: Config, model: Trained, name: str) -> Inverted:
    return Inverted(model, name, config.inversion, config.batch_size, config.precision)


def student(config: Config, on: Constructed) -> Trained:
    """A student like the source: of a seed, all start from the same weights and see the images in
    the same order."""
    return Trained(on.original, config.net, config.student, "student", on)


def students(config: Config, first: Trained) -> Learnt:
    """What students of all architectures learn from a training set, that of the first."""
    others = [net for net in config.students if net != config.net]
    each = [(f"_{n.architecture}", replace(first, net=n)) for n in others]
    return Learnt((("", first), *each))


def rows(config: Config, seed: int) -> Iterable[Row]:
    """The rows of all tables for one seed."""
    for eps, look in looks(config, seed).items():
        yield Row("visibility", f"D_other at {radius(config.norm, eps)}", seed, look)
    who = observers(config, seed)
    yield Row("sets", "D", seed, students(config, source(config, seed, "standard")))
    for name in names(config):
        yield from _targeted_rows(config, "sets", name, name, config.headline, who)
    for name in curves(config):
        for eps in config.radii:
            row = f"{name} at {radius(config.norm, eps)}"
            yield from _targeted_rows(config, "radii", row, name, eps, who)
    if "D_other/shuffled" in names(config):
        yield Row("sets", "D_other/shuffled", seed, Fitted(source(config, seed, "shuffled")))
    for table, row, made in others(config, seed):
        yield Row(table, row, seed, students(config, student(config, made)))
    at, widths = threat(config, config.eps_eval), embeddings(config, seed)
    for table, models, judged in (
        ("robust", originals(config, seed), config.judged),
        ("widths", widths, 0),
    ):
        for name, model in models.items():
            row = Evaluated(model, at, config.eval_steps, config.batch_size, judged)
            yield Row(table, name, seed, row)
    if config.data == "planted":
        for name, model in planted(config, seed).items():
            yield Row("planted", name, seed, AgainstTruth(model))


def _targeted_rows(
    config: Config, table: str, row: str, name: str, eps: float, who: Observers
) -> Iterator[Row]:
    """What students learn of a targeted set, and who sees its labels in the images."""
    seed = who.robust.data.seed
    made = targeted(config, seed, name, eps)
    yield Row(table, row, seed, students(config, student(config, made)))
    if "noise" not in name:
        yield Row(table, row, seed, Seen(made, who))


def others(config: Config, seed: int) -> Iterator[tuple[str, str, Constructed]]:
    """(table, row, set): D_other of other sources, and parts of it."""
    if "other" not in config.sets:
        return
    more = [net for net in config.sources if net.architecture != config.net.architecture]
    for net in (config.net, *more) if more else ():
        made = targeted(replace(config, net=net), seed, "D_other", config.headline)
        words = STUDENTS.get(net.architecture, net.architecture)
        yield "sources", f"{words} as source", made
    made = targeted(config, seed, "D_other", config.headline)
    for count in config.counts:
        yield "counts", f"D_other at {count}", First(made, count)


def originals(config: Config, seed: int) -> dict[str, Trained]:
    """The models whose robustness is judged: of D, D_adv, D_R and D_NR, for each architecture."""
    if "R" not in config.sets:
        return {}
    found: dict[str, Trained] = {}
    for end, net in inverted_nets(config).items():
        of = replace(config, net=net)
        found |= {
            f"D{end}": source(of, seed, "standard"),
            f"D_adv{end}": source(of, seed, "robust"),
        }
        found |= {f"{name}{end}": student(of, on) for name, on in inverted(of, seed).items()}
    return found


def inverted_nets(config: Config) -> dict[str, Net]:
    """The architectures of which D_R and D_NR are made, by the end of their rows' names."""
    more = [net for net in config.inverted if net.architecture != config.net.architecture]
    words = {net: STUDENTS.get(net.architecture, net.architecture) for net in more}
    return {"": config.net} | {f" ({word})": net for net, word in words.items()}


def embeddings(config: Config, seed: int) -> dict[str, Trained]:
    """Students of D_R, by the width of the embedding that its robust model has."""
    if "R" not in config.sets or config.net.architecture != "cnn":
        return {}
    robust, found = source(config, seed, "robust"), dict[str, Trained]()
    for width in config.widths:
        net = replace(
            config.net, options=tuple({**dict(config.net.options), "hidden": width}.items())
        )
        on = _inverted(config, replace(robust, net=net), "D_R")
        found[f"D_R at {width}"] = student(config, on)
    return found


def planted(config: Config, seed: int) -> dict[str, Trained]:
    """The models that are held against planted features; targeted sets at the largest radius."""
    largest, kinds = max(config.radii), [kind for kind in KINDS if kind in config.sets]
    pushed = {
        f"D_{kind} at {radius(config.norm, largest)}": student(
            config, targeted(config, seed, f"D_{kind}", largest)
        )
        for kind in kinds
    }
    return originals(replace(config, inverted=()), seed) | pushed


def kept(config: Config, seed: int) -> dict[str, Constructed]:
    """The sets of which there are pictures and files, by their rows: those of no control."""
    found: dict[str, Constructed] = {
        name: targeted(config, seed, name, config.headline)
        for name in names(config)
        if name in SHOWN
    }
    return found | inverted(config, seed)


def pictures(config: Config) -> Sequence[AnyStage]:
    """Examples of the sets, and of attacks on both models."""
    shown = {name: on for name, on in kept(config, 0).items() if name in SHOWN}
    both = tuple((role, source(config, 0, role)) for role in ("standard", "robust"))
    at = threat(config, config.eps_eval)
    attacked = [AttackPictures(both, at, config.eval_steps)] if "R" in config.sets else []
    return [SetPictures(Data.of(config, 0), tuple(shown.items())), *attacked]


def files(config: Config) -> Mapping[str, tuple[AnyStage, str]]:
    """The sets of every seed, not those of controls, their students and both sources."""
    found: dict[str, tuple[AnyStage, str]] = {}
    for seed in range(config.seeds):
        for name, on in kept(config, seed).items():
            words = name.replace("/", "-from-")
            found[f"datasets/{words}-seed{seed}.safetensors"] = on, DATASET
            model = student(config, on)
            found[f"models/student-{words}-seed{seed}.safetensors"] = model, MODEL
        for role in ("standard", "robust"):
            model = source(config, seed, role)
            found[f"models/{role}-seed{seed}.safetensors"] = model, MODEL
    return found


def claims(config: Config) -> Sequence[Claim]:
    """The paper's statements, about the sets that a run has."""
    return claims_of(config, names(config), inverted_nets(config))


SHOWN = ("D_other", "D_noise", "D_rand", "D_det", "D_R", "D_NR")
"""The sets of which there are pictures and files."""

EXPERIMENT = Experiment(
    name="ilyas2019",
    paper="Ilyas, Santurkar, Tsipras, Engstrom, Tran, Madry 2019, “Adversarial Examples Are Not "
    "Bugs, They Are Features” (arXiv 1905.02175)",
    question="Are adversarial examples features?",
    datasets=DATASETS,
    presets=PRESETS,
    config_for=config_for,
    rows=rows,
    pictures=pictures,
    claims=claims,
    columns=constructed.COLUMNS | visibility.COLUMNS,
    sections=SECTIONS,
    takes={"digits": 15, "planted": 6},
    files=files,
    choices=choices,
    check=check,
)

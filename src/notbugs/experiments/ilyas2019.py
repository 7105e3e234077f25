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
from notbugs.experiments.ilyas2019_page import SECTIONS
from notbugs.experiments.model_training import new_model
from notbugs.experiments.numbers import Cell
from notbugs.experiments.rules import (
    AbstractRule,
    AllOf,
    AnyOf,
    AtLeast,
    AtMost,
    Claim,
    Exceeds,
    Given,
)
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
CARRYING = ("universal", "projected", "cycle")
"""The variants of a targeted set that carry features too: no claim compares with them."""
MARGIN = 20.0
"""Points by which a set must beat each of its controls for a feature claim to pass."""


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
    for net in (config.net, *config.students, *config.sources):
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
    """The models whose robustness is judged: of D, D_adv, D_R and D_NR."""
    if "R" not in config.sets:
        return {}
    own = {"D": source(config, seed, "standard"), "D_adv": source(config, seed, "robust")}
    return own | {name: student(config, on) for name, on in inverted(config, seed).items()}


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
    return originals(config, seed) | pushed


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
    beside = [net.architecture for net in config.students if net != config.net]
    columns = ["clean", *(f"clean_{architecture}" for architecture in beside)]
    made, largest = names(config), radius(config.norm, max(config.radii))
    found = _of_inverted(config) if "R" in config.sets else []
    for name, (words, bound, fixed, published, replications) in TARGETED.items():
        if name not in made:
            continue
        controls = [row for row in made if row.startswith(f"{name}/") or row == f"leak:{name}"]
        margins = [
            Exceeds(Cell("sets", name, column), Cell("sets", row, column), MARGIN)
            for column in columns
            for row in controls
            if row.partition("/")[2] not in CARRYING
        ]
        if bound is not None:
            true = [AtLeast(Cell("sets", name, column), bound) for column in columns]
            words = f"{words}: every student has at least {bound:g} % of the true labels"
            found.append(_claim(f"{name[2:]}_true", words, published, AllOf(tuple(true)), fixed))
        words = (
            f"{name} beats each control by at least {MARGIN:g} points, for every student (of the "
            f"rows {name}/..., all but {', '.join(CARRYING)}, which carry features)"
        )
        if margins:
            rule, source = AllOf(tuple(margins)), published + replications
            found.append(_claim(f"{name[2:]}_margin", words, source, rule, MARGIN_FIXED))
    if "D_det" in made and max(config.radii) > config.headline:
        words = (
            f"D_det at radius {largest}, the largest, where the changes can be seen: every student "
            "has more true than shifted labels"
        )
        cells = [Cell("radii", f"D_det at {largest}", column) for column in columns]
        shifted = [replace(c, column=c.column.replace("clean", "shifted")) for c in cells]
        rule = AllOf(tuple(map(Exceeds, cells, shifted)))
        found.append(_claim("det_crossover", words, "not published", rule))
    return found + (_known_truth(config, largest) if config.data == "planted" else [])


BEFORE = (
    "with the experiment's first version, at the largest radius and for a student like the source"
)
MARGIN_FIXED = (
    "with the experiment's first version, against the leakage-only control at the largest radius; "
    "other controls, students and this radius came later"
)
TARGETED: Mapping[str, tuple[str, float | None, str, str, str]] = {
    "D_other": (
        "D_other, with no true label and every change of the full size",
        50.0,
        BEFORE,
        "not published",
        "",
    ),
    "D_noise": (
        "D_noise, which holds no image",
        50.0,
        "that of D_other, after pilot runs on validation images",
        "not published",
        "",
    ),
    "D_det": (
        "D_det, with no true label",
        60.0,
        BEFORE,
        "43.7 (section 3.2)",
        "; replications without adversarial features reach 25-39",
    ),
    "D_rand": (
        "D_rand",
        None,  # a tenth of its labels is true: what counts is the margin
        "",
        "63.3 (section 3.2)",
        "; replications without adversarial features reach 75.8-79.5",
    ),
}
"""The claims' sets: in words, percent of true labels asked for and when that was fixed, what is
published of the set, and of its replications."""


def _of_inverted(config: Config) -> list[Claim]:
    """Claims of D_R, D_NR and D_adv."""
    half = "robust_half_eps"
    found = [
        _claim(
            "adv_robust",
            "Adversarial training makes D_adv more robust than D at eps/2",
            "82.34 against 8.66 (table of section 3.1)",
            _compared("D_adv", "D", half),
        ),
        _claim(
            "r_over_d",
            "Standard training on D_R gives more robustness at eps/2 than on D",
            "48.27 against 8.66 (section 3.1)",
            _compared("D_R", "D", half),
        ),
        _claim(
            "r_over_nr",
            "D_R is more robust at eps/2 than D_NR by at least 10 points",
            "48.27 against 0.82 (section 3.1)",
            _compared("D_R", "D_NR", half, 10.0),
            "with the experiment's first version",
        ),
        _claim(
            "nr_clean",
            "A set made from the standard model's representation suffices: D_NR reaches 80 % clean",
            "87.68 (section 3.1)",
            AtLeast(Cell("robust", "D_NR", "clean"), 80.0),
            "the paper's number, less for smaller nets and fewer images",
        ),
    ]
    if config.judged:
        words = "D_R gives more robustness than D by the standard evaluation as well"
        rule = _compared("D_R", "D", "standard_half_eps")
        found.append(_claim("r_over_d_standard", words, "not published", rule))
    return found


def _known_truth(config: Config, largest: str) -> list[Claim]:
    """Claims that the planted features decide; of D_det at its largest radius."""
    sets = {"r": "D_R"} if "R" in config.sets else {}
    sets |= {"det": f"D_det at {largest}"} if "det" in config.sets else {}
    carried = {"r": "robust", "det": "nonrobust"}
    words = {"robust": "robust", "nonrobust": "non-robust"}
    original = {"robust": 90, "nonrobust": 100}
    found: list[Claim] = []
    for name, row in sets.items():
        for feature in ("robust", "nonrobust"):
            cell = Cell("planted", row, f"planted_{feature}")
            carries = feature == carried[name]
            rule = AtLeast(cell, 80.0) if carries else AtMost(cell, 35.0)
            share = "at least 80 %" if carries else "at most 35 % (chance: 25 %)"
            found.append(
                _claim(
                    f"planted_{name}_{feature}",
                    f"Known truth: in {share} of {row} the {words[feature]} feature points to the "
                    "label",
                    f"not published (original images: {original[feature]} %)",
                    rule,
                    "with the experiment's first version",
                )
            )
    return found


def _compared(row: str, other: str, column: str, points: float | None = None) -> Exceeds:
    return Exceeds(Cell("robust", row, column), Cell("robust", other, column), points)


def _claim(name: str, statement: str, published: str, rule: AbstractRule, fixed: str = "") -> Claim:
    """A claim on a set, which says nothing where the set's model learnt nothing."""
    first = rule.cells[0]
    if first.table == "planted":  # of the images, whatever a model makes of them
        return Claim(name, statement, published, rule, (), fixed)
    columns = ("clean",) if first.table == "robust" else ("clean", "shifted")
    chance = Cell(first.table, first.row, "chance")
    above = tuple(Exceeds(Cell(first.table, first.row, c), chance) for c in columns)
    learnt = Given(f"the model of {first.row} is above chance", AnyOf(above))
    return Claim(name, statement, published, rule, (learnt,), fixed)


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

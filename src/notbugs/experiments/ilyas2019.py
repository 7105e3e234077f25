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
from notbugs.experiments.numbers import Cell
from notbugs.experiments.page import (
    Bars,
    Lines,
    Matrix,
    PictureRows,
    Question,
    Questions,
    Section,
    Table,
)
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
from notbugs.experiments.visibility import LIMIT, Headline, HeldOut, Observers, Seen
from notbugs.features import DIRECTIONS
from notbugs.models.weights import MODEL
from notbugs.store import AnyStage

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

    Of other roles: "judge", a standard model of other weights; "shuffled", one that was fitted to
    shuffled labels.
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
    more = [net for net in config.sources if net != config.net]
    for net in (config.net, *more) if more else ():
        made = targeted(replace(config, net=net), seed, "D_other", config.headline)
        words = STUDENTS.get(net.architecture, net.architecture)
        yield "sources", f"{words} as source", made
    made = targeted(config, seed, "D_other", config.headline)
    for count in config.counts:
        yield "counts", f"D_other at {count}", First(made, count)


def originals(config: Config, seed: int) -> dict[str, Trained]:
    """The models whose robustness is judged: of D, D_adv, D_R and D_NR."""
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


def pictures(config: Config) -> Sequence[AnyStage]:
    """Examples of the sets, and of attacks on both models."""
    shown: dict[str, Constructed] = {
        name: targeted(config, 0, name, config.headline) for name in names(config) if name in SHOWN
    }
    shown |= {name: on for name, on in inverted(config, 0).items() if name in SHOWN}
    both = tuple((role, source(config, 0, role)) for role in ("standard", "robust"))
    at = threat(config, config.eps_eval)
    return [
        SetPictures(Data.of(config, 0), tuple(shown.items())),
        AttackPictures(both, at, config.eval_steps),
    ]


def files(config: Config) -> Mapping[str, tuple[AnyStage, str]]:
    """The sets of every seed, not those of controls, their students and both sources."""
    found: dict[str, tuple[AnyStage, str]] = {}
    for seed in range(config.seeds):
        made: dict[str, Constructed] = {
            name: targeted(config, seed, name, config.headline)
            for name in names(config)
            if name in SHOWN
        }
        for name, on in (made | inverted(config, seed)).items():
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
    if "D_det" in made:
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
_BOTH = ("standard", "robust")
_CLEAN = ("clean", *(f"clean_{architecture}" for architecture in STUDENTS))
_SHIFTED = ("shifted", *(f"shifted_{architecture}" for architecture in STUDENTS))
_SEEN = tuple(visibility.COLUMNS)
_FIRST = {
    "D": "the images, true labels",
    "D_other": "changed images, wrong labels (D_other)",
    "D_noise": "changed noise, no image (D_noise)",
    "D_other/universal": "one change per class, for all images",
    "leak:D_other": "control: one fixed pattern per class",
    "D_other/untrained": "control: changes for an untrained net",
    "D_other/shuffled": "control: for a net of shuffled labels",
    "D_other/random": "control: random directions",
    "D_other/span": "control: random gradients",
    "D_noise/untrained": "control: noise, untrained net",
    "D_noise/shuffled": "control: noise, net of shuffled labels",
}


def _cells(row: str, columns: Sequence[str], table: str = "sets") -> tuple[Cell, ...]:
    return tuple(Cell(table, row, column) for column in columns)


def _all(rows: Sequence[str], columns: Sequence[str] = ("clean",)) -> tuple[Cell, ...]:
    return tuple(cell for row in rows for cell in _cells(row, columns))


def _by_radius(columns: tuple[str, ...], caption: str, name: str) -> Lines:
    """A set and its leakage-only control by radius, shaded up to that of the headline."""
    return Lines(
        "radii",
        columns,
        caption,
        "accuracy, %",
        "size of the changes ({norm}, pixel units)",
        lines=(name, f"leak:{name}"),
        chance="chance",
        limit="eps_headline",
        within="headline",
    )


SECTIONS = (
    Section(
        "All of these labels are wrong",
        "Each image was changed a little in the direction in which a trained network takes it more "
        "for another class, and got that class as its label: every label is wrong, and the changes "
        "are small (below: who sees them). New networks that see only these images and "
        "labels are then tested on ordinary images and their true labels. What they get right they "
        "can only have learnt from the changes, if the controls get nothing right.",
        figures=(
            PictureRows(
                ("D.images", "D_other.images", "D_other.difference", "D_noise.images"),
                ("images", "changed: D_other", "change, magnified", "changed noise: D_noise"),
                "Images with their classes; changed, with the label that students are taught and "
                "the true class below; the change, magnified until its largest pixel is black or "
                "white; and noise that was changed likewise, with the label assigned. Changes "
                "have size {norm} {eps_headline}.",
            ),
            Bars(
                "sets",
                _CLEAN,
                "Test images that students give their true label, by what they were trained on. "
                "Hatched: controls, which have the same targets and sizes of changes, but other "
                "changes, and variants of the set. Dotted: guessing. Whether each claim holds for "
                "every student is below.",
                "true labels on test images, %",
                rows=tuple(_FIRST),
                chance="chance",
                labels=tuple(_FIRST.values()),
                legend=("student like the source", *(f"{w} student" for w in STUDENTS.values())),
            ),
        ),
    ),
    Section(
        "Objections, controls and results",
        "Each way in which the conclusion could be wrong, the control that would show it, and its "
        "results. Published numbers are for CIFAR-10 and a ResNet-50: compare directions, not "
        "values. All seeds split the same images (and test on the same): intervals say what other "
        "splits and trainings would give, not other images.",
        tables=(
            Questions(
                "Numbers are percent unless a column says otherwise, means over seeds.",
                (
                    Question(
                        "Can one see the new label in the image?",
                        "Observers, none of them the source: the nearest training image in pixels "
                        "and in LPIPS, a robust network, of digits the nearest blurred class mean. "
                        "Unless it was set, the size is the largest of a grid at which each sees "
                        f"at most {LIMIT:g} % on held-out training images (next table), or the "
                        "smallest of it. On the set itself",
                        _cells("D_other", _SEEN),
                    ),
                    Question(
                        "Do the changes merely show, faintly, what people would see?",
                        "In part: they point towards differences of class means. With those taken "
                        "out of every change, and the size kept",
                        _all(["D_other", "D_other/projected"], _CLEAN),
                    ),
                    Question(
                        "Do robust features leak (Goh 2019)?",
                        "A linear classifier of the robust network's embedding learns from the "
                        "same images and labels",
                        _all(["D_other", "D_other/projected", "D_det"], ("robust_probe",)),
                    ),
                    Question(
                        "Do the changes fool the source?",
                        "Images that it gives the new label; the others teach as well",
                        _all(["D_other", "D_noise"], ("source_success",)),
                    ),
                    Question(
                        "Does the label leak, by any shortcut that marks a class?",
                        "One fixed random pattern per class in place of the change",
                        _all(["leak:D_other"], _CLEAN),
                    ),
                    Question(
                        "Would changes for any network do, trained or not?",
                        "The same attack on the source before its training, and on a network that "
                        "was fitted to shuffled labels",
                        _all(["D_other/untrained", "D_other/shuffled"], _CLEAN)
                        + _all(["D_other/shuffled"], ("fitted",)),
                    ),
                    Question(
                        "Is it the size of the change, or that it lies where the source looks?",
                        "A random direction of the same size, and a random combination of the "
                        "source's gradients",
                        _all(["D_other/random", "D_other/span"], _CLEAN),
                    ),
                    Question(
                        "Why can controls be below guessing?",
                        "No image has its true label, so students learn to avoid the class that "
                        "an image shows. This works against the effect; noise has no such bias",
                        _all(["D_other/random", "D_noise/untrained"], ("clean", "chance")),
                    ),
                    Question(
                        "Do the images matter at all?",
                        "Uniform noise changed towards random classes: students, which start from "
                        "other weights than the source, see no image, so what reaches them is in "
                        "the changes. With an untrained network, and one of shuffled labels",
                        _all(["D_noise", "D_noise/untrained", "D_noise/shuffled"], _CLEAN),
                    ),
                    Question(
                        "Is it one pattern per class, the same in all images?",
                        "A universal change for each class, which is a feature too",
                        _all(["D_other/universal"], _CLEAN),
                    ),
                    Question(
                        "Does it depend on the student being like the source?",
                        "Other architectures",
                        _all(["D", "D_other", "D_noise"], _CLEAN),
                    ),
                    Question(
                        "Do students of D_det learn what they are taught, y + 1?",
                        "Their accuracy on shifted labels, and true labels where a random cycle "
                        "of the classes takes the place of y + 1",
                        _all(["D_det"], (*_CLEAN, *_SHIFTED)) + _all(["D_det/cycle"], _CLEAN),
                    ),
                    Question(
                        "Could the result of D_rand come from its true labels alone?",
                        "Its controls keep those labels",
                        _all(["D_rand", "leak:D_rand", "D_rand/random", "D_rand/untrained"]),
                    ),
                    Question(
                        "Is the robustness of D_R an artefact of a weak attack?",
                        "The standard evaluation (Croce and Hein 2020), on the first test images",
                        tuple(Cell("robust", r, "standard_half_eps") for r in ("D_R", "D_NR", "D")),
                    ),
                    Question(
                        "Is D_R a copy of the images?",
                        "The distance (L2) from the image that is represented, and D_R from noise",
                        _cells("D_R", ("from_original", "robust_half_eps"), "robust")
                        + _cells("D_R/noise", ("from_original", "robust_half_eps"), "robust"),
                    ),
                ),
            ),
            Table(
                "visibility",
                "How visible changes are: held-out training images, changed as in D_other, that "
                "an observer gives the new label and did not before. *: beyond the headline.",
                limit="eps_headline",
                beyond=" *",
            ),
        ),
    ),
    Section(
        "What students learn",
        "D_rand: images pushed towards a random class, and so labelled; D_det: towards the class "
        "after the true one; D_other: towards a random other class, every change of the full "
        "size; D_noise: noise in place of images. All at {norm} {eps_headline}; changes of D_rand "
        "and D_det may be smaller. The controls of a set have its images and targets, all changes "
        "of the full size; they differ in the direction of the change.",
        tables=(
            Table(
                "sets",
                "All targeted sets and their controls.",
            ),
        ),
    ),
    Section(
        "By the size of the change",
        "The same sets at other radii, shaded up to that of the headline.",
        figures=(
            _by_radius(
                _CLEAN,
                "Students of D_other: true labels by the size of the changes. Dashed: the "
                "leakage-only control.",
                "D_other",
            ),
            _by_radius(_CLEAN, "Students of D_noise, which see no image.", "D_noise"),
            _by_radius(
                ("clean", "shifted"),
                "Students of D_det like the source: true labels, and those that they were taught. "
                "Where the first is above, a student followed the changes rather than the original "
                "images. Dashed: the leakage-only control.",
                "D_det",
            ),
        ),
        tables=(
            Table(
                "radii",
                "The sets at all radii. *: beyond the radius of the headline.",
                limit="eps_headline",
                beyond=" *",
            ),
        ),
    ),
    Section(
        "Across architectures and numbers of images",
        "D_other at {norm} {eps_headline}, of other sources, and parts of it, each learnt in as "
        "many epochs.",
        figures=(
            Matrix(
                "sources",
                "True labels on test images, in percent: rows are sources of D_other, columns "
                "students; the first is like the source of all other tables.",
                "%",
                columns=_CLEAN,
            ),
            Lines(
                "counts",
                _CLEAN,
                "True labels by the number of images of D_other.",
                "accuracy, %",
                "images",
                chance="chance",
            ),
        ),
        tables=(
            Table("sources", "D_other of several sources."),
            Table("counts", "Parts of D_other."),
        ),
    ),
    Section(
        "Robust and non-robust features",
        "D_R: each image is changed until the robust model represents it like a training image, "
        "whose label it gets; D_NR: the same with the standard model. Robust accuracies are those "
        "of PGD of {eval_steps} steps of a fifth of ε from one random start, upper bounds; those "
        "of the standard evaluation are on the first test images alone.",
        figures=(
            PictureRows(
                ("D.images", "D_R.images", "D_NR.images", "D_rand.images", "D_det.images"),
                ("D", "D_R", "D_NR", "D_rand", "D_det"),
                "Random examples of the sets, with the label that they are trained with; in "
                "colour where it is not the true one, which is below. A column follows one "
                "training image (if it could not be changed by the full size, another stands in).",
            ),
            Bars(
                "robust",
                ("clean", "robust_half_eps", "robust_eps"),
                "Accuracy on the test images by training set: clean, and under {norm} attacks of "
                "size {eps_eval} (ε) and half of it. Hatched: a variant.",
                "accuracy, %",
            ),
            Lines(
                "widths",
                ("clean", "robust_half_eps", "robust_eps"),
                "Students of D_R by the width of the embedding that it was made from: one as wide "
                "as the image can copy it.",
                "accuracy, %",
                "units of the embedding",
            ),
            PictureRows(
                (
                    "attacked.images",
                    *(f"{m}.{what}" for m in _BOTH for what in ("difference", "adversarial")),
                ),
                (
                    "image",
                    *(f"{m}: {what}" for m in _BOTH for what in ("change, magnified", "result")),
                ),
                "Test images that the standard model has right, attacked on each model within "
                "{norm} {eps_eval}: the change, magnified until its largest pixel is black or "
                "white, and the result with the model's prediction, in colour where it is fooled.",
            ),
        ),
        tables=(
            Table("robust", "Models and their robustness; ε is {norm} {eps_eval}."),
            Table("widths", "D_R by the width of the embedding."),
        ),
    ),
    Section(
        "Against the known truth",
        "In planted images both features are known, so what each set carries and what each model "
        "follows can be read off.",
        tables=(Table("planted", "Planted features of the sets, and what their models follow."),),
    ),
)

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
    takes={"digits": 11, "planted": 4, "mnist": 35, "fashion-mnist": 20, "cifar10": 8},
    files=files,
    choices=choices,
)

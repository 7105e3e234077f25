"""The page of `ilyas2019`: its texts, figures and tables, and what a sceptic asks."""

from collections.abc import Sequence

from notbugs.experiments import visibility
from notbugs.experiments.constructed import STUDENTS
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
from notbugs.experiments.visibility import LIMIT, MOST_LEARNT

_BOTH = ("standard", "robust")
_CLEAN = ("clean", *(f"clean_{architecture}" for architecture in STUDENTS))
_SHIFTED = ("shifted", *(f"shifted_{architecture}" for architecture in STUDENTS))
_SEEN = tuple(name for name in visibility.COLUMNS if name.startswith("seen"))
_FIRST = {
    "D": "the images, true labels",
    "D_other": "changed images, wrong labels (D_other)",
    "D_noise": "changed noise, no image (D_noise)",
    "D_other/projected": "D_other less class-mean differences",
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
        "can only have learnt from the changes, if controls do no better than guessing.",
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
                        "smallest of it. On the set itself, where observers err too: one fixed "
                        "pattern per class of the same size tells how often",
                        (*_cells("D_other", _SEEN), Cell("sets", "leak:D_other", "seen_any")),
                    ),
                    Question(
                        "Do the changes merely show, faintly, what people would see?",
                        "What points towards differences of class means is taken out of every "
                        "change, and the size kept",
                        _all(["D_other", "D_other/projected"], _CLEAN),
                    ),
                    Question(
                        "Do robust features leak (Goh 2019)?",
                        "A linear classifier of the robust network's embedding learns from the "
                        f"first {MOST_LEARNT:,} of the same images and labels, at most. What is "
                        "above the controls, not above guessing, leaks",
                        _all(
                            ["D_det", "leak:D_other", "D_other/projected", "D_other"],
                            ("robust_probe",),
                        ),
                    ),
                    Question(
                        "Do the changes fool the source?",
                        "Images that it gives the new label",
                        _all(["D_noise", "D_other"], ("source_success",)),
                    ),
                    Question(
                        "Does the label leak, by any shortcut that marks a class?",
                        "One fixed random pattern per class in place of the change",
                        _all(["leak:D_other"], _CLEAN),
                    ),
                    Question(
                        "Would changes for any network do, trained or not?",
                        "The same attack on the source before its training, and on a network "
                        "trained on shuffled labels (how many of which it fits)",
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
                        _all(["D_noise/untrained", "D_other/random"], ("clean", "chance")),
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
        "size; D_noise: noise in place of images. All at {norm} {eps_headline}; the column "
        "Distance says how large the changes are. The controls of a set have its images and "
        "targets; they differ in the direction of the change.",
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
        "of the standard evaluation are on the first test images alone. Rows that name an "
        "architecture are of models, sets and students of that one.",
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

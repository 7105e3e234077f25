"""The page of the perceptron: columns, sections and figures."""

from notbugs.experiments.numbers import Cell
from notbugs.experiments.page import Column, Lines, PictureRows, Question, Questions, Section, Table

_STUDENTS = (
    ("predicted", "Predicted", "by the closed form of the first step"),
    ("first", "First step", "on drawn targets"),
    ("trained", "Trained", "to the end"),
    ("boxed", "Boxed", "trained to the end, on images that are cut to [0, 1]"),
)
COLUMNS = (
    {
        "chance": Column("Chance", unit="%"),
        "images": Column(
            "Images", "the length of their part of the first step over the other's", 2
        ),
        "size": Column("Predicted", "mean L2 length of the perturbations", 2),
        "first_size": Column("First step", digits=2),
        "first_ratio": Column("over the predicted", digits=2),
        "trained_size": Column("Trained", digits=2),
        "trained_ratio": Column("over the predicted", digits=2),
    }
    | {name: Column(title, f"true labels; {text}", unit="%") for name, title, text in _STUDENTS}
    | {
        f"{name}_shifted": Column(f"{title}, shifted", "labels y + 1", unit="%")
        for name, title, _ in _STUDENTS
    }
    | {
        f"{name}_cosine": Column(f"{title}, cosine", "with the source's centred weights", 2)
        for name, title, _ in _STUDENTS
    }
)

SECTIONS = (
    Section(
        "What a linear classifier learns from wrong labels",
        "A linear source moves each image x of class y by eta (w_t - w_y) towards a class t, which "
        "becomes its label. The first step of a student from zero is known: of D_rand it is "
        "eta/K (w_k - w_bar), the source itself; of D_other less a part that avoids the true "
        "class; of D_det a source whose classes are differences, plus the images of the class "
        "before. Images average out, perturbations do not.",
        figures=(
            PictureRows(
                ("source", "predicted", "first", "trained"),
                ("source", "predicted", "first step", "trained"),
                "Weights of each class: the source's, and those of students of D_other at the "
                "largest size.",
            ),
            *(
                Lines(
                    "learnt",
                    columns,
                    caption,
                    "%",
                    "mean L2 size of the perturbations",
                    lines=(line, f"{line}/random"),
                    chance="chance",
                )
                for line, columns, caption in (
                    ("D_rand", ("predicted", "trained"), "True labels by students of D_rand."),
                    ("D_other", ("predicted", "trained"), "True labels by students of D_other."),
                    ("D_det", ("trained", "trained_shifted"), "True and shifted labels, D_det."),
                )
            ),
        ),
        tables=(
            Table("learnt", "What students know of test images. /random: along normal draws."),
            Table("turning", "The size at which half of the images turn from y + 1 to y."),
        ),
    ),
    Section(
        "What a sceptic asks",
        "",
        tables=(
            Questions(
                "Objections, and the numbers that answer them.",
                (
                    Question(
                        "Would any direction do?",
                        "normal draws in place of the source's weights",
                        (
                            Cell("learnt", "D_other at 2", "trained"),
                            Cell("learnt", "D_other/random at 2", "trained"),
                        ),
                    ),
                    Question(
                        "Does D_rand need features at all?",
                        "normal draws again: a tenth of its labels is true, and only images with "
                        "true labels are left as they are",
                        (
                            Cell("learnt", "D_rand at 2", "trained"),
                            Cell("learnt", "D_rand/random at 2", "trained"),
                        ),
                    ),
                    Question(
                        "Do pixels outside of [0, 1] carry it?",
                        "images that are cut to [0, 1]",
                        (
                            Cell("learnt", "D_other at 2", "trained"),
                            Cell("learnt", "D_other at 2", "boxed"),
                        ),
                    ),
                    Question(
                        "Is the first step all that a student learns?",
                        "a student that is trained to the end: the size at which it turns",
                        (
                            Cell("turning", "D_det", "size"),
                            Cell("turning", "D_det", "trained_size"),
                        ),
                    ),
                ),
            ),
        ),
    ),
)

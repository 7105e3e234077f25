"""The page of Kurakin et al. 2016, as data."""

from notbugs.experiments.channel import METHODS, TRANSFORMATIONS
from notbugs.experiments.numbers import Cell
from notbugs.experiments.page import (
    Bars,
    Lines,
    PictureRows,
    Question,
    Questions,
    Section,
    Table,
)

THREE = ("fast", "basic iterative", "least likely")
"""The paper's methods."""
ROBUST, CONTROL = "expectation", "expectation/none"


def _accuracy(k: int) -> Lines:
    axis = "levels of 255"
    return Lines("accuracy", (f"top_{k}",), f"Top {k} accuracy.", "%", axis, logarithmic=True)


_SHOWN = ("clean.images", "difference", "adversarial")

SECTIONS = (
    Section(
        "What the images look like",
        "Each method changes each pixel by at most {transformed} of 255 levels. The fast method "
        "takes one step along the sign of the gradient; the iterative ones many of one level, away "
        "from the class or towards the class that was least likely.",
        figures=tuple(
            PictureRows(
                tuple(f"{name}.{what}" for what in _SHOWN),
                ("image", "change, magnified", "adversarial"),
                f"The method “{name}”.",
            )
            for name in THREE
        ),
    ),
    Section(
        "Printed and photographed",
        "Pages with clean and adversarial images are printed and photographed, each from another "
        "angle of up to {angle} degrees, by a simulated camera; marks on the page say where each "
        "image is. Of photographs the net is one, and the seeds draw views of the same seven, some "
        "of them again: intervals say nothing of other pictures or nets. Prefiltered images are "
        "those that the net was sure of, clean and adversarial.",
        figures=(
            PictureRows(
                (
                    "photo.clean",
                    "photo.clean_photo",
                    "photo.adversarial",
                    "photo.adversarial_photo",
                ),
                ("clean", "photographed", "adversarial", "photographed"),
                "Images as files, and cut out of photographs.",
            ),
            Lines(
                "photo",
                ("destroyed",),
                "Adversarial images that photographs destroy.",
                "%",
                "levels of 255",
                logarithmic=True,
            ),
            *(
                Lines(
                    "cameras",
                    ("destroyed",),
                    f"Adversarial images that photographs destroy, by {words}.",
                    "%",
                    words,
                    lines=tuple(f"{method}, {name}" for method in ("fast", "least likely")),
                )
                for name, words in (
                    ("scale", "resolution, pixels per dot"),
                    ("slope", "light lost from side to side"),
                    ("response", "exponent of the response"),
                )
            ),
            Bars("robust", ("destroyed", "photo"), "All methods at {transformed} levels.", "%"),
        ),
        tables=(
            Table("photo", "Photographs by method and size (tables 1 to 3)."),
            Table("robust", "Photographs at {transformed} levels, with the expectation."),
            Table("cameras", "By resolution, light and response of the camera."),
        ),
    ),
    Section(
        "Accuracy against the size of the change",
        "Random signs of the same size are the control.",
        figures=(
            _accuracy(1),
            _accuracy(5),
        ),
        tables=(Table("accuracy", "Accuracy by method and size (figure 2)."),),
    ),
    Section(
        "Transformations",
        "The destruction rate: of the images that are right as clean and wrong as adversarial, the "
        "share that is right again after a change that nobody optimised for. The method "
        "“expectation” does optimise for some: it attacks the mean over what a camera does; "
        "“expectation/none” takes the same steps without it.",
        figures=(
            Bars("kinds", ("destroyed",), "Destruction rates, means over the amounts.", "%"),
            *(
                Lines(
                    "transformations",
                    ("destroyed",),
                    f"Destruction rate, {kind} (figure 6).",
                    "%",
                    "amount",
                    lines=tuple(f"{method}, {kind}" for method in METHODS),
                )
                for kind in TRANSFORMATIONS
            ),
        ),
        tables=(
            Table("kinds", "Destruction rates, means over the amounts."),
            Table("transformations", "Destruction rates by amount (figure 6)."),
        ),
    ),
    Section(
        "Other nets",
        "The same images, shown to nets that they were not made for.",
        tables=(Table("others", "Accuracies of other nets."),),
    ),
    Section(
        "What a sceptic asks",
        "",
        tables=(
            Questions(
                "Objections, and the numbers that answer them.",
                tuple(
                    Question(question, control, (Cell(table, row, a), Cell(table, other, b)))
                    for question, control, table, row, a, other, b in (
                        (
                            "Does the camera spoil clean images as well?",
                            "photographs of the clean ones",
                            *("robust", "fast", "photo", "fast", "photo_clean"),
                        ),
                        (
                            "Top 1 survives without the expectation too: does more?",
                            "top 5, the same steps without the expectation",
                            *("robust", ROBUST, "destroyed_5", CONTROL, "destroyed_5"),
                        ),
                    )
                ),
            ),
        ),
    ),
)

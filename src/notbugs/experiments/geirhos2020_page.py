"""The page of shortcut learning: columns, sections and figures."""

from notbugs.experiments.numbers import Cell
from notbugs.experiments.page import (
    Bars,
    Column,
    Lines,
    PictureRows,
    Question,
    Questions,
    Section,
    Table,
)
from notbugs.features.shortcuts import KINDS

COLUMNS = {
    "iid": Column("I.i.d.", "test images where the shortcut holds, right", unit="%"),
    "ood": Column("O.o.d.", "where it tells another class, right", unit="%"),
    "anywhere": Column("Anywhere", "where it tells nothing, right", unit="%"),
    "without": Column("Without", "test images without a mark, right", unit="%"),
    "followed": Column("Followed", "o.o.d., answered with the class of the mark", unit="%"),
    "moved": Column("Moved", "mean L2 of what the mark changed", 2),
    "shape": Column("Shape", "answered with the class of the shape", unit="%"),
    "texture": Column("Texture", "with that of the texture", unit="%"),
    "either": Column("Either", "the sum; a net that guesses has 200 / classes", unit="%"),
    "bias": Column("Shape bias", "the shape's share of these", unit="%"),
    "agreeing": Column("Agreeing", "images whose cues are of one class, right", unit="%"),
    "clean": Column("Clean", "test images, right", unit="%"),
    "silhouettes": Column("Silhouettes", "right", unit="%"),
    "alone": Column("Textures", "images of texture alone, right", unit="%"),
    "chance": Column("Chance", "of guessing", unit="%"),
}
SHOWN = ("iid", "ood", "without", "followed", "moved")

SECTIONS = (
    Section(
        "Stars and moons",
        "Stars stand at the top right or bottom left, moons at the top left or bottom right. In "
        "o.o.d. test images the places are exchanged. The control is trained on shapes at any "
        "place. {stars} training images, {star_tests} of each test.",
        figures=(
            PictureRows(
                tuple(f"sky.{of}" for of in ("shortcut", "exchanged", "random")),
                ("i.i.d.", "o.o.d.", "anywhere"),
                "Test images. Seed 0.",
            ),
            Bars("stars", ("iid", "ood"), "Who learns the shape?", "right, %"),
        ),
        tables=(Table("stars", "Stars and moons.", ("iid", "ood", "anywhere")),),
    ),
    Section(
        "Planted shortcuts against their norm",
        "Every training image bears a mark that tells its label: a patch whose place does "
        "(patch), a wave of low frequency (shading) or of high frequency (fine). All marks of a "
        "norm are equally far apart: a change of norm / sqrt(2) erases one, whichever it is. "
        "Robust nets are trained against L2 {eps}, on the same images of halved contrast. "
        "Unmarked: nets trained on images without marks, which shows what marks do to any net.",
        figures=(
            PictureRows(
                tuple(f"marks.{kind}" for kind in KINDS),
                KINDS,
                "A test image with the mark of each class, L2 {middle}. Seed 0.",
            ),
            *(
                Lines(
                    "norms",
                    ("ood",),
                    f"Test images with the mark of another class: {kind}.",
                    "right, %",
                    "L2 norm of the mark",
                    lines=tuple(
                        f"{role}, {kind}{end}"
                        for role in ("standard", "robust")
                        for end in ("", "/unmarked")
                    ),
                    chance="chance",
                    limit="eps",
                    within="within the eps of robust training",
                    logarithmic=True,
                )
                for kind in KINDS
            ),
        ),
        tables=(Table("norms", "Marks that tell every training label.", SHOWN),),
    ),
    Section(
        "Shortcuts that do not always hold, and remedies",
        "The same at L2 {middle}: where a share of the marks tells the label of their image, the "
        "others that of another class; and for other trainings: Gaussian noise as long as the "
        "adversary's eps, and random crops, moved by up to {crop} pixels.",
        figures=(
            Bars(
                "agreement",
                ("ood", "without"),
                "By the share of training images whose mark tells the label.",
                "right, %",
                chance="chance",
            ),
            Bars("remedies", ("ood", "without"), "Remedies.", "right, %"),
        ),
        tables=(
            Table("agreement", "Marks that tell a share of the labels.", SHOWN),
            Table("remedies", "Trainings with marks that tell every label.", SHOWN),
            Questions(
                "What a sceptic asks.",
                (
                    Question(
                        "Is it the mark that hides the image?",
                        "a net trained without marks, on the same images",
                        (
                            Cell("norms", "standard, fine at 0.5", "ood"),
                            Cell("norms", "standard, fine/unmarked at 0.5", "ood"),
                        ),
                    ),
                    Question(
                        "Would any noise do what the adversary does?",
                        "training with noise of the same length",
                        (
                            Cell("remedies", "fine, robust", "ood"),
                            Cell("remedies", "fine, noise", "ood"),
                        ),
                    ),
                ),
            ),
        ),
    ),
    Section(
        "Shape and texture",
        "Images with the shape of one test image and the texture of another: its Fourier phase "
        "with the other's amplitude, or its silhouette filled with patches of the other's figure "
        "({patch} pixels a side). Shape bias: of the images answered with either class, those "
        "answered with the shape's. A net that guesses has a bias of half, of few images. Digits "
        "have little texture: strokes of all classes are alike.",
        figures=(
            PictureRows(
                tuple(
                    f"cues.{of}"
                    for of in (
                        "of_shape", "of_texture", "phase", "filled", "silhouettes", "textures"
                    )
                ),
                ("shape", "texture", "phase", "filled", "silhouette", "texture alone"),
                "How images of two cues are made. Seed 0.",
            ),
            Bars("cues", ("bias", "agreeing"), "Shape bias, and images whose cues agree.", "%"),
        ),
        tables=(
            Table("cues", "Images of two cues, {count} test images."),
            Table("single", "One cue alone."),
        ),
    ),
)  # fmt: skip

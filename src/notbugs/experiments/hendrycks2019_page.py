"""The page of natural adversarial examples: columns, sections and figures."""

from notbugs.experiments.numbers import Cell
from notbugs.experiments.page import (
    Bars,
    Column,
    Matrix,
    PictureRows,
    Question,
    Questions,
    Section,
    Table,
)

COLUMNS = {
    "clean": Column("All", "candidates, right", unit="%"),
    "random": Column("Random", "as many of the same classes, right", unit="%"),
    "on_standard": Column("Standard's", "candidates that the standard net has wrong", unit="%"),
    "on_sibling": Column("Sibling's", "that the one of another seed has wrong", unit="%"),
    "on_robust": Column("Robust's", "that the robust net has wrong", unit="%"),
    "on_mlp": Column("MLP's", "that the MLP has wrong", unit="%"),
    "filtered": Column("Filtered", "images that are kept", 0),
    "share": Column("Share", "of the candidates", unit="%"),
    "suspected": Column("Suspected", "filtered, net and vote name one other class", unit="%"),
    "suspected_random": Column("Suspected, random", "of as many of the same classes", unit="%"),
    "kept": Column("Kept", "changed labels that are filtered", unit="%"),
    "changed": Column("Changed", "filtered images whose label was changed", unit="%"),
    "found": Column("Found", "of these, suspected", unit="%"),
    "false": Column("False", "of the others, suspected", unit="%"),
    "right": Column("Right", "", unit="%"),
    "confidence": Column("Confidence", "mean largest probability", unit="%"),
    "calibration": Column("Calibration", "RMS error, bins of 100 images", unit="%"),
    "aurra": Column("AURRA", "mean accuracy over response rates", unit="%"),
    "outliers": Column("Outliers", "and as many inliers", 0),
    "aupr_random": Column("AUPR, random", "images of held-out classes", unit="%"),
    "aupr_hard": Column("AUPR, hard", "of which the standard net is surest", unit="%"),
    "aupr_noise": Column("AUPR, noise", "uniform noise", unit="%"),
    "chance": Column("Chance", "of a score that says nothing", unit="%"),
}

SECTIONS = (
    Section(
        "Adversarial filtration",
        "Nets are trained on {few} images; of all others, the candidates, those are kept that a "
        "net has wrong. A sibling has the same training and another seed. Random images are as "
        "many, of the same classes. A net has none of its own set right.",
        figures=(
            PictureRows(
                ("filtered.images",),
                ("filtered",),
                "Images that the standard net has wrong, the surest first. Seed 0.",
            ),
            Bars(
                "transfer",
                ("random", "on_standard"),
                "Who has the standard net's mistakes right?",
                "right, %",
                legend=("random images of the same classes", "what the standard net has wrong"),
            ),
            Matrix(
                "transfer",
                "Whose mistakes are hard for whom?",
                "%",
                ("on_standard", "on_sibling", "on_robust", "on_mlp"),
            ),
        ),
        tables=(
            Table("transfer", "Candidates that judges (rows) have right."),
            Questions(
                "What a sceptic asks.",
                (
                    Question(
                        "Are a few classes hard?",
                        "as many images of the same classes at random",
                        (
                            Cell("transfer", "sibling", "on_standard"),
                            Cell("transfer", "sibling", "random"),
                        ),
                    ),
                    Question(
                        "Is it this net that finds them hard?",
                        "what a net of another seed has wrong",
                        (
                            Cell("transfer", "mlp", "on_standard"),
                            Cell("transfer", "mlp", "on_sibling"),
                        ),
                    ),
                    Question(
                        "Is a robust net better only because it is another net?",
                        "the mistakes of a third net, for the standard one",
                        (
                            Cell("transfer", "robust", "on_mlp"),
                            Cell("transfer", "standard", "on_mlp"),
                        ),
                    ),
                ),
            ),
        ),
    ),
    Section(
        "Wrong labels",
        "A label is suspected where the net and a vote of the {voters} nearest images, of those "
        "not filtered, name the same other class; a hard image may be suspected as well. To test "
        "this, labels of a share of {changed} of the candidates are changed.",
        tables=(Table("labels", "Filtered sets and their labels."),),
    ),
    Section(
        "Confidence",
        "How sure nets are of candidates, of random ones, and of those that the standard net has "
        "wrong. Sets of fewer than 200 images are one bin of the calibration error.",
        figures=(
            Bars(
                "confidence",
                ("right", "confidence"),
                "On what the standard net has wrong.",
                "%",
                rows=("sibling, random", "sibling, filtered", "robust, random", "robust, filtered"),
            ),
        ),
        tables=(Table("confidence", "Calibration and abstention."),),
    ),
    Section(
        "Classes that no net has seen",
        "The {held_out} last classes are held out: does a low confidence tell their images from "
        "candidates? Hard ones are the share of {hard} of which the standard net is surest.",
        figures=(
            Bars(
                "outliers",
                ("aupr_random", "aupr_hard", "aupr_noise"),
                "Detection of outliers.",
                "AUPR, %",
                chance="chance",
            ),
        ),
        tables=(Table("outliers", "Detection by the largest softmax probability."),),
    ),
)

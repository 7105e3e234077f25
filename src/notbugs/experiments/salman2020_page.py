"""The page of Salman et al. 2020: columns, sections and figures."""

from notbugs.experiments.page import Bars, Column, Lines, Section, Table
from notbugs.experiments.salman2020_stages import SHOTS

GAINS = tuple(name.replace("shots", "gain") for name in SHOTS)
WORDS = ("Fewest", "Some", "Most")

COLUMNS = {
    "source": Column("Source", "test images of the source", unit="%"),
    "withstood": Column("Source, attacked", "the same under PGD", unit="%"),
    **{
        name: Column(f"{word} images", "accuracy on test images of the target", unit="%")
        for name, word in zip(SHOTS, WORDS, strict=True)
    },
    "mean": Column("Mean", "over the numbers of images", unit="%"),
    "held": Column("Held out", "the same of held-out training images, for choices", unit="%"),
    **{
        name: Column(f"Gain, {word.lower()}", "over the standard net", 2, "points")
        for name, word in zip(GAINS, WORDS, strict=True)
    },
    "gain": Column("Gain", "over the standard net, mean over the numbers of images", 2, "points"),
    "radius": Column("Radius", "that is best on held-out images of the seed", 2),
}

ACCURACIES = ("source", "withstood", *SHOTS, "mean", "held", "gain")


def _by_radius(table: str, how: str) -> Lines:
    return Lines(
        table,
        GAINS,
        f"Accuracy on the target over that of the standard net, {how}, by the radius of the "
        "pretraining. {shots} images of each class.",
        "gain over the standard net, points",
        "{norm} radius of the pretraining",
    )


def _controls(table: str, how: str) -> Bars:
    return Bars(
        table,
        ("gain",),
        f"Accuracy on the target over that of the standard net, {how}, mean over the numbers of "
        "images; controls are hatched.",
        "gain over the standard net, points",
    )


SECTIONS = (
    Section(
        "Fixed features",
        "Nets are pretrained on {source}, against adversaries of {norm} within each radius, and "
        "transferred to {data} (where both are the same: from one half of the classes to the "
        "other), of which few training images are known. A logistic regression reads the "
        "embedding. Controls: the embedding of an untrained net, of one that learnt shuffled "
        "labels, of a standard net from the epoch when it was as accurate as the robust one, and "
        "the pixels themselves. The radius of the claims is {best_fixed}.",
        figures=(_by_radius("fixed", "fixed features"), _controls("fixed", "fixed features")),
        tables=(Table("fixed", "Transfer by fixed features.", ACCURACIES),),
    ),
    Section(
        "Fine-tuning",
        "All weights are trained on the few images, with a new last layer; of the rates {rates} "
        "that which is best on held-out images. From scratch: weights that no pretraining saw. The "
        "radius of the claims is {best_full}.",
        figures=(_by_radius("full", "all weights tuned"), _controls("full", "all weights tuned")),
        tables=(Table("full", "Transfer by fine-tuning.", ACCURACIES),),
    ),
    Section(
        "Width",
        "Nets of several widths, as multiples of the first, standard and at the radius "
        "{best_fixed}; fixed features.",
        figures=(
            Lines(
                "width",
                ("mean",),
                "Accuracy on the target by width, fixed features.",
                "accuracy, %",
                "width, multiples",
                logarithmic=True,
            ),
        ),
        tables=(Table("width", "Transfer by width."),),
    ),
    Section(
        "Detail",
        "The target's images as they are, and shrunk to {detail} pixels a side and enlarged again. "
        "The paper finds that larger radii suit coarser images. Fixed features.",
        figures=(
            Lines(
                "detail",
                ("gain",),
                "Accuracy on the target over that of the standard net, by detail.",
                "gain over the standard net, points",
                "{norm} radius of the pretraining",
            ),
        ),
        tables=(
            Table("best", "The best radius of each seed by held-out images."),
            Table("detail", "Transfer by detail.", (*SHOTS, "mean", "held", "gain")),
        ),
    ),
)

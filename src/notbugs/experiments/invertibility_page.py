"""The page of invertibility: columns, sections and figures."""

from notbugs.experiments.invertibility_stages import SEEN
from notbugs.experiments.page import Bars, Column, Lines, PictureRows, Scatter, Section, Table

WORDS = dict(zip(SEEN, ("recognised", "SSIM", "identified"), strict=True))

COLUMNS = {
    "clean": Column("Clean", "accuracy on test images", unit="%"),
    "robust": Column("Robust", "accuracy under PGD", unit="%"),
    "width": Column("Embedding", "numbers in it", 0),
    "relative_error": Column("Match error", "distance of embeddings over the target's, median", 3),
    "rmse": Column("Pixel error", "root mean square, in units of [0, 1]", 3),
    "ssim": Column("SSIM", "with the image; 1 is equal", 3),
    "lpips": Column("LPIPS", "by the judge's activations; 0 is equal", 3),
    "recognised": Column("Recognised", "the judge names the true class", unit="%"),
    "voted": Column("Neighbours agree", "ten similar training images do", unit="%"),
    "identified": Column(
        "Identified", "of all test images the true one is nearest in pixels", unit="%"
    ),
    "chance": Column("… chance", "of guessing", 2, "%"),
    "perceived": Column("Identified, LPIPS", "it is by the judge's LPIPS", unit="%"),
    "in_class": Column("Identified in class", "among test images of its class", unit="%"),
    "class_chance": Column("… chance in class", "of guessing", 2, "%"),
    "models": Column("Models", "", 0),
    **{
        f"{kind}_{name}": Column(f"{title}: {WORDS[name]}", text, 2)
        for kind, title, text in (
            ("rank", "Robust", "rank correlation of robust accuracy with it"),
            ("partial", "Robust given clean", "the same at equal clean accuracy"),
            ("clean", "Clean", "rank correlation of clean accuracy with it"),
        )
        for name in SEEN
    },
}

QUALITY = ("relative_error", "rmse", "ssim", "lpips", "recognised", "voted")
IDENTITY = ("identified", "chance", "perceived", "in_class", "class_chance")


def _cloud(column: str, what: str) -> Scatter:
    return Scatter("models", "robust", column, f"{what} and robust accuracy, each model and seed.")


SECTIONS = (
    Section(
        "Robust models and what they give away",
        "An attacker who has a model and the embedding of a test image seeks an image with the "
        "same embedding, from noise, by {steps} steps of L-BFGS without any prior. Another model, "
        "the judge, says which class it shows; and it is compared with all test images: how often "
        "is the true one the nearest? (Who has the model and the candidates themselves needs no "
        "inversion: one embedding equals the other. The rate is of what the picture tells by "
        "itself.) Robust accuracy: PGD-20 at L2 {eps_eval}. L2 at 0 is the standard model.",
        figures=(
            _cloud("recognised", "Recognition by another model"),
            _cloud("ssim", "Similarity to the image"),
            _cloud("identified", "Identification among all test images"),
        ),
        tables=(
            Table("models", "Models, and inversion of {count} test images.",
                  ("clean", "robust", "width", *QUALITY, *IDENTITY)),
            Table("correlation", "Rank correlations over models, in each seed."),
        ),
    ),
    Section(
        "What gives an image away, and what its class",
        "Two models, the robust one at L2 {eps}: their embedding without a prior, with total "
        "variation (its weight is the best on validation images), and within what a generator of "
        "training images can make; and hatched what inverts nothing of an image: the training "
        "image of the nearest embedding, an image with the same logits, and one that maximises the "
        "label's.",
        figures=(
            Bars("ways", ("recognised", "identified", "in_class"),
                 "Images whose class is recognised, and that are identified.", "images, %"),
            PictureRows(
                ("targets", "standard", "standard, generator", "standard/logits", "standard/label",
                 "standard/nearest image", "robust", "robust, generator", "robust/logits",
                 "robust/label", "robust/nearest image", "untrained"),
                ("Test images", "Standard", "… generator", "… logits", "… label",
                 "… nearest image", "Robust", "… generator", "… logits", "… label",
                 "… nearest image", "Untrained"),
                "Images made from representations of the first test images.",
            ),
        ),
        tables=(Table("ways", "Ways to an image.", (*QUALITY, *IDENTITY)),),
    ),
    Section(
        "The width of the embedding",
        "The same architecture with embeddings of other widths, trained and not.",
        figures=(
            Lines("width", ("identified",), "Identification by the width of the embedding.",
                  "identified, %", "width of the embedding", logarithmic=True),
        ),
        tables=(Table("width", "By the width of the embedding.", (*QUALITY, *IDENTITY)),),
    ),
)  # fmt: skip

"""The page of the discussion: columns, sections and figures."""

from notbugs.experiments.constructed import COLUMNS as OF_SETS
from notbugs.experiments.discussion_stages import SQUARE_EPS
from notbugs.experiments.page import Bars, Column, Lines, PictureRows, Section, Table
from notbugs.experiments.visibility import COLUMNS as OF_OBSERVERS

MODELS = ("standard", "robust")
LAYERS = ("embedding", "logits")
STYLED = ("content", "style", *MODELS, "untrained")
"""The rows of pictures of style transfer."""

COLUMNS = OF_SETS | OF_OBSERVERS | {
    "in_band": Column("In band", "test images with these frequencies alone, right", unit="%"),
    "low": Column("Low", "error under waves below 0.25 cycles a pixel", unit="%"),
    "high": Column("High", "error under waves from 0.25 on", unit="%"),
    "kept": Column("Kept", "that the whole ensemble has right", unit="%"),
    "high_lost": Column("High, lost", "less the error without waves", unit="%"),
    "fooled": Column("Fooled", "test images that the source takes for the next class", unit="%"),
    "transfer": Column("Transfer", "that a net apart takes for it", unit="%"),
    "before": Column("Before", "test images taken for the class before theirs", unit="%"),
    "fitted": Column("Fitted", "labels of training points", unit="%"),
    "right": Column("Right", "test points", unit="%"),
    "features": Column("Features", "that it is the sum of", 0),
    "rho": Column("rho", "usefulness", 2),
    "gamma": Column("gamma", "what an adversary leaves of it", 2),
    "closed": Column("Closed", "of the distance in style, by the model itself", unit="%"),
    "seen": Column("Seen", "the same by a model apart", unit="%"),
    "content": Column("Content", "that the model apart still has right", unit="%"),
    "learnt": Column("Learnt", "first points that the student has right", unit="%"),
    "reached": Column("Reached", "moved points taken for their other class", unit="%"),
} | {
    f"moved_{layer}": Column(f"R({layer})", "1: as far as to another image", 3) for layer in LAYERS
} | {
    f"flips_{eps:g}": Column(f"Linf {eps:g}", "right points that are turned", unit="%")
    for eps in SQUARE_EPS
}  # fmt: skip

SECTIONS = (
    Section(
        "Frequencies (Gilmer and Hendrycks)",
        "Nets trained and tested on some frequencies alone. Heat maps: the error of a model when a "
        "wave of one frequency, L2 {wave}, is added to every image.",
        figures=(
            Lines(
                "bands",
                ("in_band",),
                "Trained and tested in a band.",
                "right, %",
                "cutoff, cycles a pixel",
            ),
            PictureRows(
                tuple(f"heat.{role}" for role in MODELS),
                MODELS,
                "Errors under waves, white is 100 %; frequency 0 in the middle. Seed 0.",
            ),
        ),
        tables=(Table("bands", "Frequencies alone."), Table("waves", "Under waves.")),
    ),
    Section(
        "Leakage through robust features (Goh)",
        "What a linear classifier of a robust net's embedding learns of the true labels from a set "
        "whose labels are wrong, beside what a whole net learns.",
        tables=(
            Table(
                "leakage",
                "True labels of test images.",
                ("clean", "shifted", "robust_probe", "true_labels"),
            ),
        ),
    ),
    Section(
        "Two examples of useful non-robust features (Goh)",
        "Linear features of two classes, with mean 0 and variance 1: principal components and sums "
        "of them, chosen on training images and judged on test images under {norm} {eps}. Weak "
        "ones have a rho below 0.3 and are turned around; summed by their rho they say more, of "
        "which an adversary leaves nothing. And a useless component of little variance, added to a "
        "robust feature, takes its robustness away.",
        figures=(Bars("made", ("rho",), "How useful each is; gamma stands in the table.", ""),),
        tables=(Table("made", "Classes {pair}."),),
    ),
    Section(
        "Layers and style (Nakano)",
        "R(f): how far an attack moves a layer's output, in units of the mean distance of two "
        "images' outputs. Style transfer: each image is changed until the products of a model's "
        "channels are those of another image (its style), while its last convolution stays. "
        "Another standard model then tells how much of the way it sees. Where a net averages over "
        "positions, as a small CNN does, the style of an image tells its class as well.",
        figures=(
            PictureRows(
                tuple(f"style.{row}" for row in STYLED),
                STYLED,
                "Content, style, and the content in that style by each model. Seed 0.",
            ),
        ),
        tables=(
            Table("layers", "Attacks of half the radius of the sets."),
            Table("styles", "Style transfer, from {styled} test images."),
        ),
    ),
    Section(
        "Just bugs, poison, squares (Nakkiran)",
        "Bugs are adversarial for the source while other nets ({ensemble}) stay right; students "
        "learn from them as from D_det. Poison: perturbations towards the next class, true labels.",
        figures=(
            Bars(
                "bugs", ("clean", "shifted"), "What students of each learn.", "%", chance="chance"
            ),
        ),
        tables=(
            Table(
                "bugs",
                "Towards the next class.",
                ("fooled", "kept", "transfer", "clean", "shifted"),
            ),
            Table("poison", "True labels, moved images.", ("clean", "before", "true_labels")),
            Table("squares", "Points that a linear rule tells apart within Linf 0.9."),
        ),
    ),
    Section(
        "Mistakes, foreign images, points (Wallace)",
        "The training images that a model has wrong after few epochs ({few}), labelled as it takes "
        "them; images of uniform noise, or of another dataset, labelled by a model of real ones; "
        "and 32 points of the plane, of random classes, of which a second net sees adversarial "
        "points alone that fool the first, labelled as it takes them (means of ten draws a seed).",
        tables=(
            Table("mistakes", "Students on test images.", ("clean", "images", "true_labels")),
            Table("points", "Students of moved points, whose labels are all wrong."),
        ),
    ),
)

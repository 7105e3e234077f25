"""The page of Goodfellow et al. 2014, as data."""

from notbugs.experiments.numbers import Cell
from notbugs.experiments.page import (
    Bars,
    Curves,
    Lines,
    PictureRows,
    Question,
    Questions,
    Section,
    Table,
)

_OTHERS = tuple(f"line.other{i}" for i in range(8))
_ERRORS = ("fgsm", "signs", "uniform")

SECTIONS = (
    Section(
        "One step is enough",
        "Each test image is moved by {eps} along the sign of the gradient of the net's loss. Noise "
        "of the same size, random signs at every pixel, is the control.",
        figures=(
            PictureRows(
                ("maxout.clean.images", "maxout.difference", "maxout.adversarial"),
                ("image", "change: the sign", "after one step"),
                "Test images that the maxout net has right; what it takes them for after the step.",
            ),
            Bars(
                "kinds",
                _ERRORS,
                "Errors of nets of several kinds on changed test images.",
                "error, %",
            ),
        ),
        tables=(
            Table(
                "kinds", "Errors, and how sure the nets are of their mistakes (sections 4 and 7)."
            ),
        ),
    ),
    Section(
        "Why: many small changes add up",
        "A linear net sums its pixels. A change below the precision of the pixels, all signs of it "
        "along the gradient, adds up over the pixels where random signs cancel. The images are the "
        "test images at four sizes, each with a linear net of its own: a larger image says nothing "
        "new, so weights shrink as pixels are added. Gaussian classes are equally far apart in "
        "each dimension, and their classifier is the best there is.",
        figures=(
            Lines(
                "dimension",
                ("gain", "gain_random"),
                "By how much a change of half a level of 8 bits moves the margin.",
                "of the mean margin, %",
                "dimensions",
                logarithmic=True,
            ),
        ),
        tables=(
            Table("dimension", "Gains by dimension; FGSM of a quarter of eps."),
            Table("growth", "The powers of the dimension with which they grow (section 3)."),
        ),
    ),
    Section(
        "Along the line",
        "The logits of images along x + t * sign(gradient), far beyond the range of pixels, where "
        "any net of linear pieces is nearly straight, along random signs as well.",
        figures=(
            Curves(
                ("line.true", "line.taken", *_OTHERS),
                ("true class", "class it is taken for", "others", *[""] * 7),
                "line.t",
                "The logits of the maxout net along the gradient's sign at one image (figure 4).",
                "logit",
                "t",
                logarithmic=False,
            ),
        ),
        tables=(
            Table("line", "How linear the logits are, and over what range one wrong class holds."),
        ),
    ),
    Section(
        "Logistic regression",
        "Two classes, {pair}. The worst case of a linear net is known in closed form, and training "
        "on it is a penalty on the weights inside the loss, which fades for images of a large "
        "margin. L1 decay is outside and never fades.",
        figures=(
            PictureRows(
                ("weights.logistic", "logistic.clean.images", "logistic.adversarial"),
                ("weights; their signs", "image", "after one step"),
                "The weights of logistic regression, and images moved along their signs (figure "
                "2).",
            ),
            Lines(
                "logistic",
                ("train_error", "fgsm", "pull"),
                "Two classes, by strength.",
                "%",
                "strength",
                logarithmic=True,
            ),
            Lines(
                "several",
                ("train_error", "fgsm"),
                "A linear net of all classes.",
                "%",
                "strength",
                logarithmic=True,
            ),
        ),
        tables=(
            Table("logistic", "Two classes: worst-case training and L1 decay (section 5)."),
            Table("several", "All classes: training on FGSM and L1 decay."),
        ),
    ),
    Section(
        "Training on the examples",
        "Maxout nets of {units} and {wide} units, trained on half clean and half changed images. "
        "The wide net's epoch is that of the lowest held-out error, adversarial or, in one row, "
        "clean. Perturbations of all kinds grow to their size over half of the epochs.",
        figures=(
            Bars("training", ("test_error", "fgsm"), "Errors by way of training.", "error, %"),
            Lines(
                "epochs",
                ("val_error", "val_fgsm"),
                "Held-out errors of the wide net after each epoch, to the end.",
                "error, %",
                "epoch",
            ),
            PictureRows(
                ("filters.plain", "filters.FGSM", "filters.signs"),
                ("plain", "adversarially trained", "trained on noise"),
                "The largest filters of the first layer (figure 3).",
            ),
        ),
        tables=(
            Table("training", "Errors by way of training (section 6)."),
            Table(
                "crossed", "Errors of the plain net and the trained wide one on examples of each."
            ),
            Table("overfitting", "By how much held-out errors rose from their lowest to the end."),
            Table("epochs", "Held-out errors after each epoch."),
            Table("filters", "How local, smooth and sparse the first layer's filters are."),
        ),
    ),
    Section(
        "Why the examples generalise",
        "Two nets that both err on the same examples: how often do they name the same class? "
        "Chance is that of two nets that err independently, each as often towards each class.",
        figures=(
            Bars("agreement", ("agree", "chance"), "Agreement where both err.", "%"),
            Lines(
                "angle",
                ("error",),
                "Errors after steps as long as FGSM's, by their cosine with the gradient.",
                "error, %",
                "cosine with the gradient",
            ),
        ),
        tables=(
            Table("agreement", "Examples of the first net, judged by both (section 8)."),
            Table("subspace", "Adversarial directions among orthogonal ones near the gradient."),
            Table("angle", "Errors by the cosine of the step with the gradient."),
            Table("ensemble", "An ensemble of {members} maxout nets (section 9)."),
        ),
    ),
    Section(
        "Rubbish",
        "Pixels from N(0, 1) show nothing. A net that is right to be unsure gives no class more "
        "than one half.",
        figures=(
            PictureRows(
                ("fooling.images",),
                ("taken for",),
                "Noise that one step makes a convolutional maxout net take for each class (figure "
                "5).",
            ),
        ),
        tables=(Table("rubbish", "Classes seen in noise (appendix)."),),
    ),
    Section(
        "What a sceptic asks",
        "",
        tables=(
            Questions(
                "Objections, and the numbers that answer them.",
                (
                    Question(
                        "Is it just the size of the change?",
                        "random signs of the same size",
                        (Cell("kinds", "maxout", "fgsm"), Cell("kinds", "maxout", "signs")),
                    ),
                    Question(
                        "Does any noise in training help?",
                        "training on random signs",
                        (Cell("training", "FGSM", "fgsm"), Cell("training", "signs", "fgsm")),
                    ),
                    Question(
                        "Is the trained net robust, or does it only defeat FGSM?",
                        "PGD of 20 steps",
                        (Cell("training", "FGSM", "fgsm"), Cell("training", "FGSM", "pgd")),
                    ),
                    Question(
                        "Do nets agree because some classes are named often?",
                        "chance, given each net's mistakes",
                        (
                            Cell("agreement", "maxout, softmax", "agree"),
                            Cell("agreement", "maxout, softmax", "chance"),
                        ),
                    ),
                    Question(
                        "Is the dimension the cause, or what the pixels say?",
                        "the same images at four sizes",
                        (
                            Cell("growth", "Gaussian", "gain_power"),
                            Cell("growth", "images", "gain_power"),
                        ),
                    ),
                ),
            ),
        ),
    ),
)

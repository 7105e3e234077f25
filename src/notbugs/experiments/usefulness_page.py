"""The page of usefulness: columns, sections and figures."""

from notbugs.experiments.page import Column, PictureRows, Scatter, Section, Table

ROLES = ("standard", "robust")

COLUMNS = {
    "features": Column("Features", "", 0),
    "useful": Column("Useful", "for their best class, beyond the interval", unit="%"),
    "robust": Column("Robust", "of the useful, beyond the interval", unit="%"),
    "non_robust": Column("Non-robust", "of the useful: turned around, beyond it", unit="%"),
    "rho": Column("rho", "usefulness, mean over the useful", 3),
    "gamma": Column("gamma", "robust usefulness, mean over the useful", 3),
    "taken": Column("Taken", "rho less gamma, mean", 3),
    "clean": Column("Clean", "test images", unit="%"),
    "withstood": Column("Withstood", "robust accuracy at the radius of the features", unit="%"),
    "with_gamma": Column("With gamma", "rank correlation of weights over units", 2),
    "with_rho": Column("With rho", "the same", 2),
    "under_0": Column("Small", "robust accuracy at the smallest radius", unit="%"),
    "under_1": Column("Middle", "at the second", unit="%"),
    "under_2": Column("Large", "at the third", unit="%"),
}

SECTIONS = (
    Section(
        "Useful, robust and non-robust features",
        "A feature is a number for each image, with mean 0 and variance 1. Its usefulness rho for "
        "a class is its mean over images of the class less that over others, halved; gamma is the "
        "same where an adversary of {threat} changes each image against it. Below 0 it is turned "
        "around: useful, and not robust. Units, components and eigenfeatures of the tangent kernel "
        "of an infinitely wide net are attacked one by one, so their gamma is an upper bound; for "
        "components of the pixels and cosines it is exact. Halves are by frequency, or by "
        "eigenvalue: components of the pixels show how much of it the order of variances does.",
        figures=(
            Scatter(
                "points",
                "rho",
                "gamma",
                "Each useful unit for its best class under {threat}, seed 0: below the line an "
                "adversary turns it around, on the dotted one it takes nothing.",
                zero=True,
                kinds=ROLES,
            ),
            PictureRows(
                tuple(f"{role}.{which}" for role in ROLES for which in ("robust", "other")),
                tuple(f"{role}: {which}" for role in ROLES for which in ("most", "least robust")),
                "Units that an adversary turns around least, and most: the test image that excites "
                "each most, changed until it does more so.",
            ),
        ),
        tables=(Table("shares", "Families of features; judged on {count} test images."),),
    ),
    Section(
        "Models that see some units alone",
        "The head is fitted again, by logistic regression, to half of the units: those with the "
        "largest gamma, the others, or a half that is drawn. Judged on the other test images. "
        "Radii: {radii}.",
        tables=(Table("restricted", "Accuracies under PGD-20 (upper bounds)."),),
    ),
    Section(
        "Which units keep their weight",
        "A linear classifier of all units, b + sum of w f, is trained on images as they are and "
        "against an adversary of {threat} who changes the images, not the units. The weight of a "
        "unit is its share of all; what is kept is the second over the first.",
        tables=(Table("weights", "Weights of units, and PGD-20 on test images."),),
    ),
)

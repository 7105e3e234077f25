"""What Hendrycks et al. 2019 state, as rules, and what a sceptic asks of filtered images."""

from collections.abc import Sequence

from notbugs.experiments.numbers import Cell
from notbugs.experiments.rules import AllOf, AtLeast, AtMost, Below, Claim, Exceeds

EARLY = "before the first run"


def _right(judge: str, column: str) -> Cell:
    return Cell("transfer", judge, column)


def _sure(judge: str, of: str, column: str) -> Cell:
    return Cell("confidence", f"{judge}, {of}", column)


def _found(judge: str, column: str) -> Cell:
    return Cell("outliers", judge, column)


def claims_of(changed: float) -> Sequence[Claim]:
    """The statements; `changed`: the share of labels that are changed as a test."""
    return (*_of_transfer(), *_of_labels(changed), *_of_confidence(), *_of_robust())


def _of_transfer() -> Sequence[Claim]:
    others = ("mlp", "linear")
    return (
        Claim(
            "sibling",
            "Images that a net has wrong are hard for one of another seed: 30 points below random "
            "images of the same classes",
            "not published",
            Exceeds(_right("sibling", "random"), _right("sibling", "on_standard"), 30.0),
            fixed=EARLY,
        ),
        Claim(
            "transfer",
            "and for nets of other architectures",
            "a DenseNet-121 has about 2 % right of what a ResNet-50 has wrong, a fall of about 90 "
            "points (section 1)",
            AllOf(tuple(Exceeds(_right(n, "random"), _right(n, "on_standard"), 30.0)
                        for n in others)),
            fixed=EARLY,
        ),
        Claim(
            "votes",
            "and for a vote of the nearest training images, which is no net",
            "not published",
            Exceeds(_right("neighbours", "random"), _right("neighbours", "on_standard"), 30.0),
            fixed=EARLY,
        ),
        Claim(
            "own",
            "But a part is the net's own: a net of another seed has at least 20 % of them right",
            "not published",
            AtLeast(_right("sibling", "on_standard"), 20.0),
            fixed=EARLY,
        ),
        Claim(
            "crops",
            "Random crops hardly help: at most 10 points more right than the net of another seed",
            "augmentation hardly helps (section 5); in figures",
            Exceeds(_right("sibling", "on_standard"), _right("crops", "on_standard"), -10.0),
            fixed=EARLY,
        ),
    )  # fmt: skip


def _of_labels(changed: float) -> Sequence[Claim]:
    def cell(row: str, column: str) -> Cell:
        return Cell("labels", row, column)

    tested = "standard, labels changed"
    return (
        Claim(
            "concentrates",
            f"Filtration collects wrong labels: where {100 * changed:g} % are changed, these are "
            f"at least {500 * changed:g} % of the filtered images",
            "not published; the paper's authors looked through all (section 3)",
            AtLeast(cell(tested, "changed"), 500 * changed),
            fixed=EARLY,
        ),
        Claim(
            "found",
            "The vote suspects at least 80 % of the labels that were changed",
            "not published",
            AtLeast(cell(tested, "found"), 80.0),
            fixed=EARLY,
        ),
        Claim(
            "labels",
            "Of the filtered images with their published labels it suspects less than half",
            "not published",
            AtMost(cell("standard", "suspected"), 50.0),
            needs=("found",),
            fixed=EARLY,
        ),
    )


def _of_confidence() -> Sequence[Claim]:
    return (
        Claim(
            "calibration",
            "A net of another seed is overconfident on them: its calibration error is 20 points "
            "above that on random images",
            "section 4, in figures",
            Exceeds(
                _sure("sibling", "filtered", "calibration"),
                _sure("sibling", "random", "calibration"),
                20.0,
            ),
            fixed=EARLY,
        ),
        Claim(
            "aurra",
            "and abstaining where it is unsure helps less: AURRA is 20 points below",
            "section 4, in figures",
            Exceeds(
                _sure("sibling", "random", "aurra"), _sure("sibling", "filtered", "aurra"), 20.0
            ),
            fixed=EARLY,
        ),
        Claim(
            "outliers",
            "Outliers of which one net is sure are hard to find for another: its AUPR is 10 points "
            "below that on random ones",
            "near chance on ImageNet-O (section 1)",
            Exceeds(_found("sibling", "aupr_random"), _found("sibling", "aupr_hard"), 10.0),
            fixed=EARLY,
        ),
    )


def _of_robust() -> Sequence[Claim]:
    return (
        Claim(
            "robust",
            "A robust net is hardly better on the images that a third net, an MLP, has wrong: at "
            "most 5 points",
            "training for robustness has little effect (section 5); in figures",
            Exceeds(_right("standard", "on_mlp"), _right("robust", "on_mlp"), -5.0),
            fixed=EARLY,
        ),
        Claim(
            "robust-calibration",
            "but less overconfident on what the standard net has wrong than a net of another seed",
            "not published; of other sets Grabinski et al. 2022 (arXiv 2210.05938)",
            Below(
                _sure("robust", "filtered", "calibration"),
                _sure("sibling", "filtered", "calibration"),
            ),
        ),
    )

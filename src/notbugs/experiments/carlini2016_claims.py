"""What Carlini and Wagner 2016 state, as rules."""

from collections.abc import Sequence

from notbugs.experiments.in_files import GOALS
from notbugs.experiments.numbers import Cell
from notbugs.experiments.rules import AllOf, AtLeast, AtMost, Below, Claim, EverySeed, Exceeds

OURS = ("C&W L0", "C&W L2", "C&W Linf")


def _attack(name: str, column: str) -> Cell:
    return Cell("attacks", name, column)


def _every(table: str) -> AllOf:
    """Each of the three attacks reaches every class of every image."""
    cells = (Cell(table, name, "worst_success") for name in OURS)
    return AllOf(tuple(EverySeed(AtLeast(cell, 100.0)) for cell in cells))


def claims_of_photographs(grid: float) -> Sequence[Claim]:
    """The paper's statements about ImageNet; `grid`: the distance between the radii of FGS."""

    def large(name: str, goal: str, column: str) -> Cell:
        return Cell("large", f"{name}, {goal}", column)

    return (
        Claim(
            "large",
            "In Linf the attack reaches every goal on every image, in files",
            "100 % (table 5)",
            AllOf(
                tuple(
                    EverySeed(AtLeast(large("C&W Linf", goal, "in_files"), 100.0)) for goal in GOALS
                )
            ),
            fixed="the paper's 100 %",
        ),
        Claim(
            "large_linf",
            "It goes less far than the iterated attack, by more than that one's grid, towards the "
            "class that was least likely",
            "0.01 against 0.03 (table 5)",
            Below(large("C&W Linf", GOALS[-1], "linf"), large("iterated", GOALS[-1], "linf"), grid),
            fixed="the distance between the radii of the iterated attack",
        ),
        Claim(
            "large_fgs",
            "FGS does not reach most random classes, however far it goes",
            "2 % (table 5)",
            AtMost(large("FGS", "random", "found"), 50.0),
            fixed="a majority",
        ),
        Claim(
            "lowest_bit",
            "Changes of at most one level make a random class of most images, and random signs of "
            "that size of fewer",
            "stated of the lowest bit, not published as a share; the average Linf is 0.006, 1.5 "
            "levels (section 7, table 5)",
            AllOf(
                (
                    AtLeast(large("C&W Linf", "random", "lowest"), 50.0),
                    Exceeds(
                        large("C&W Linf", "random", "lowest"), large("C&W Linf", "random", "signs")
                    ),
                )
            ),
            fixed="a majority",
        ),
    )


def claims_of(
    temperatures: Sequence[float], confidences: Sequence[float], grid: float
) -> Sequence[Claim]:
    """The paper's statements; `grid`: the distance between the radii of FGS."""
    hottest, coldest = (f"distilled at {temperatures[i]:g}" for i in (-1, 0))
    low, high = (f"confidence at {confidences[i]:g}" for i in (0, -1))
    return (
        Claim(
            "all",
            "The three attacks reach every class of every image",
            "100 % (table 4)",
            _every("attacks"),
            fixed="the paper's 100 %",
        ),
        Claim(
            "l0",
            "In L0 the attack goes less far than JSMA",
            "16 pixels against 56 (JSMA-Z) and 45 (JSMA-F; table 4, average)",
            AllOf(
                tuple(
                    Below(_attack("C&W L0", "average"), _attack(name, "average"))
                    for name in ("JSMA-Z", "JSMA-F")
                )
            ),
        ),
        Claim(
            "l2",
            "In L2 it goes less far than DeepFool, in the best case",
            "1.36 against 2.11 (table 4)",
            Below(_attack("C&W L2", "best"), _attack("DeepFool", "best")),
        ),
        Claim(
            "linf",
            "In Linf it goes less far than FGS and its iterated form, by more than their grid",
            "0.16 against 0.26 and 0.19 (table 4, average)",
            AllOf(
                tuple(
                    Below(_attack("C&W Linf", "average"), _attack(name, "average"), grid)
                    for name in ("FGS", "iterated")
                )
            ),
            fixed="the distance between their radii",
        ),
        Claim(
            "objective",
            "By change of variables f6 reaches every class, and less far than f1",
            "3.47 against 4.35 (table 3, average)",
            AllOf(
                (
                    AtLeast(Cell("objectives", "f6, tanh", "average_success"), 100.0),
                    Below(
                        Cell("objectives", "f6, tanh", "average"),
                        Cell("objectives", "f1, tanh", "average"),
                    ),
                )
            ),
            fixed="the paper's 100 %",
        ),
        Claim(
            "saturated",
            "Objectives of probabilities, f2, f3 and f4, miss classes that f6 reaches",
            "44, 47 and 55 % (table 3, average)",
            AllOf(
                tuple(
                    Below(
                        Cell("objectives", f"{form}, tanh", "average_success"),
                        Cell("objectives", "f6, tanh", "average_success"),
                    )
                    for form in ("f2", "f3", "f4")
                )
            ),
        ),
        Claim(
            "seemed",
            "Distillation seems to protect: it takes at least half from the earlier attack's "
            "success",
            "91 % at temperature 1, 0.5 % at 100 (section 8; Papernot et al.)",
            Exceeds(
                Cell("temperatures", coldest, "earlier"),
                Cell("temperatures", hottest, "earlier"),
                50.0,
            ),
            fixed="half of a success of 100 %",
        ),
        Claim(
            "why",
            "It makes gradients of cross-entropy vanish, for more than half of the images more",
            "stated (section 8)",
            Exceeds(
                Cell("temperatures", hottest, "zero"), Cell("temperatures", coldest, "zero"), 50.0
            ),
            fixed="a majority",
        ),
        Claim(
            "falls",
            "Each of the three attacks reaches every class of every image of the distilled net",
            "100 % (table 6)",
            _every("distilled"),
            fixed="the paper's 100 %",
        ),
        Claim(
            "transfers",
            "Examples of high confidence fool the distilled net, by 50 points more than those of "
            "none",
            "above 98 % from a confidence of 40 (section 8, figure 10)",
            Exceeds(
                Cell("transfer", high, "on distilled"), Cell("transfer", low, "on distilled"), 50.0
            ),
            fixed="half of all",
        ),
        Claim(
            "not_noise",
            "Noise of their size does not",
            "not published",
            Exceeds(
                Cell("transfer", high, "on distilled"),
                Cell("transfer", high, "on distilled, noise"),
                50.0,
            ),
            fixed="as the claim before",
        ),
    )

"""What Goodfellow et al. 2014 state, as rules."""

from collections.abc import Sequence

from notbugs.experiments.numbers import Cell
from notbugs.experiments.rules import AllOf, AtLeast, AtMost, Below, Claim, Exceeds


def _kinds(column: str, name: str = "maxout") -> Cell:
    return Cell("kinds", name, column)


def _trained(name: str, column: str = "test_error") -> Cell:
    return Cell("training", name, column)


def _crossed(made_of: str, judge: str) -> Cell:
    return Cell("crossed", f"of {made_of}", f"on {judge}")


def _of_ensemble(attacked: str) -> Cell:
    return Cell("ensemble", attacked, "ensemble_error")


EARLY = "before the first run"
WIDE = "wide, FGSM"


def claims_of(eps_logistic: Sequence[float], l1_maxout: float) -> Sequence[Claim]:
    """The paper's statements; of logistic regression at the smallest and largest eps."""
    weakest, strongest = (f"adversarial at {e:g}" for e in (eps_logistic[0], eps_logistic[-1]))
    return (
        Claim(
            "fgsm",
            "One step fools each net at least 50 points more than random signs of its size do",
            "errors of 99.9 (softmax), 89.4 (maxout) and, on CIFAR-10, 87.15 % (conv maxout; "
            "section 4); of random signs not published",
            AllOf(
                tuple(
                    Exceeds(_kinds("fgsm", n), _kinds("signs", n), 50.0)
                    for n in ("softmax", "maxout", "conv maxout")
                )
            ),
            fixed=EARLY,
        ),
        Claim(
            "confident",
            "The maxout net is sure of its mistakes: at least 80 %",
            "97.6 % (section 4)",
            AtLeast(_kinds("fgsm_confidence"), 80.0),
            fixed="between the paper's numbers for softmax, 79.3, and maxout, 97.6",
        ),
        Claim(
            "rbf",
            "The RBF net's confidence falls more on its mistakes than the maxout net's",
            "from 60.6 to 1.2 % (section 7); of maxout not published",
            Exceeds(_kinds("fall", "RBF"), _kinds("fall")),
        ),
        Claim(
            "dimension",
            "On the same images at four sizes a change below the pixels' precision grows faster "
            "with the dimension along the gradient's sign than along random signs, by a power of "
            "at least 1/4",
            "argued (section 3): n against the root of n",
            Exceeds(
                Cell("growth", "images", "gain_power"),
                Cell("growth", "images", "gain_random_power"),
                0.25,
            ),
            fixed="half of the paper's difference of 1/2",
        ),
        Claim(
            "linear",
            "The maxout net is nearly linear along the gradient's sign, the RBF net less: two "
            "lines explain at least 90 % of a logit's variance, on average",
            "figure 4",
            AllOf(
                (
                    AtLeast(Cell("line", "maxout", "linearity"), 0.9),
                    Exceeds(Cell("line", "maxout", "linearity"), Cell("line", "RBF", "linearity")),
                )
            ),
            fixed=EARLY,
        ),
        Claim(
            "held",
            "For most images one wrong class holds over all of t from eps to 10, more than along "
            "random signs",
            "figure 4",
            AllOf(
                (
                    AtLeast(Cell("line", "maxout", "held"), 50.0),
                    Exceeds(Cell("line", "maxout", "held"), Cell("line", "maxout", "held_random")),
                )
            ),
            fixed="a majority",
        ),
        Claim(
            "logistic",
            "FGSM breaks logistic regression on two classes: an error of at least 90 %",
            "99 % after 1.6 % (section 5)",
            AtLeast(Cell("logistic", "plain", "fgsm"), 90.0),
            fixed=EARLY,
        ),
        Claim(
            "vanishes",
            "The adversarial penalty fades where the margin is large: at the smallest eps it pulls "
            "less than 5 %, and more at the largest",
            "argued (section 5)",
            AllOf(
                (
                    AtMost(Cell("logistic", weakest, "pull"), 5.0),
                    Exceeds(Cell("logistic", strongest, "pull"), Cell("logistic", weakest, "pull")),
                )
            ),
            fixed=EARLY,
        ),
        Claim(
            "l1",
            f"L1 decay of {l1_maxout:g}, of the first layer, leaves a maxout net with more than 5 "
            f"% of its training images wrong, and adversarial training does not",
            "more than 5 % of the training images wrong (section 5)",
            AllOf(
                (
                    AtLeast(_trained("L1 decay", "train_error"), 5.0),
                    AtMost(_trained("FGSM", "train_error"), 5.0),
                )
            ),
            fixed="the paper's 5 %",
        ),
        Claim(
            "halves",
            "Adversarial training at least halves the error under FGSM",
            "89.4 to 17.9 % (section 6)",
            AtMost(_trained("FGSM", "fgsm_left"), 50.0, _trained("signs", "fgsm_left")),
            fixed="as the field says it: at least half",
        ),
        Claim(
            "noise_controls",
            "Training on noise does not help: at least 80 % error under FGSM",
            "86.2 (signs) and 90.4 % (uniform; section 6)",
            AllOf(tuple(AtLeast(_trained(n, "fgsm"), 80.0) for n in ("signs", "uniform"))),
            fixed="below the paper's two numbers",
        ),
        Claim(
            "regularises",
            "Adversarial training lowers the test error of the clean images",
            "0.94 to 0.84 %, and to 0.782 % with 1600 units (section 6)",
            Exceeds(_trained("plain"), _trained("FGSM")),
        ),
        Claim(
            "harder",
            "Adversaries that the model can foresee, and that go less far, help less: a higher "
            "test error",
            "stated (section 6)",
            AllOf(
                tuple(
                    Exceeds(_trained(n), _trained("FGSM")) for n in ("rotation", "scaled gradient")
                )
            ),
        ),
        Claim(
            "inputs",
            "Perturbing the last hidden layer is worse than perturbing the first",
            "stated (section 6)",
            Exceeds(_trained("last hidden"), _trained("hidden")),
        ),
        Claim(
            "crossed",
            "The plain net errs most on its own examples, less on those of the trained net, and "
            "the trained net less than that on either",
            "89.4, 40.9, 19.6, 17.9 % (section 6)",
            AllOf(
                (
                    Exceeds(_crossed("plain", "plain"), _crossed(WIDE, "plain")),
                    Exceeds(_crossed(WIDE, "plain"), _crossed("plain", WIDE)),
                    Exceeds(_crossed(WIDE, "plain"), _crossed(WIDE, WIDE)),
                )
            ),
        ),
        Claim(
            "local",
            "Filters of the adversarially trained net are more local than those of the plain net "
            "and of one trained on noise",
            "figure 3",
            AllOf(
                tuple(
                    Below(Cell("filters", "FGSM", "entropy"), Cell("filters", other, "entropy"))
                    for other in ("plain", "signs")
                )
            ),
        ),
        Claim(
            "agree",
            "Where both err, a linear net names the maxout net's wrong class more than chance",
            "84.6 % (section 8); chance not published",
            Exceeds(
                Cell("agreement", "maxout, softmax", "agree"),
                Cell("agreement", "maxout, softmax", "chance"),
            ),
        ),
        Claim(
            "agree_linear",
            "The linear net agrees with the maxout net more than the RBF net does",
            "84.6 against 54.3 % (section 8)",
            Exceeds(
                Cell("agreement", "maxout, softmax", "agree"),
                Cell("agreement", "maxout, RBF", "agree"),
            ),
        ),
        Claim(
            "subspace",
            "Adversarial directions fill a subspace, of more dimensions than random ones find",
            "stated (section 8); dimensions not published",
            Exceeds(Cell("subspace", "maxout", "dimension"), Cell("subspace", "maxout", "random")),
        ),
        Claim(
            "ensemble",
            "An ensemble of maxout nets is no defence: an error of at least 80 % on its own "
            "examples",
            "91.1 % (section 9)",
            AtLeast(_of_ensemble("all of it"), 80.0),
            fixed="below the paper's number, as for noise",
        ),
        Claim(
            "one_member",
            "Examples made for all members break it more than those made for one",
            "91.1 against 87.9 % (section 9)",
            Exceeds(_of_ensemble("all of it"), _of_ensemble("one member")),
        ),
        Claim(
            "rubbish",
            "A maxout net sees a class in noise of none more often than an RBF net: by 50 points",
            "98.35 against 0 % (appendix A; spreads not published)",
            Exceeds(Cell("rubbish", "maxout", "rubbish"), Cell("rubbish", "RBF", "rubbish"), 50.0),
            fixed="half of the paper's difference",
        ),
    )

"""The page of Carlini and Wagner 2016, as data."""

from notbugs.experiments import in_files, targets
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

COLUMNS = {
    **targets.COLUMNS,
    **in_files.COLUMNS,
    **{
        f"on {name}{noise}": Column(f"{title}{noise}", "its error", unit="%")
        for name, title in (("distilled", "Distilled net"), ("standard", "Other net"))
        for noise in ("", ", noise")
    },
}
_CASES = ("best", "average", "worst")
_SUCCESS = tuple(f"{case}_success" for case in _CASES)
_NORMS = {"C&W L0": "L0", "C&W L2": "L2", "C&W Linf": "Linf"}

SECTIONS = (
    Section(
        "Every class to every class",
        "One image of each class, moved to each class by the three attacks; on the diagonal it is "
        "as it was.",
        figures=tuple(
            PictureRows(
                tuple(f"{name}.{i}" for i in range(10)),
                tuple(f"from {{{i}}}" for i in range(10)),
                f"The nearest images in {norm}; the columns are the classes that they are taken "
                "for. Black: not reached.",
            )
            for name, norm in _NORMS.items()
        ),
    ),
    Section(
        "How far is it?",
        "Each attack moves {count} test images that the net has right to each of the other "
        "classes. Distances are of its own norm: pixels (L0), Euclidean (L2), the largest change "
        "(Linf). Gradients are what it cost. The last rows are attacks that came later.",
        figures=(
            Bars("attacks", _SUCCESS, "Classes reached by each attack.", "%"),
            Bars(
                "attacks",
                _CASES,
                "Mean distances in L2.",
                "L2",
                rows=("C&W L2", "DeepFool", "FMN L2", "DDN", "ALMA"),
            ),
            Bars(
                "attacks",
                _CASES,
                "Mean distances in Linf.",
                "Linf",
                rows=("C&W Linf", "FGS", "iterated", "FMN Linf"),
            ),
            Bars(
                "attacks",
                _CASES,
                "Mean distances in L0.",
                "pixels",
                rows=("C&W L0", "JSMA-Z", "JSMA-F", "FMN L0"),
            ),
        ),
        tables=(Table("attacks", "The attacks beside earlier and later ones (table 4)."),),
    ),
    Section(
        "Which objective, and which way to keep the box?",
        "The L2 attack with each of the paper's seven objectives, by change of variables (tanh), "
        "with the objective of the clipped image, or with each step projected to the box; {few} "
        "images.",
        figures=(Bars("objectives", ("average_success",), "Classes reached.", "%"),),
        tables=(Table("objectives", "Seven objectives by three ways (table 3)."),),
    ),
    Section(
        "Distillation",
        "A net that learns from the probabilities of another at a temperature T has logits T times "
        "as large as usual; ours starts with such weights, as it learns too slowly otherwise. In "
        "float32 their softmax is 0 and 1, so the gradient of the loss is zero, and attacks that "
        "follow it stand still. That is no protection.",
        figures=(
            Lines(
                "temperatures",
                ("earlier", "reached", "zero"),
                "An attack of before and the L2 attack, by the temperature of distillation.",
                "%",
                "temperature",
                logarithmic=True,
            ),
            Lines(
                "transfer",
                ("on distilled", "on distilled, noise", "on standard"),
                "Examples of a standard net, on others.",
                "error, %",
                "confidence, logits",
            ),
        ),
        tables=(
            Table(
                "temperatures", "By temperature: attacks, and the sizes of logits and gradients."
            ),
            Table("distilled", "The three attacks on the distilled net (table 6)."),
            Table("transfer", "Examples of a confidence, on other nets (section 8)."),
        ),
    ),
    Section(
        "Large images, as files",
        "Views of photographs, {count} a seed, and a net that was trained on ImageNet. The Linf "
        "attack looks for whole levels of 8 bits; every image is saved as PNG and read again "
        "before it is judged. Goals are any wrong class, a random one, and the one that the clean "
        "image is least likely to be. The net is one, and the seeds draw views of the same seven "
        "photographs, some of them again: intervals say nothing of other pictures or nets. Step "
        "sizes were chosen on two other views.",
        figures=(
            PictureRows(
                ("files.clean.images", "files.difference", "files.adversarial"),
                ("image", "change, magnified", "read from the file"),
                "The Linf attack towards the class that was least likely.",
            ),
            Bars("large", ("found", "in_files", "lowest"), "Images that reach their goal.", "%"),
            Bars(
                "large",
                ("levels",),
                "The largest change in files, without FGS.",
                "levels of 255",
                rows=tuple(
                    f"{name}, {goal}"
                    for name in ("C&W Linf", "iterated", "FMN Linf")
                    for goal in in_files.GOALS
                ),
            ),
        ),
        tables=(Table("large", "Goals reached, and how far (table 5)."),),
    ),
    Section(
        "What a sceptic asks",
        "",
        tables=(
            Questions(
                "Objections, and the numbers that answer them.",
                (
                    Question(
                        "Did better attacks come later?",
                        "FMN at its own budget",
                        (
                            Cell("attacks", "C&W L2", "average"),
                            Cell("attacks", "FMN L2", "average"),
                        ),
                    ),
                    Question(
                        "And in Linf, on photographs, in levels?",
                        "FMN at its own budget",
                        (
                            Cell("large", "C&W Linf, random", "levels"),
                            Cell("large", "FMN Linf, random", "levels"),
                        ),
                    ),
                    Question(
                        "Do examples of high confidence transfer because they are larger?",
                        "noise of the same size",
                        (
                            Cell("transfer", "confidence at 40", "on distilled"),
                            Cell("transfer", "confidence at 40", "on distilled, noise"),
                        ),
                    ),
                ),
            ),
        ),
    ),
)

"""Kurakin et al. 2016, "Adversarial examples in the physical world".

For each seed: the three methods at many radii; how much of them brightness, contrast, blur, noise
and JPEG destroy; and whether they fool other nets.

**Source**: arXiv 1607.02533. The published numbers are for Inception v3 on ImageNet.
**Differs from the paper**: EfficientNet-Lite0 on views of seven photographs, or small nets on small
images. Not yet here: photographs of prints.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from notbugs.core.errors import check_count
from notbugs.experiments import channel
from notbugs.experiments.channel import (
    METHODS,
    TRANSFORMATIONS,
    Accuracies,
    Crafted,
    CraftedPictures,
    Destroyed,
)
from notbugs.experiments.experiment import Experiment, PaperConfig, Row
from notbugs.experiments.model_training import Net
from notbugs.experiments.numbers import Cell
from notbugs.experiments.page import Bars, Lines, PictureRows, Section, Table
from notbugs.experiments.rules import AllOf, Below, Claim, Exceeds, Ordered
from notbugs.experiments.shared import Data, Pretrained, Trained
from notbugs.store import AnyStage
from notbugs.training import Recipe

PHOTOGRAPHS = "photographs"
AMOUNTS = {
    "brightness": (-30.0, -15.0, 15.0, 30.0),
    "contrast": (0.7, 0.85, 1.15, 1.3),
    "blur": (0.5, 1.0, 1.5, 2.0),
    "noise": (5.0, 10.0, 15.0, 20.0),
    "JPEG": (10.0, 30.0, 60.0, 90.0),
}
"""The amounts of figure 6: levels of 255, a factor, pixels, levels, quality."""
WEAK, STRONG = ("brightness", "contrast"), ("blur", "noise", "JPEG")


@dataclass(frozen=True)
class Config(PaperConfig):
    """The settings of a run.

    - `count`: test images that are attacked
    - `levels`: radii, in levels of 255; `fast_levels`: further ones of the fast method
    - `transformed`: the radius whose images are transformed
    - `net`, `recipe`: of small images; `others`: nets that the examples are shown to as well
    """

    count: int = 200
    levels: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    fast_levels: tuple[int, ...] = (128,)
    transformed: int = 16
    net: Net = Net("cnn", (("width", 16), ("hidden", 64)))  # noqa: RUF009 (frozen)
    recipe: Recipe = Recipe(epochs=30, lr=0.1, warmup=0.1)  # noqa: RUF009 (frozen)
    others: tuple[Net, ...] = (Net("mlp"),)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.count, "count")
        for name in ("levels", "fast_levels"):
            for level in getattr(self, name):
                check_count(level, name)
        check_count(self.transformed, "transformed")


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset."""
    config = Config(data, preset)
    if data in ("mnist", "cifar10"):
        recipe = replace(config.recipe, epochs=6, lr=0.05)
        config = replace(config, train_size=20_000, recipe=recipe)
    if data in ("digits", "mnist"):  # of two tones: changes of 16 levels fool few
        config = replace(config, transformed=32)
    if data == PHOTOGRAPHS:
        lite = [Net(f"efficientnet-lite{i}") for i in range(3)]
        config = replace(config, count=42, test_size=42, levels=(2, 4, 8, 16))
        config = replace(config, fast_levels=(32, 64, 128), net=lite[0], others=tuple(lite[1:]))
    if preset == "smoke":
        config = replace(config, seeds=1, train_size=600, test_size=100, count=20)
        config = replace(config, levels=(16, 32), fast_levels=(64,))
        config = replace(config, recipe=replace(config.recipe, epochs=4), transformed=32)
    return config


def net(config: Config, seed: int, of: Net, role: str = "standard") -> Trained:
    """A net that was trained elsewhere on photographs, or is trained here on small images."""
    data = Data.of(config, seed)
    kind = Pretrained if config.data == PHOTOGRAPHS else Trained
    return kind(data, of, config.recipe, role)


def crafted(config: Config, seed: int, method: str, levels: int) -> Crafted:
    """The adversarial images of a method at a radius."""
    return Crafted(net(config, seed, config.net), method, levels, config.count)


def rows(config: Config, seed: int) -> Iterable[Row]:
    """The rows of all tables for one seed."""
    for method in METHODS:
        further = config.fast_levels if method == "fast" else ()
        for levels in sorted({*config.levels, *further, config.transformed}):
            made = crafted(config, seed, method, levels)
            yield Row("accuracy", f"{method} at {levels}", seed, Accuracies(made))
        made = crafted(config, seed, method, config.transformed)
        for kind in TRANSFORMATIONS:
            for amount in AMOUNTS[kind]:
                name = f"{method}, {kind} at {amount:g}"
                yield Row("transformations", name, seed, Destroyed(made, kind, (amount,)))
            every = Destroyed(made, kind, AMOUNTS[kind])
            yield Row("kinds", f"{method}, {kind}", seed, every)
        for other in config.others:
            judge = net(config, seed, other)
            name = f"{method}, {other.architecture}"
            yield Row("others", name, seed, Accuracies(made, judge))


def pictures(config: Config) -> Sequence[AnyStage]:
    """Examples of each method at the radius that is transformed."""
    made = [(name, crafted(config, 0, name, config.transformed)) for name in METHODS]
    return [CraftedPictures(tuple(made))]


def claims(config: Config) -> Sequence[Claim]:
    """The paper's statements."""
    at = config.transformed

    def top(method: str, column: str = "top_1") -> Cell:
        return Cell("accuracy", f"{method} at {at}", column)

    def destroyed(method: str, kind: str) -> Cell:
        return Cell("kinds", f"{method}, {kind}", "destroyed")

    return (
        Claim(
            "fooled",
            f"At {at} levels each method lowers the accuracy more than random signs do, by 20 "
            f"points",
            "clean 85.3 %; fast 36.3, basic iterative 28.4, least likely 1.0 % at 16 (table 2); of "
            "random signs not published",
            AllOf(tuple(Exceeds(top(m, "noise"), top(m), 20.0) for m in METHODS)),
            fixed="before the first run",
        ),
        Claim(
            "iterative",
            "The iterative methods leave fewer images right than the fast one",
            "36.3 against 28.4 and 1.0 % (table 2)",
            AllOf(tuple(Below(top(m), top("fast")) for m in ("basic iterative", "least likely"))),
        ),
        *(
            Claim(
                f"order_{kind.lower()}",
                f"{kind} destroys images of the least-likely method most, of the fast one least",
                "figure 6",
                Ordered(
                    tuple(destroyed(m, kind) for m in ("least likely", "basic iterative", "fast"))
                ),
            )
            for kind in STRONG
        ),
        Claim(
            "weak",
            "Brightness and contrast destroy fewer of the fast method's images than blur, noise "
            "and JPEG do",
            "below 5 % for brightness and contrast (figure 6)",
            AllOf(
                tuple(
                    Below(destroyed("fast", weak), destroyed("fast", strong))
                    for weak in WEAK
                    for strong in STRONG
                )
            ),
        ),
        Claim(
            "survives",
            "After any of the transformations more of the fast method's images are still wrong "
            "than clean ones become wrong",
            "stated (section 4)",
            AllOf(
                tuple(
                    Exceeds(
                        Cell("kinds", f"fast, {kind}", "kept"),
                        Cell("kinds", f"fast, {kind}", "changed"),
                    )
                    for kind in TRANSFORMATIONS
                )
            ),
        ),
    )


def _accuracy(k: int) -> Lines:
    axis = "levels of 255"
    return Lines("accuracy", (f"top_{k}",), f"Top {k} accuracy.", "%", axis, logarithmic=True)


_SHOWN = ("clean.images", "difference", "adversarial")

SECTIONS = (
    Section(
        "What the images look like",
        "Each method changes each pixel by at most {transformed} of 255 levels. The fast method "
        "takes one step along the sign of the gradient; the iterative ones many of one level, away "
        "from the class or towards the class that was least likely.",
        figures=tuple(
            PictureRows(
                tuple(f"{name}.{what}" for what in _SHOWN),
                ("image", "change, magnified", "adversarial"),
                f"The method “{name}”.",
            )
            for name in METHODS
        ),
    ),
    Section(
        "Accuracy against the size of the change",
        "Random signs of the same size are the control.",
        figures=(
            Lines(
                "accuracy", ("top_1",), "Top 1 accuracy.", "%", "levels of 255", logarithmic=True
            ),
            Lines(
                "accuracy", ("top_5",), "Top 5 accuracy.", "%", "levels of 255", logarithmic=True
            ),
        ),
        tables=(Table("accuracy", "Accuracy by method and size (figure 2)."),),
    ),
    Section(
        "Transformations",
        "The destruction rate is the share of adversarial images that are right again after a "
        "change of the image that nobody optimised for.",
        figures=(
            Bars("kinds", ("destroyed",), "Destruction rates, means over the amounts.", "%"),
            *(
                Lines(
                    "transformations",
                    ("destroyed",),
                    f"Destruction rate, {kind} (figure 6).",
                    "%",
                    "amount",
                    lines=tuple(f"{method}, {kind}" for method in METHODS),
                )
                for kind in TRANSFORMATIONS
            ),
        ),
        tables=(
            Table("kinds", "Destruction rates, means over the amounts."),
            Table("transformations", "Destruction rates by amount (figure 6)."),
        ),
    ),
    Section(
        "Other nets",
        "The same images, shown to nets that they were not made for.",
        tables=(Table("others", "Accuracies of other nets."),),
    ),
)

EXPERIMENT = Experiment(
    name="kurakin2016",
    paper="Kurakin, Goodfellow, Bengio 2016, “Adversarial examples in the physical world” "
    "(arXiv 1607.02533)",
    question="Do adversarial images survive changes that nobody optimised for?",
    datasets=("digits", "mnist", "cifar10", PHOTOGRAPHS),
    presets=("smoke", "laptop"),
    config_for=config_for,
    rows=rows,
    pictures=pictures,
    claims=claims,
    columns=channel.COLUMNS,
    sections=SECTIONS,
)

"""Kurakin et al. 2016, "Adversarial examples in the physical world".

For each seed: the three methods at many radii; how many of their images photographs of prints
destroy, by distance, light and camera; how many brightness, contrast, blur, noise and JPEG do; and
whether they fool other nets. An attack on the expectation over what a camera does stands beside
them.

**Source**: arXiv 1607.02533. The published numbers are for Inception v3 on ImageNet.
**Differs from the paper**: EfficientNet-Lite0 on views of seven photographs, or small nets on small
images. Prints and photographs are simulated; `notbugs photo` makes and reads real ones.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.data import Splits
from notbugs.experiments import channel, prints
from notbugs.experiments.channel import (
    LEVELS,
    METHODS,
    TRANSFORMATIONS,
    Accuracies,
    Crafted,
    CraftedPictures,
    Destroyed,
)
from notbugs.experiments.experiment import Experiment, PaperConfig, Row, Rows
from notbugs.experiments.kurakin2016_page import CONTROL, ROBUST, SECTIONS, THREE
from notbugs.experiments.model_training import Net
from notbugs.experiments.numbers import Cell
from notbugs.experiments.prints import EVERYDAY, INCH, Photographed, PhotoPictures, Printed
from notbugs.experiments.rules import AllOf, AtMost, Below, Claim, Exceeds, Ordered
from notbugs.experiments.shared import PHOTOGRAPHS, Data, Trained, usual
from notbugs.photo import Camera
from notbugs.photo.packages import opencv
from notbugs.store import AnyStage
from notbugs.training import Recipe

MOST_ANGLE = 80
"""Degrees from which a camera sees a page from the side."""
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
    - `camera`: by which prints are photographed, from angles of up to `angle` degrees; `cell_mm`:
      their longer side, `dpi`: dots of the print per inch
    - `scales`, `slopes`, `responses`: of the camera, in place of its own: pixels of the photograph
      per dot, uneven light, and the exponent of its response
    - `net`, `recipe`: of small images; `others`: nets that the examples are shown to as well
    """

    count: int = 200
    levels: tuple[int, ...] = (2, 4, 8, 16, 32, 64)
    fast_levels: tuple[int, ...] = (128,)
    transformed: int = 16
    camera: Camera = EVERYDAY
    angle: float = 15.0
    cell_mm: float = 12.0
    dpi: float = 150.0
    scales: tuple[float, ...] = (0.4, 0.7, 1.0)
    slopes: tuple[float, ...] = (0.0, 0.3, 0.6)
    responses: tuple[float, ...] = (0.35, 0.45, 0.6)
    net: Net = Net("cnn", (("width", 16), ("hidden", 64)))  # noqa: RUF009 (frozen)
    recipe: Recipe = Recipe(epochs=30, lr=0.1, warmup=0.1)  # noqa: RUF009 (frozen)
    others: tuple[Net, ...] = (Net("mlp"),)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.count, "count")
        for name in ("levels", "fast_levels"):
            for level in getattr(self, name):
                _check_levels(level, name)
        _check_levels(self.transformed, "transformed")
        for name in ("angle", "cell_mm", "dpi"):
            check_positive(getattr(self, name), name)
        if self.angle >= MOST_ANGLE:
            raise bad_value("angle", f"be less than {MOST_ANGLE} degrees", self.angle)


def _check_levels(value: int, name: str) -> None:
    check_count(value, name)
    if value > LEVELS:
        raise bad_value(name, f"be at most {LEVELS}, levels of 8 bits", value)


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
        config = replace(config, count=21, test_size=21, levels=(4, 8, 16))
        config = replace(config, fast_levels=(32, 64, 128), net=lite[0], others=tuple(lite[1:]))
        config = replace(config, cell_mm=40.0, dpi=300.0, scales=(0.65, 0.8, 1.0))
    if preset == "smoke":
        config = replace(config, seeds=1, count=2 if data == PHOTOGRAPHS else 20)
        if data != PHOTOGRAPHS:
            config = replace(config, train_size=600, test_size=100)
            config = replace(config, scales=(0.7,), dpi=100.0)
        config = replace(config, levels=(16, 32), fast_levels=(64,))
        config = replace(config, recipe=replace(config.recipe, epochs=4), transformed=32)
        config = replace(config, scales=config.scales[-1:], slopes=(0.3,), responses=(0.6,))
    return config


def net(config: Config, seed: int, of: Net, role: str = "standard") -> Trained:
    """A net that was trained elsewhere on photographs, or is trained here on small images."""
    return usual(Data.of(config, seed), of, config.recipe, role)


def crafted(config: Config, seed: int, method: str, levels: int) -> Crafted:
    """The adversarial images of a method at a radius."""
    return Crafted(net(config, seed, config.net), method, levels, config.count)


def printed(config: Config, made: Crafted, **camera: float) -> Printed:
    """Photographs of the images of a method, by the run's camera with other settings."""
    seen = replace(config.camera, **camera)
    return Printed(made, seen, config.angle, config.cell_mm, config.dpi)


def rows(config: Config, seed: int) -> Iterable[Row | Rows]:
    """The rows of all tables for one seed."""
    for method in THREE:
        further = config.fast_levels if method == "fast" else ()
        for levels in sorted({*config.levels, *further, config.transformed}):
            made, name = crafted(config, seed, method, levels), f"{method} at {levels}"
            yield Row("accuracy", name, seed, Accuracies(made))
            if levels not in further or levels == config.transformed:
                yield Row("photo", name, seed, Photographed(printed(config, made)))
    for method in METHODS:
        made = crafted(config, seed, method, config.transformed)
        for kind in TRANSFORMATIONS:
            yield Rows(seed, Destroyed(made, kind, AMOUNTS[kind]))
        seen = printed(config, made)
        yield Row("robust", method, seed, Photographed(seen))
        for other in config.others:
            judge, name = net(config, seed, other), f"{method}, {other.architecture}"
            yield Row("others", name, seed, Accuracies(made, judge))
            yield Row("others", name, seed, Photographed(seen, judge))
    for method in ("fast", "least likely"):
        made = crafted(config, seed, method, config.transformed)
        sweeps = {"scale": config.scales, "slope": config.slopes, "response": config.responses}
        for name, values in sweeps.items():
            for value in values:
                stage = Photographed(printed(config, made, **{name: value}))
                yield Row("cameras", f"{method}, {name} at {value:g}", seed, stage)


def pictures(config: Config) -> Sequence[AnyStage]:
    """Examples of each method at the radius that is transformed, and photographs of some."""
    made = [(name, crafted(config, 0, name, config.transformed)) for name in METHODS]
    return [CraftedPictures(tuple(made)), PhotoPictures(printed(config, made[0][1]))]


def check(config: Config, parts: Splits) -> None:
    """Refuses prints whose images the camera takes at fewer pixels than they have."""
    opencv()
    dots, side = config.cell_mm / INCH * config.dpi, max(parts.test.shape[1:])
    for scale in (config.camera.scale, *config.scales):
        if scale * dots < side:
            raise bad_value(
                "scales",
                f"leave the {side} pixels of an image, of {dots:.0f} dots at cell_mm="
                f"{config.cell_mm:g} and dpi={config.dpi:g}",
                scale,
                "Raise scales, cell_mm or dpi.",
            )


def _photo(config: Config, method: str, column: str = "destroyed") -> Cell:
    return Cell("photo", f"{method} at {config.transformed}", column)


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
            "clean 85.3, 81.4, 79.4 %; fast 36.3, basic iterative 28.4, least likely 1.0 % at 16 "
            "(table 1); of random signs not published",
            AllOf(tuple(Below(top(m), top(m, "noise"), 20.0) for m in THREE)),
            fixed="before the first run",
        ),
        Claim(
            "iterative",
            "The iterative methods leave fewer images right than the fast one",
            "36.3 against 28.4 and 1.0 % (table 1)",
            AllOf(tuple(Below(top(m), top("fast")) for m in ("basic iterative", "least likely"))),
        ),
        *(
            Claim(
                f"order_{kind.lower()}",
                f"{kind[0].upper()}{kind[1:]} destroys images of the least-likely method most, of "
                f"the fast one least",
                "figure 6",
                Ordered(
                    tuple(destroyed(m, kind) for m in ("least likely", "basic iterative", "fast"))
                ),
            )
            for kind in STRONG
        ),
        Claim(
            "order_photo",
            "Photographs destroy images of the least-likely method most, of the fast one least",
            "72.2, 40.4, 12.5 % at 16 levels, average case (table 3)",
            Ordered(tuple(_photo(config, m) for m in reversed(THREE))),
        ),
        Claim(
            "photographed",
            "Photographs of the fast method's images are right less often than photographs of "
            "clean ones, by 20 points",
            "36.4 against 79.8 % at 16 levels (table 1)",
            Below(_photo(config, "fast", "photo"), _photo(config, "fast", "photo_clean"), 20.0),
            fixed="about half of the paper's difference",
        ),
        Claim(
            "survives_better",
            "An attack on the expectation survives photographs better than the same without it",
            "not published",
            Below(Cell("robust", ROBUST, "destroyed"), Cell("robust", CONTROL, "destroyed")),
        ),
        Claim(
            "rectified",
            "Cells are cut from photographs within half a pixel",
            "not published",
            AllOf(tuple(AtMost(_photo(config, m, "rectified"), 0.5) for m in THREE)),
            fixed="before the first run",
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
            "After each transformation, on average over its amounts, more of the fast method's "
            "images are still wrong than clean ones become wrong",
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
    columns={**channel.COLUMNS, **prints.COLUMNS},
    sections=SECTIONS,
    takes={"photographs": 20},
    check=check,
)

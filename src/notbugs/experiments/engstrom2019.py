"""Engstrom et al. 2019, "Adversarial Robustness as a Prior for Learned Representations".

For each seed: inversion, interpolation, visualisation (with and without priors) and manipulation
of a standard and a robust model, judged by a third model; and the frequencies of their gradients
and pictures. Both models are those of `ilyas2019`: a shared store trains them once.

**Source**: arXiv 1906.00945; the priors, Olah et al. 2017; checkerboards, Odena et al. 2016. The
paper shows pictures and gives no table: the claims are its statements, put as inequalities.
**Differs from the paper**: one solver for inversion, interpolation and manipulation (the paper's
have step lengths of their own; manipulation here asks for a rise, not for R_i = 1); visualisation
takes steps of side / 224, the paper's 1 for its size of image.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from notbugs.core.errors import bad_value, check_count
from notbugs.data import Splits
from notbugs.data.sources.load import family
from notbugs.engine import Solver
from notbugs.experiments import artefact_stages, representation_stages
from notbugs.experiments import config as ilyas
from notbugs.experiments.artefact_stages import Artefacts, Downsampling
from notbugs.experiments.experiment import Experiment, PaperConfig, Rows
from notbugs.experiments.model_training import Net
from notbugs.experiments.numbers import Cell
from notbugs.experiments.page import Bars, Curves, PictureRows, Section, Table
from notbugs.experiments.representation_stages import (
    KINDS,
    PATHS_SHOWN,
    PRIOR,
    PUSHES_SHOWN,
    REAL_SHOWN,
    STARTS,
    VARIANTS,
    Interpolation,
    Inversion,
    Manipulation,
    Models,
    Prior,
    Visualisation,
)
from notbugs.experiments.rules import (
    AllOf,
    AtLeast,
    AtLeastBest,
    AtMost,
    Below,
    BeyondErrors,
    Claim,
    Exceeds,
)
from notbugs.experiments.shared import Data, Trained
from notbugs.models.cnn import DOWN
from notbugs.models.upsampling import UPSAMPLES
from notbugs.models.weights import MODEL
from notbugs.representations import inversion, lbfgs_inversion
from notbugs.store import AnyStage
from notbugs.training import Recipe

LEAST_TARGETS, LEAST_PER_CLASS = 8, 10
LOW = 0.1
"""Relative representation error that counts as low."""


@dataclass(frozen=True)
class Config(PaperConfig):
    """The settings of a run.

    - `net`, `standard`, `robust`: the architecture of the models, and their trainings
    - `targets`: test images that are inverted
    - `inversion_steps`, `inversion_rule`: of inversion, interpolation and manipulation, by "lbfgs",
      or "steepest" for the paper's normalised steps of `inversion_step_size`
    - `pairs`, `points`: interpolations, and frames of each
    - `visual_steps`: of every visualisation; `copies`: starts for each class; `units`: coordinates
      of the embedding that are visualised
    - `pushed`: images to which each class's coordinate is added
    - `prior_epochs`, `prior_width`: training of the denoiser and the generators
    """

    net: Net = ilyas.Config.net
    standard: Recipe = ilyas.Config.standard
    robust: Recipe = ilyas.Config.robust
    targets: int = 64
    inversion_steps: int = 200
    inversion_rule: str = "lbfgs"
    inversion_step_size: float = 1.0
    pairs: int = 16
    points: int = 10
    visual_steps: int = 200
    copies: int = 4
    units: int = 16
    pushed: int = 8
    prior_epochs: int = 30
    prior_width: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check_count(self.targets, "targets", LEAST_TARGETS, "The spread over images needs some.")
        check_count(self.points, "points", 3)
        for name in ("inversion_steps", "pairs", "visual_steps", "copies", "units", "pushed"):
            check_count(getattr(self, name), name)
        check_count(self.prior_epochs, "prior_epochs")
        if self.inversion_rule not in ("lbfgs", "steepest"):
            raise bad_value("inversion_rule", "be lbfgs or steepest", f"'{self.inversion_rule}'")

    @property
    def solver(self) -> Solver:
        """What matches representations."""
        if self.inversion_rule == "lbfgs":
            return lbfgs_inversion(self.inversion_steps)
        return inversion(self.inversion_steps, self.inversion_step_size)


_SMOKE = {
    "targets": LEAST_TARGETS, "inversion_steps": 5, "pairs": 2, "points": 3, "visual_steps": 5,
    "copies": 1, "units": 3, "pushed": 2, "prior_epochs": 1, "prior_width": 4,
}  # fmt: skip
_LARGE = {"targets": 512, "pairs": 64, "copies": 8, "units": 64, "prior_width": 32}


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset: "smoke", "laptop", "gpu" or "paper"."""
    theirs = ilyas.config_for(data, preset)
    shared = ("seeds", "train_size", "test_size", "net", "standard", "robust")
    config = Config(data, preset, **{name: getattr(theirs, name) for name in shared})
    if preset == "smoke":
        return replace(config, **_SMOKE)
    if preset == "gpu":
        return replace(config, **_LARGE)
    if preset == "paper":
        # Engstrom et al. 2019, authors' notebooks: 10,000 steps of 1; for interpolation on CIFAR
        # 0.1. Manipulation takes 800 of 0.1 there; here all three share a solver.
        step = 0.1 if data.startswith("cifar") else 1.0
        config = replace(config, inversion_rule="steepest", inversion_step_size=step)
        return replace(config, inversion_steps=10_000, **_LARGE)
    # Larger images cost more a step, and more of them make up for fewer epochs.
    large = family(data) not in ("digits", "planted")
    return replace(config, prior_epochs=12) if large else config


def check(config: Config, parts: Splits) -> None:
    """Refuses a split with too few images for the measurements."""
    needed = max(config.targets, 2 * config.pairs)
    if len(parts.test) < needed:
        raise bad_value(
            "test images",
            f"be at least {needed}, for {config.targets} inversions and {config.pairs} pairs",
            len(parts.test),
            "Take a larger test part, or smaller `targets` and `pairs`.",
        )
    counts = torch.bincount(parts.train.labels, minlength=parts.train.classes)
    if int(counts.min()) < LEAST_PER_CLASS:
        rare = parts.train.class_names[int(counts.argmin())]
        raise bad_value(
            "training images",
            f"hold at least {LEAST_PER_CLASS} of every class, for its feature and neighbours",
            f"{int(counts.min())} of '{rare}'",
        )


def models(config: Config, seed: int) -> Models:
    """Both models of `ilyas2019`, and a judge with other initial weights."""
    data, net = Data.of(config, seed), config.net
    return Models(
        standard=Trained(data, net, config.standard, "standard"),
        robust=Trained(data, net, config.robust, "robust"),
        judge=Trained(data, net, config.standard, "judge"),
    )


def prior(config: Config, seed: int, role: str, upsample: str = "resize") -> Prior:
    """A denoiser or a generator."""
    sizes = config.prior_epochs, config.prior_width
    return Prior(Data.of(config, seed), role, *sizes, upsample)


def halved(config: Config, seed: int) -> Iterable[tuple[str, Trained]]:
    """Standard models by how they halve their maps, where the architecture has options for it."""
    standard = models(config, seed).standard
    for down in DOWN if config.net.architecture == "cnn" else ():
        # The default passes no option, so that its key is that of the standard model.
        options = () if down == "stride" else (("down", down),)
        net = replace(config.net, options=(*config.net.options, *options))
        yield down, replace(standard, net=net)


def rows(config: Config, seed: int) -> Iterable[Rows]:
    """The measurements of one seed."""
    seen, solver, steps = models(config, seed), config.solver, config.visual_steps
    denoiser, generator = prior(config, seed, "denoiser"), prior(config, seed, "generator")
    ways = tuple((how, prior(config, seed, "generator", how)) for how in UPSAMPLES)
    for stage in (
        Inversion(seen, config.targets, solver),
        Interpolation(seen, denoiser, config.pairs, config.points, solver),
        Visualisation(seen, denoiser, generator, config.copies, config.units, steps),
        Manipulation(seen, config.pushed, solver),
        Artefacts(seen, steps),
        Downsampling(tuple(halved(config, seed)), ways, steps),
    ):
        yield Rows(seed, stage)


def pictures(config: Config) -> Sequence[AnyStage]:
    """All measurements of seed 0."""
    return [row.stage for row in rows(config, 0)]


def files(config: Config) -> Mapping[str, tuple[AnyStage, str]]:
    """The models and priors of each seed."""
    found: dict[str, tuple[AnyStage, str]] = {}
    for seed in range(config.seeds):
        for name, model in vars(models(config, seed)).items():
            found[f"models/{name}-seed{seed}.safetensors"] = (model, MODEL)
        for role in ("denoiser", "generator"):
            made = prior(config, seed, role), PRIOR
            found[f"priors/{role}-seed{seed}.safetensors"] = made
    return found


def _both(table: str, column: str, of: str = "") -> tuple[Cell, Cell]:
    """The cells of the robust and of the standard model."""
    return Cell(table, f"robust{of}", column), Cell(table, f"standard{of}", column)


def _low(kind: str, start: str) -> AtMost:
    error = Cell("inversion", f"{kind}, from {start}", "relative_error")
    return AtMost(error, LOW, replace(error, column="start_error"))


def _nearer(start: str, column: str, above: bool) -> BeyondErrors:
    error = Cell("gain", f"robust - standard, from {start}", f"{column}_error")
    return BeyondErrors(*_both("inversion", column, f", from {start}"), error, above)


_RECOGNISED, _ = _both("visualisation", "neighbours", ", no prior")
_UNEVEN = Cell("downsampling", "generator, uneven", "picture_board")
_FIRST = "with the first version of the experiment, before its first published run"

CLAIMS: tuple[Claim, ...] = (
    *(
        Claim(
            f"invert_{kind}{suffix}",
            f"{kind.capitalize()} model: inversion from {start} reaches a low representation error",
            published,
            _low(kind, start),
            fixed=f"a tenth of the target's length; fixed {_FIRST}",
        )
        for start, suffix, published in (
            ("noise", "", "shown for both models (section 3)"),
            ("another image", "_other", "shown (section 3)"),
        )
        for kind in KINDS
    ),
    *(
        Claim(
            f"nearer_{suffix}{column}",
            f"From {start}, the robust model's images end closer to the target in {name}",
            published,
            _nearer(start, column, above),
            fixed=f"two standard errors, about 95 %; fixed {_FIRST}",
        )
        for start, suffix, published in (
            ("noise", "", "only the robust model's look like the target (section 3)"),
            ("another image", "other_", "shown (section 3)"),
        )
        for column, name, above in (
            ("ssim", "SSIM", True),
            ("lpips", "LPIPS, as a third model sees it", False),
        )
    ),
    Claim(
        "interpolation_natural",
        "Frames between two images look more natural through the robust representation",
        "shown (section 4.2)",
        Below(*_both("interpolation", "unnatural")),
    ),
    Claim(
        "visual_smooth",
        "Without priors, the robust model's visualisations hold less high-frequency energy",
        "shown (section 4.1)",
        Below(*_both("visualisation", "high_frequencies", ", no prior")),
    ),
    Claim(
        "visual_recognised",
        "Without priors, the nearest training images recognise the robust model's classes better",
        "shown (section 4.1)",
        Exceeds(*_both("visualisation", "neighbours", ", no prior")),
    ),
    Claim(
        "needs_no_prior",
        "Without priors they recognise them at least as well as the standard model's with the "
        "best prior",
        "stated (section 4.1)",
        AtLeastBest(
            _RECOGNISED,
            tuple(Cell("visualisation", f"standard, {v}", "neighbours") for v in VARIANTS[1:]),
        ),
        fixed=f"as well, or better, is no difference below 0; fixed {_FIRST}",
    ),
    Claim(
        "manipulation",
        "Adding a class's best coordinate turns more of the robust model's images into the class "
        "(nearest training images)",
        "shown (section 4.3)",
        Exceeds(*_both("manipulation", "neighbours", ", +2")),
    ),
    Claim(
        "gradient_smooth",
        "The robust model's input gradients hold less high-frequency energy",
        "not published",
        Below(*_both("gradients", "high_frequencies")),
    ),
    Claim(
        "resize_convolution",
        "A generator of uneven transposed convolutions leaves a stronger checkerboard than one "
        "that resizes and convolves",
        "shown in pictures (Odena et al. 2016); a number is not published",
        AllOf((Exceeds(_UNEVEN, replace(_UNEVEN, row="generator, resize")), AtLeast(_UNEVEN, 1.0))),
        fixed="1 is no checkerboard, by the score's definition; added after the first published "
        "run, in which both scores were below it on digits",
    ),
)

_MODELS = ("standard model", "robust model")
_REAL = {
    f"{which}/{i}": f"{which} active, {i + 1}"
    for which in ("most", "least")
    for i in range(REAL_SHOWN)
}

SECTIONS = (
    Section(
        "What the representations hold",
        "A classifier turns an image into a short list of numbers, its representation. What does "
        "that list know of the image? Two models answer that differ in one thing: one was trained "
        "as usual, the other on attacked images. For both, images are searched for that have the "
        "same representation as a given one (inversion), that lie between two (interpolation), "
        "that make a class or a coordinate as active as can be (visualisation), or that have more "
        "of one feature (manipulation). If the paper is right, the robust model's answers look "
        "like something, and the standard model's do not, although both fit equally well. A third "
        "model, trained as usual from other weights, and the nearest training images judge what "
        "the pictures show. First, inversion: pixels are changed until the representation is that "
        "of a test image that the search never sees. It begins at noise, or at an image of "
        "another class.",
        figures=(
            PictureRows(
                (
                    "inversion/targets",
                    *(f"inversion/{start}/{x}" for start in STARTS for x in ("start", *KINDS)),
                ),
                ("target", *2 * ("start", *_MODELS)),
                "Targets, and images that each model cannot distinguish from them. Where the found "
                "image still looks like its start, the representation does not fix what a person "
                "sees.",
                heads=((1, "From noise"), (4, "From another image")),
            ),
        ),
        tables=(
            Table(
                "inversion",
                "Match of representations, and likeness of pictures to their targets.",
                (
                    "relative_error",
                    "start_error",
                    "ssim",
                    "ssim_before",
                    "lpips",
                    "lpips_before",
                    "distance",
                ),
            ),
            Table(
                "gain",
                "Robust minus standard, each image's own difference, and its standard error over "
                "images, by which the claims on inversion are decided.",
            ),
        ),
    ),
    Section(
        "Interpolation",
        "Frames whose representations lie evenly on the line between those of two images, beside "
        "the plain mixture of their pixels.",
        figures=(
            PictureRows(
                tuple(f"path/{i}/{x}" for i in range(PATHS_SHOWN) for x in ("pixels", *KINDS)),
                PATHS_SHOWN * ("mixed pixels", *_MODELS),
                "Interpolations between two images. Mixed pixels show two ghosts at once.",
                heads=tuple((3 * i, f"Pair {i + 1}") for i in range(PATHS_SHOWN)),
            ),
        ),
        tables=(Table("interpolation", "Evenness and naturalness of the frames between."),),
    ),
    Section(
        "Visualisation, and whether it needs a prior",
        "From noise, pixels are changed to make a class as likely as possible: without any prior, "
        "and with six that favour natural images. The weight of a prior is the one of six at which "
        "the third model and the neighbours recognise the most, chosen for each model separately. "
        "A coordinate silent at the start has no gradient there, and its image stays noise.",
        figures=(
            PictureRows(
                tuple(f"seen/{variant}/{kind}" for variant in VARIANTS for kind in KINDS),
                len(VARIANTS) * _MODELS,
                "Images that maximise the logit of each class, a column a class, by prior.",
                heads=tuple((2 * i, v.capitalize()) for i, v in enumerate(VARIANTS)),
            ),
            Bars(
                "visualisation",
                ("judge", "neighbours"),
                "Visualisations that a third model, and a vote of the ten most similar training "
                "images, take for their class, by model and prior.",
                "% of the visualisations",
            ),
            PictureRows(
                tuple(f"units/{kind}/{x}" for kind in KINDS for x in ("made", *_REAL)),
                2 * ("made", *_REAL.values()),
                "Coordinates of the embedding, a column each: the image made for it without a "
                "prior, and the test images that activate it most and least.",
                heads=((0, "Standard model"), (1 + 2 * REAL_SHOWN, "Robust model")),
            ),
        ),
        tables=(
            Table("visualisation", "What the images of the classes show, by model and prior."),
            Table("units", "What was made for the coordinates of the embedding."),
        ),
    ),
    Section(
        "Manipulation",
        "For each class the coordinate that best tells its training images from the others is "
        "looked up, and images of other classes are changed until it has risen by a multiple of "
        "the difference between the groups.",
        figures=(
            PictureRows(
                tuple(tuple(f"pushed/{c}/{kind}" for kind in KINDS) for c in range(PUSHES_SHOWN)),
                tuple(f"towards {{{c}}}" for c in range(PUSHES_SHOWN)),
                "One coordinate taken away, and added, a row for each class.",
                heads=((0, "Standard model: image, then -1, +½, +1, +2; robust model: the same"),),
            ),
        ),
        tables=(Table("manipulation", "What a coordinate's rise does, by model and strength."),),
    ),
    Section(
        "Artefacts",
        "Where the energy of gradients lies, whether patterns repeat with the strides of a net, "
        "and what high frequencies alone do.",
        figures=(
            Curves(
                tuple(f"spectrum/{name}" for name in (*KINDS, "images")),
                ("gradients, standard model", "gradients, robust model", "images"),
                "spectrum/frequency",
                "Spectra of input gradients, beside that of images, each image scaled to a "
                "standard deviation of 1.",
                "mean power",
                "frequency, cycles a pixel",
            ),
            PictureRows(
                (
                    *(f"pattern/{kind}" for kind in KINDS),
                    *(f"down/{how}" for how in DOWN),
                    *(f"up/{how}" for how in UPSAMPLES),
                ),
                (*_MODELS, *DOWN, *UPSAMPLES),
                "Patterns of high frequency, input gradients (black and white: three standard "
                "deviations) and generated images. A checkerboard repeats every second pixel.",
                heads=(
                    (0, "Patterns of high frequency that raise each class"),
                    (2, "Input gradients, by how the classifier halves its maps"),
                    (5, "Generated images, by how the generator doubles them"),
                ),
            ),
        ),
        tables=(
            Table("gradients", "Frequencies and checkerboards of input gradients."),
            Table("patterns", "Responses to patterns of high frequency."),
            Table("downsampling", "Checkerboards by the way of halving and of doubling."),
        ),
    ),
)

EXPERIMENT = Experiment(
    name="engstrom2019",
    paper="Engstrom, Ilyas, Santurkar, Tsipras, Tran, Madry 2019, “Adversarial Robustness as a "
    "Prior for Learned Representations” (arXiv 1906.00945)",
    question="What do the representations of robust models encode?",
    datasets=ilyas.DATASETS,
    presets=("smoke", "laptop", "gpu", "paper"),
    config_for=config_for,
    rows=rows,
    pictures=pictures,
    claims=lambda config: CLAIMS,
    columns=representation_stages.COLUMNS | artefact_stages.COLUMNS,
    sections=SECTIONS,
    takes={"digits": 9, "mnist": 12, "cifar10": 14},
    files=files,
    check=check,
)

"""Settings of the main experiment, and its presets for each dataset and machine size."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from notbugs.core.errors import bad_value, check_count, check_positive, unknown_name
from notbugs.data import Augment
from notbugs.data.sources.load import family
from notbugs.engine import NORMS
from notbugs.experiments.experiment import PaperConfig
from notbugs.experiments.model_training import Net
from notbugs.features import DIRECTIONS, InversionSettings
from notbugs.training import Adversary, Recipe

PRESETS = ("smoke", "demo", "laptop", "full", "overnight", "gpu", "paper")
SETS = ("rand", "det", "other", "noise", "R")
"""Which sets there are: D_rand, D_det, D_other and D_noise, and D_R with D_NR."""
CONTROLS = ("leak", "untrained", "shuffled", *DIRECTIONS, "projected")
"""The controls of a targeted set: one fixed pattern per class, an untrained source, one that was
fitted to shuffled labels, other directions, and its own changes without differences of class
means."""


def _cnn(width: int, hidden: int) -> Net:
    return Net("cnn", (("width", width), ("hidden", hidden)))


# Chosen on the held-out validation images of other seeds (100 to 105). Rates, epochs and the net
# of `notbugs train` were chosen when digits had no fixed test part, some of it among those images;
# what was chosen later (the robust radius, narrower nets, the blur) has not seen it.
_PLAIN = Recipe(epochs=30, lr=0.1, warmup=0.2)
_ROBUST = replace(
    _PLAIN, lr=0.05, watch_every=5, adversary=Adversary("l2:1.0", steps=5, eps_warmup=0.4)
)


@dataclass(frozen=True)
class Config(PaperConfig):
    """The settings of the main experiment.

    - `net`: the architecture of all models; `standard`, `robust`, `student`: their trainings
    - `students`: further architectures, trained on each targeted set; one like `net` is left out
    - `sources`: further architectures whose D_other all students learn from
    - `inverted`: further architectures of which D_R and D_NR are made, each judged beside its own
      models of D and D_adv
    - `counts`: numbers of images of D_other, of the first of which students learn as well: what
      would more give?
    - `norm`, `eps_eval`: the threat of every robust accuracy in the tables
    - `sets`: which sets are made (see `SETS`); `controls`: which of `CONTROLS` beside each
    - `eps_headline`: the radius of the targeted sets and their controls, which decides the claims;
      None: the largest of `eps_grid` that no observer sees, on held-out training images
    - `eps_sets`: radii of the curves, beside that of the headline
    - `blur`: of the observer by class means, in pixels; None: without it
    - `push_steps`, `push_step_size`: PGD of the targeted sets (None: 2.5 * eps / steps)
    - `widths`: of the embeddings from which D_R is made as well (architecture "cnn" alone)
    - `judged`: test images, the first, on which D_R and its like are given the standard evaluation
    """

    net: Net = _cnn(32, 64)  # noqa: RUF009 (frozen)
    norm: str = "l2"
    eps_eval: float = 1.0
    eps_sets: tuple[float, ...] = (0.5, 1.0, 2.0)
    eps_grid: tuple[float, ...] = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
    eps_headline: float | None = None
    sets: tuple[str, ...] = SETS
    controls: tuple[str, ...] = CONTROLS
    students: tuple[Net, ...] = (Net("mlp"), Net("linear"))
    sources: tuple[Net, ...] = ()
    inverted: tuple[Net, ...] = ()
    counts: tuple[int, ...] = ()
    blur: float | None = None
    widths: tuple[int, ...] = ()
    judged: int = 0
    standard: Recipe = _PLAIN
    robust: Recipe = _ROBUST
    student: Recipe = _PLAIN
    inversion: InversionSettings = InversionSettings(steps=60)  # noqa: RUF009 (frozen)
    push_steps: int = 40
    push_step_size: float | None = None
    eval_steps: int = 20
    batch_size: int = 256
    precision: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_positive(self.eps_eval, "eps_eval")
        if self.eps_headline is not None:
            check_positive(self.eps_headline, "eps_headline")
        for name in ("eps_sets", "eps_grid"):
            radii = getattr(self, name)
            for eps in radii:
                check_positive(eps, name)
            if not radii:
                raise bad_value(name, "hold at least one radius", "none", "E.g. [0.5, 1].")
            if len(set(radii)) < len(radii):  # would count as further seeds
                raise bad_value(name, "hold each radius once", radii)
        for field, known in (("sets", SETS), ("controls", CONTROLS)):
            named = getattr(self, field)
            for name in named:
                if name not in known:
                    raise unknown_name(field[:-1], name, known)
            if len(set(named)) < len(named):
                raise bad_value(field, "name each once", named, "Leave out the repetition.")
        if self.judged < 0:
            remedy = "With 0 there is no standard evaluation."
            raise bad_value("judged", "be 0 or a number of test images", self.judged, remedy)
        for name in ("students", "sources", "inverted"):
            known = [net.architecture for net in getattr(self, name)]
            if len(set(known)) < len(known):  # they name rows and columns
                remedy = "Run it again with the other options."
                raise bad_value(name, "name each architecture once", ", ".join(known), remedy)
        for name in ("widths", "counts"):
            counts = getattr(self, name)
            for count in counts:
                check_count(count, name)
            if len(set(counts)) < len(counts):
                raise bad_value(name, "hold each number once", counts, "Leave out the repetition.")
        for name in ("push_steps", "eval_steps", "batch_size"):
            check_count(getattr(self, name), name)
        if self.blur is not None:
            check_positive(self.blur, "blur")
        if self.norm not in NORMS:
            raise unknown_name("norm", self.norm, NORMS)
        if self.preset not in PRESETS:
            raise unknown_name("preset", self.preset, PRESETS)

    @property
    def headline(self) -> float:
        """The radius of the claims; before it is chosen, the largest of `eps_sets`."""
        return max(self.eps_sets) if self.eps_headline is None else self.eps_headline

    @property
    def radii(self) -> tuple[float, ...]:
        """Those of the curves."""
        return tuple(sorted({*self.eps_sets, self.headline}))

    def with_threat(self, threat: str) -> "Config":
        """A copy with the robust model trained at that threat."""
        adversary = replace(self.robust.adversary or Adversary(), threat=threat)
        return replace(self, robust=replace(self.robust, adversary=adversary))


def _digits(config: Config) -> Config:
    return replace(
        config,
        seeds=5,
        net=_cnn(16, 32),
        blur=0.5,
        widths=(8, 16, 32),
        judged=100,
        sources=(Net("mlp"), Net("linear")),
        counts=(300, 600, 900),
    )


def _mnist(config: Config) -> Config:
    radii = {"eps_sets": (2.0, 4.0), "eps_grid": (1.0, 1.5, 2.0, 2.5, 3.0)}
    return replace(_grey(config), eps_eval=2.0, **radii).with_threat("l2:2.0")


def _grey(config: Config) -> Config:
    """28x28 grey images: a subset and a narrower net on a laptop."""
    short = replace(config.standard, epochs=15)
    small = replace(
        config,
        seeds=2,
        train_size=4000,
        test_size=1000,
        batch_size=64,
        net=_cnn(16, 64),
        standard=short,
        student=short,
        robust=replace(config.robust, epochs=15),
        eps_sets=(1.0, 2.0),
        eps_grid=(0.5, 0.75, 1.0, 1.5, 2.0),
        blur=1.0,
        inversion=InversionSettings(steps=60, step_size=1.0),
        push_steps=30,
    )
    return small.with_threat("l2:1.0")


def _cifar(config: Config) -> Config:
    """32x32 colour images, the paper's own setting made smaller."""
    crop = Augment(crop_padding=4, flip=True)
    recipe = replace(config.standard, epochs=20, lr=0.05, augment=crop)
    small = replace(
        config,
        seeds=1,
        train_size=5000,
        test_size=1000,
        batch_size=64,
        net=_cnn(16, 64),
        students=(Net("mlp"),),
        eps_eval=0.5,
        eps_sets=(0.5, 1.0),
        eps_grid=(0.25, 0.5, 0.75, 1.0),
        standard=recipe,
        student=recipe,
        robust=replace(recipe, watch_every=5, adversary=config.robust.adversary),
        inversion=InversionSettings(steps=60, step_size=1.0),
        push_steps=30,
    )
    return small.with_threat("l2:0.5")


def _planted(config: Config) -> Config:
    # At 0.1 one of 54 students diverged, on the leakage control of seed 2.
    shorter = replace(config.standard, epochs=15, lr=0.05)
    planted = replace(
        config,
        seeds=5,
        eps_eval=0.5,
        eps_sets=(0.25, 0.5, 1.25),  # the last turns the non-robust feature of D_det
        eps_grid=(0.25, 0.5, 0.75, 1.0, 1.25),
        sets=("det", "other", "R"),
        controls=("leak",),
        students=(),
        standard=shorter,
        student=shorter,
        robust=replace(config.robust, epochs=15),
        net=_cnn(16, 64),
    )
    return planted.with_threat("l2:1.5")


def _folder(config: Config) -> Config:
    """Unknown images: a lower learning rate."""
    gentle = replace(config.standard, lr=0.05)
    config = replace(config, standard=gentle, student=gentle, seeds=2)
    radii = {"eps_sets": (0.5, 1.0), "eps_grid": (0.25, 0.5, 0.75, 1.0)}
    return replace(config, eps_eval=0.5, **radii).with_threat("l2:0.5")


_BY_DATA: dict[str, Callable[[Config], Config]] = {
    "digits": _digits,
    "planted": _planted,
    "mnist": _mnist,
    "fashion-mnist": _grey,
    "cifar10": _cifar,
    "cifar100": _cifar,
    "folder": _folder,
}


DATASETS = tuple(_BY_DATA)
"""The datasets that have settings; "folder" is written folder:PATH."""


def _smoke(config: Config) -> Config:
    """Takes seconds: every stage runs, but models are poor."""
    gentle = Adversary(f"{config.norm}:{config.eps_eval / 2!r}", steps=2, eps_warmup=0.5)
    short = replace(config.standard, epochs=12, batch_size=32, lr=0.1)
    return replace(
        config,
        standard=short,
        student=replace(short, epochs=4),
        robust=replace(short, watch_every=5, adversary=gentle),
        seeds=1,
        train_size=500,
        test_size=60,
        eps_sets=config.eps_sets[-1:],
        eps_grid=config.eps_sets[-1:],
        controls=("leak", "shuffled", "random"),
        students=(Net("linear"),),
        sources=(Net("linear"),),
        inverted=(Net("mlp"),),
        counts=(200,),
        widths=(16,),
        judged=0,
        net=_cnn(8, 32),
        inversion=InversionSettings(steps=5),
        push_steps=5,
        eval_steps=3,
    )


def _demo(config: Config) -> Config:
    """The headline alone: sets whose labels are all wrong, with their controls."""
    one = config.students[:1]
    short = replace(config, seeds=3, sets=("other", "noise"), students=one, widths=(), judged=0)
    return replace(short, eps_sets=(config.eps_eval,), sources=(), counts=())


def _full(config: Config) -> Config:
    """All images; of 28x28 grey ones with an MLP as source, which two cores can do."""
    if config.data in ("mnist", "fashion-mnist"):
        return _mlp_source(config)
    return replace(config, seeds=3, train_size=None, test_size=None)


def _overnight(config: Config) -> Config:
    """All 32x32 colour images with an MLP as source, in hours on two cores; others: `_full`.

    The sets without a true label, for the source's architecture and a linear student, and from
    what number of images on they teach. In pilot runs on held-out CIFAR-10 images (seed 100, L2 1)
    students had 26 % true labels; with a width of 1,024 they had 25, with crops, flips and 20
    epochs 19.
    """
    if config.data not in ("cifar10", "cifar100"):
        return _full(config)
    small = _mlp_source(config)
    recipe = replace(small.standard, epochs=10, lr=0.02)
    robust = replace(small.robust, epochs=10, lr=0.02)
    recipes = replace(small, standard=recipe, student=recipe, robust=robust)
    return replace(
        recipes,
        sets=("other", "noise"),
        controls=("leak", "untrained", "shuffled", "projected"),
        students=(Net("linear"),),
        sources=(),
        inverted=(),
        counts=(500, 2000, 6000, 18000),
        eps_sets=(1.0,),
    )


def _mlp_source(config: Config) -> Config:
    """All images, an MLP as source; a small CNN beside it."""
    config = replace(config, seeds=3, train_size=None, test_size=None)
    recipe = replace(config.standard, epochs=8, batch_size=128, lr=0.05, augment=Augment())
    return replace(
        config,
        net=Net("mlp"),
        standard=recipe,
        student=recipe,
        robust=replace(recipe, watch_every=5, adversary=config.robust.adversary),
        students=(_cnn(8, 32), Net("linear")),
        sources=(_cnn(8, 32),),
        inverted=(_cnn(8, 32),),
        counts=(6000, 18000),
        sets=("det", "other", "noise", "R"),
        controls=("leak", "untrained", "shuffled", "random", "projected"),
        push_steps=20,
        batch_size=256,
        judged=100,
    )


def _gpu(config: Config) -> Config:
    """The main rows on one large GPU: all images, ResNet-18, bf16, one seed."""
    recipe = replace(config.standard, epochs=24, batch_size=512, lr=0.2, precision="bf16")
    adversary = replace(config.robust.adversary or Adversary(), steps=3, train_mode=True)
    return replace(
        config,
        seeds=1,
        train_size=None,
        test_size=None,
        net=Net("resnet18"),
        students=(),
        sets=("det", "other", "R"),
        controls=("leak", "untrained", "shuffled"),
        standard=recipe,
        student=recipe,
        robust=replace(recipe, watch_every=5, adversary=adversary),
        inversion=InversionSettings(steps=100, step_size=1.0),
        push_steps=40,
        batch_size=2048,
        precision="bf16",
    )


def _paper(config: Config) -> Config:
    """The published settings (Ilyas et al. 2019, Appendix C): ResNet-50, full length."""
    recipe = replace(config.standard, epochs=150, batch_size=128, lr=0.1, warmup=0.0, decay="step")
    adversary = Adversary(f"{config.norm}:{config.eps_eval!r}", steps=7, random_start=False)
    adversary = replace(adversary, step_size=config.eps_eval / 5)
    return replace(
        config,
        seeds=3,
        train_size=None,
        test_size=None,
        net=Net("resnet50"),
        students=(Net("resnet18"), Net("vgg16")),
        judged=1000,
        standard=recipe,
        student=recipe,
        robust=replace(recipe, watch_every=5, adversary=adversary),
        inversion=InversionSettings(steps=1000, step_size=0.1, schedule="constant"),
        push_steps=100,
        push_step_size=0.1,
    )


_BY_PRESET: dict[str, Callable[[Config], Config]] = {
    "smoke": _smoke,
    "demo": _demo,
    "laptop": lambda config: config,
    "full": _full,
    "overnight": _overnight,
    "gpu": _gpu,
    "paper": _paper,
}


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset (see `PRESETS`)."""
    if preset not in PRESETS:
        raise unknown_name("preset", preset, PRESETS)
    make = _BY_DATA.get(family(data))
    if make is None:
        raise unknown_name("dataset", data, _BY_DATA)
    return _BY_PRESET[preset](make(Config(data=data, preset=preset)))

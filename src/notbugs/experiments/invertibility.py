"""Do robust representations give their images away?

Many models are attacked: standard ones, and those trained against adversaries of several radii and
two norms, with weight decay, of several architectures and widths, on shuffled labels, or not at
all. From the embedding of each test image an image is sought that has the same; and it is asked
how near it comes, whether another model recognises its class, and whether it identifies its image
among all test images. Beside it what the nearest training image, the logits and the label give.

**Source**: Engstrom et al. 2019 (arXiv 1906.00945), section 3, that robust representations can be
inverted; Mahendran and Vedaldi 2015 (arXiv 1412.0035) for inversion; Terzi et al. 2020 (arXiv
2007.11259) for the same in terms of information. The study is our own.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.engine import Threat
from notbugs.engine.threat import radius
from notbugs.experiments.config import config_for as main_config
from notbugs.experiments.constructed import Shuffled
from notbugs.experiments.experiment import Experiment, PaperConfig, Row
from notbugs.experiments.invertibility_page import COLUMNS, SECTIONS
from notbugs.experiments.invertibility_stages import (
    SEEN,
    Accuracies,
    Correlated,
    FromLabel,
    FromLogits,
    Generated,
    NearestImage,
    Reconstructed,
    Smooth,
    Subject,
    chance_rank,
)
from notbugs.experiments.model_training import Net
from notbugs.experiments.numbers import Cell
from notbugs.experiments.representation_stages import Prior
from notbugs.experiments.rules import AllOf, AtLeast, Claim, Exceeds
from notbugs.experiments.shared import Data, Trained
from notbugs.models.zoo import default_options
from notbugs.store import AnyStage
from notbugs.training import Adversary, Recipe


@dataclass(frozen=True)
class Config(PaperConfig):
    """The settings of a run.

    - `net`: the architecture of most models; `others`: further ones, `embeddings`: further widths
      of its embedding, each standard and robust; `judge`: of the model that recognises
    - `radii`: of adversaries in L2, rising from 0 (none); `linf`: in Linf; `eps`: in L2, of robust
      models where there is one alone; `inner_steps`: of PGD in training
    - `decays`: weight decays of further standard models
    - `eps_eval`: L2, at which models are tried
    - `standard`: the training of all models
    - `count`: test images that are inverted; `steps`: of each inversion
    - `prior_epochs`, `prior_width`: of the generator
    """

    net: Net = Net("cnn", (("width", 16), ("hidden", 32)))  # noqa: RUF009 (frozen)
    others: tuple[Net, ...] = (Net("mlp", (("width", 32),)), Net("resnet8", (("width", 8),)))
    embeddings: tuple[int, ...] = (16, 128)
    judge: Net = Net("cnn", (("width", 32), ("hidden", 64)))  # noqa: RUF009 (frozen)
    radii: tuple[float, ...] = (0.0, 0.25, 0.5, 1.0, 1.5)
    linf: tuple[float, ...] = (0.05, 0.1)
    eps: float = 1.0
    decays: tuple[float, ...] = (5e-3, 2e-2)
    inner_steps: int = 3
    eps_eval: float = 0.5
    standard: Recipe = Recipe()  # noqa: RUF009 (frozen)
    count: int = 100
    steps: int = 60
    prior_epochs: int = 20
    prior_width: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("inner_steps", "count", "steps", "prior_epochs", "prior_width"):
            check_count(getattr(self, name), name)
        if len(self.radii) < 2 or list(self.radii) != sorted({0.0, *self.radii}):
            raise bad_value("radii", "rise from 0", self.radii)
        for name in ("linf", "decays", "embeddings"):
            for number in getattr(self, name):
                check_positive(number, name)
        if len(set(self.embeddings)) < 2:
            raise bad_value("embeddings", "be two widths or more", self.embeddings)
        names = [net.architecture for net in self.others]
        if len(set(names)) < len(names):
            raise bad_value("others", "name each architecture once", ", ".join(names))
        check_positive(self.eps, "eps")
        check_positive(self.eps_eval, "eps_eval")


def config_for(data: str, preset: str) -> Config:
    """The settings of a dataset at a preset."""
    main = main_config(data, "smoke" if preset == "smoke" else "laptop")
    config = Config(data, preset, train_size=main.train_size, test_size=main.test_size)
    if data == "digits":
        config = replace(config, seeds=5, standard=replace(main.standard, epochs=12))
    else:
        config = replace(
            config,
            seeds=3,
            standard=replace(main.standard, epochs=8, lr=0.05),
            net=Net("cnn", (("width", 16), ("hidden", 64))),
            others=(Net("mlp", (("width", 64),)),),
            embeddings=(16, 256),
            radii=(0.0, 0.5, 1.0, 2.0) if data != "cifar10" else (0.0, 0.25, 0.5, 1.0),
            linf=(0.1,) if data != "cifar10" else (4 / 255,),
            eps=2.0 if data != "cifar10" else 0.5,
            decays=(5e-3,),
            eps_eval=1.0 if data != "cifar10" else 0.25,
            prior_epochs=8,
        )
    if preset == "smoke":
        config = replace(
            config,
            seeds=1,
            train_size=300,
            standard=replace(config.standard, epochs=2),
            net=Net("mlp", (("width", 12),)),
            others=(Net("linear"),),
            embeddings=(4, 24),
            judge=Net("mlp", (("width", 16),)),
            radii=(0.0, 0.5),
            linf=(0.1,),
            eps=0.5,
            decays=(0.1,),
            inner_steps=1,
            count=30,
            steps=4,
            prior_epochs=1,
            prior_width=2,
        )
    return config


def embedding_of(net: Net) -> int:
    """The width of a net's embedding."""
    options = default_options(net.architecture) | dict(net.options)
    width = options[_width_option(net)]
    assert isinstance(width, int)
    return width


def with_embedding(net: Net, width: int) -> Net:
    """A net with an embedding of that width."""
    return replace(net, options=tuple({**dict(net.options), _width_option(net): width}.items()))


def _width_option(net: Net) -> str:
    return "hidden" if "hidden" in default_options(net.architecture) else "width"


def trained(
    config: Config,
    seed: int,
    threat: str = "",
    *,
    net: Net | None = None,
    decay: float | None = None,
    role: str = "subject",
) -> Trained:
    """A model: within a threat, or a standard one."""
    recipe = config.standard if decay is None else replace(config.standard, weight_decay=decay)
    if threat:
        adversary = Adversary(threat, steps=config.inner_steps, eps_warmup=0.4)
        recipe = replace(recipe, adversary=adversary)
    return Trained(Data.of(config, seed), net or config.net, recipe, role)


def l2(eps: float) -> str:
    """The threat of a radius in L2; none of 0."""
    return str(Threat.parse(f"l2:{radius('l2', eps)}")) if eps else ""


def same_net(config: Config, seed: int) -> dict[str, Trained]:
    """Models of one architecture and width, by the names of their rows."""
    found = {f"L2 at {eps:g}": trained(config, seed, l2(eps)) for eps in config.radii}
    for eps in config.linf:
        threat = f"linf:{radius('linf', eps)}"
        found[f"Linf at {eps:g}"] = trained(config, seed, threat)
    for decay in config.decays:
        found[f"weight decay at {decay:g}"] = trained(config, seed, decay=decay)
    return found


def other_nets(config: Config, seed: int) -> dict[str, Trained]:
    """Models of other architectures and widths, standard and robust."""
    found: dict[str, Trained] = {}
    for kind, threat in (("standard", ""), ("robust", l2(config.eps))):
        for net in config.others:
            found[f"{kind} {net.architecture}"] = trained(config, seed, threat, net=net)
        for width in config.embeddings:
            net = with_embedding(config.net, width)
            found[f"{kind}, embedding at {width}"] = trained(config, seed, threat, net=net)
    return found


def controls(config: Config, seed: int) -> dict[str, Subject]:
    """Models that know nothing of the labels."""
    standard = trained(config, seed)
    shuffled = replace(standard, role="shuffled", on=Shuffled(standard.data))
    found = {
        "L2/untrained": Subject(standard, trained=False),
        "L2/shuffled labels": Subject(shuffled),
    }
    for width in config.embeddings:
        net = with_embedding(config.net, width)
        name = f"untrained/embedding at {width}"
        found[name] = Subject(trained(config, seed, net=net), trained=False)
    return found


def inverted(config: Config, seed: int, of: Subject, shown: str = "") -> Reconstructed:
    """The inversion of a model's embedding."""
    judge = trained(config, seed, net=config.judge, role="judge")
    return Reconstructed(of, judge, config.count, config.steps, shown)


def ways(config: Config, seed: int) -> dict[str, Reconstructed]:
    """What is made of two models' representations in several ways, by the names of rows."""
    found: dict[str, Reconstructed] = {}
    for kind, threat in (("standard", ""), ("robust", l2(config.eps))):
        of = Subject(trained(config, seed, threat))
        found[kind] = plain = inverted(config, seed, of, kind)
        common = of, plain.judge, config.count, config.steps
        prior = Prior(plain.judge.data, "generator", config.prior_epochs, config.prior_width)
        found[f"{kind}, total variation"] = Smooth(*common)
        found[f"{kind}, generator"] = Generated(*common, f"{kind}, generator", prior)
        found[f"{kind}/logits"] = FromLogits(*common, f"{kind}/logits")
        found[f"{kind}/label"] = FromLabel(*common, f"{kind}/label")
        found[f"{kind}/nearest image"] = NearestImage(*common, f"{kind}/nearest image")
    return found


def rows(config: Config, seed: int) -> Iterable[Row]:
    """The rows of all tables for one seed."""
    same = {name: Subject(of) for name, of in same_net(config, seed).items()}
    others = {name: Subject(of) for name, of in other_nets(config, seed).items()}
    every = {**same, **others, **controls(config, seed)}
    pairs = {
        name: (Accuracies(of, l2(config.eps_eval)), inverted(config, seed, of))
        for name, of in every.items()
    }
    for name, pair in pairs.items():
        for stage in pair:
            yield Row("models", name, seed, stage)
    for name, among in (
        ("all models", {**same, **others}),
        ("same net and width", same),
        ("all/with controls", every),
    ):
        yield Row("correlation", name, seed, Correlated(tuple(pairs[n] for n in among)))
    for name, stage in ways(config, seed).items():
        yield Row("ways", name, seed, stage)
    for width in sorted({*config.embeddings, embedding_of(config.net)}):
        net = with_embedding(config.net, width)
        standard = trained(config, seed, net=net)
        for name, of in (
            ("standard", Subject(standard)),
            ("robust", Subject(trained(config, seed, l2(config.eps), net=net))),
            ("standard/untrained", Subject(standard, trained=False)),
        ):
            yield Row("width", f"{name} at {width}", seed, inverted(config, seed, of))


def pictures(config: Config) -> Sequence[AnyStage]:
    """What was made of the first test images of seed 0, and these."""
    shown = [stage for stage in ways(config, 0).values() if stage.shown]
    untrained = controls(config, 0)["L2/untrained"]
    return [*shown, inverted(config, 0, untrained, "untrained")]


def claims(config: Config) -> Sequence[Claim]:
    """What is expected, fixed before any run."""
    none = "not published"
    counts = {
        "all models": len(same_net(config, 0)) + len(other_nets(config, 0)),
        "same net and width": len(same_net(config, 0)),
    }

    def rank(id_: str, statement: str, row: str, of: str, given: int = 0) -> Claim:
        bound = round(chance_rank(counts[row], given=given), 2)
        rules = tuple(AtLeast(Cell("correlation", row, f"{of}_{name}"), bound) for name in SEEN)
        fixed = f"the 5 % point of {counts[row]} models in random order, before the first run"
        return Claim(id_, statement, none, AllOf(rules), fixed=fixed)

    def way(row: str, column: str = "identified") -> Cell:
        return Cell("ways", row, column)

    low, high = config.embeddings[0], config.embeddings[-1]
    return [
        rank(
            "robust",
            "Over all models trained on true labels, the more robust one is, the more its "
            "embedding gives away: recognition by another model, SSIM, identification",
            "all models",
            "rank",
        ),
        rank(
            "same",
            "The same over models of one architecture and width of the embedding",
            "same net and width",
            "rank",
        ),
        rank(
            "partial",
            "The same over all models at equal clean accuracy (partial rank correlation)",
            "all models",
            "partial",
            1,
        ),
        Claim(
            "privacy",
            "Inversion of a robust model identifies more of the images among all test images than "
            "that of a standard one, by 10 points",
            "Engstrom et al. 2019 in pictures, section 3; not published as a number",
            Exceeds(way("robust"), way("standard"), 10.0),
            fixed="before the first run",
        ),
        Claim(
            "image",
            "A robust model gives away the image, not only its class: inversion identifies more "
            "than the training image of the nearest embedding, the logits, and the label",
            none,
            AllOf(
                tuple(
                    Exceeds(way("robust"), way(f"robust/{name}"))
                    for name in ("nearest image", "logits", "label")
                )
            ),
        ),
        Claim(
            "standard",
            "A standard model's embedding identifies more images than chance",
            none,
            Exceeds(way("standard"), way("standard", "chance")),
        ),
        Claim(
            "untrained",
            "A robust model gives away more than an untrained one of the same architecture",
            none,
            Exceeds(way("robust"), Cell("models", "L2/untrained", "identified")),
        ),
        Claim(
            "prior",
            "An attacker who has a generator of such images identifies more from a standard model "
            "than one without",
            none,
            Exceeds(way("standard, generator"), way("standard")),
        ),
        Claim(
            "width",
            f"A robust model with an embedding of {high} gives away more than one of {low}",
            none,
            Exceeds(
                Cell("width", f"robust at {high}", "identified"),
                Cell("width", f"robust at {low}", "identified"),
            ),
        ),
    ]


EXPERIMENT = Experiment(
    name="invertibility",
    paper="a study of our own, after Engstrom et al. 2019 (arXiv 1906.00945), section 3",
    question="Do robust representations give their images away?",
    datasets=("digits", "mnist", "fashion-mnist", "cifar10"),
    presets=("smoke", "laptop"),
    config_for=config_for,
    rows=rows,
    pictures=pictures,
    claims=claims,
    columns=COLUMNS,
    sections=SECTIONS,
)

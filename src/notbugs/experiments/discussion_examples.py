"""Stages of the discussion that build an example: features, styles, points in the plane."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from notbugs.attacks import pgd
from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.data import ImageData
from notbugs.engine import Linf, Threat
from notbugs.experiments.data_views import TwoClasses
from notbugs.experiments.experiment import Measurements, Work, save_pictures
from notbugs.experiments.first_order import named_by
from notbugs.experiments.model_training import Net, new_model
from notbugs.experiments.numbers import Columns, Tables, means
from notbugs.experiments.representation_stages import of_another_class
from notbugs.experiments.shared import Trained
from notbugs.features import pixel_features, usefulness
from notbugs.models import Classifier
from notbugs.representations import style_error, style_transfer
from notbugs.training import Recipe, train

PICTURED = 6
"""Pairs of content and style that are shown."""
LEAST = 0.01
"""The deviation of a component, as a share of the largest, below which it says nothing."""
DRAWS = 20


@dataclass(frozen=True)
class MadeFeatures(Measurements):
    """Useful non-robust features that are put together of others, for two classes.

    Standardised features of the pixels, all chosen on training images: "most robust", the principal
    component with the largest gamma; "weak, summed", those components that an adversary turns
    around and whose |rho| is below `weak`, weighted by their rho (which is best where features do
    not correlate over all images); "drawn signs", the same with signs that are drawn, the mean of
    `DRAWS`: a control; "weak, at best", the most useful of them in training; "useless", the
    component of least variance; "robust and useless": the first and that. Components whose
    deviation is below `LEAST` of the largest are left out. Without weak components there are no
    rows of them.

    - `weak`: the rho below which a component is weak

    **Source**: Goh 2019, "Two examples of useful, non-robust features" (Distill): ensembles and
    containment.
    """

    VERSION: ClassVar[int] = 2

    data: TwoClasses
    threat: Threat
    weak: float = 0.3

    def measure(self, work: Work) -> Tables:
        train, test = self.data.train(work), self.data.splits(work).test
        spread = torch.linalg.eigvalsh(train.pixels().flatten(1).double().T.cov()).clamp(min=0)
        varying = int((spread.sqrt() >= LEAST * spread.max().sqrt()).sum())
        components = pixel_features(train, components=varying)
        found = usefulness(components, train, train, self.threat)
        # rho and gamma of the feature with the sign that makes it useful
        rho, gamma = found.trained[:, 1].abs(), found.gamma[:, 1]
        signs = found.trained[:, 1].sign()
        weak = (rho < self.weak) & (gamma < 0)
        generator = random.generator(self.data.seed, "signs")
        one = torch.eye(varying)
        robust, useless = one[gamma.argmax()], one[-1]
        weights = {
            "most robust": robust,
            "useless": useless,
            "robust and useless": robust + useless,
        }
        draws = DRAWS if bool(weak.any()) else 0
        if draws:
            weights["weak, at best"] = one[(rho * weak).argmax()]
            weights["weak, summed"] = weak * rho
        for i in range(draws):
            weights[f"drawn {i}"] = weak * rho * torch.randn(varying, generator=generator).sign()
        scaled = (signs / components.deviation)[:, None] * components.directions
        combined = torch.stack(list(weights.values())).to(scaled) @ scaled
        made = pixel_features(train, directions=combined)
        judged = usefulness(made, train, test, self.threat)
        table: dict[str, Columns] = {}
        for i, (name, weight) in enumerate(weights.items()):
            table[name] = {
                "features": float((weight != 0).sum()),
                "rho": float(judged.rho[i, 1]),
                "gamma": float(judged.gamma[i, 1]),
            }
        drawn = [table.pop(f"drawn {i}") for i in range(draws)]
        return {"made": {**table, **({"drawn signs": means(drawn)} if drawn else {})}}


@dataclass(frozen=True)
class Styles(Measurements):
    """Style transfer by several models, and how much of it another one sees.

    Each test image is given the style of the next of another class (`style_transfer`). "closed": of
    the distance in style to that image, by the model's own layers, in percent; "seen": the same by
    `apart`; "content": images that `apart` still takes for the class of their content, of those
    that it has right.

    - `models`: a row's name, a model, and whether it is trained

    **Source**: Nakano 2019, "Adversarially robust neural style transfer" (Distill), which compares
    pictures.
    """

    apart: Trained
    models: tuple[tuple[str, Trained, bool], ...]
    count: int
    weight: float = 10.0

    @property
    def cost(self) -> float:
        return 300.0 * self.count * len(self.models)

    def measure(self, work: Work) -> Tables:
        test = self.apart.data.splits(work).test.select(slice(0, self.count))
        x, judge = test.pixels().to(work.device), work.load(self.apart)
        style, right = of_another_class(x, test.labels), named_by(judge, x).cpu() == test.labels
        pictures, table = {"content": x[:PICTURED], "style": style[:PICTURED]}, {}
        for name, of, trained in self.models:
            net = work.load(of) if trained else of.untrained(work)
            found = style_transfer(net, x, style, weight=self.weight)
            named = named_by(judge, found.x).cpu()
            table[name] = {
                "closed": 100 * (1 - float(found.style_error.mean())),
                "seen": 100 * (1 - float(style_error(judge, x, style, found.x).mean())),
                "content": percent((named == test.labels)[right]),
            }
            pictures[name] = found.x[:PICTURED]
        save_pictures({f"style.{name}": images for name, images in pictures.items()}, work)
        return {"styles": table}


@dataclass(frozen=True)
class Points(Measurements):
    """A net learns random classes of points in the plane, another from adversarial points alone.

    The second is trained on moved points that the first takes for their other class, labelled so,
    and judged on all first points ("learnt"): none of its labels was true of them. "random": as
    many of the same points, after random changes of equal size, labelled so too: a control.
    "fitted": points that the first has right; "reached": moved ones that it takes for their other
    class. Means over `draws`.

    - `eps`: of changes in Linf, in a plane of [0, 1]^2

    **Source**: Wallace 2019, "Learning from incorrectly labeled data" (Distill): 32 points, changes
    of 0.12.
    **Differs from the source**: an MLP of two layers, points of [0, 1]^2 and changes of 0.08,
    chosen with seeds that no run has.
    """

    seed: int
    points: int = 32
    eps: float = 0.08
    epochs: int = 300
    steps: int = 50
    draws: int = 10

    @property
    def cost(self) -> float:
        return 200.0 * self.epochs * self.draws

    def measure(self, work: Work) -> Tables:
        tables = [self.drawn(random.generator(self.seed, "points", i)) for i in range(self.draws)]
        return {"points": {name: means([table[name] for table in tables]) for name in tables[0]}}

    def drawn(self, drawn: torch.Generator) -> dict[str, Columns]:
        """The rows of one draw of points."""
        x = torch.rand(self.points, 1, 1, 2, generator=drawn)
        y = torch.arange(self.points) % 2
        data = ImageData(x, y, ("first", "second"), "points")
        first = self.learnt(data, "first")
        target, attack = 1 - y, pgd(Linf(), self.eps, steps=self.steps)
        keys = random.row_keys(len(x), self.seed, "points")
        x_adv = attack(first, x, targets=target, keys=keys, fast=False).x_adv
        signs = torch.randint(0, 2, x.shape, generator=drawn) * 2.0 - 1
        x_random = (x + self.eps * signs).clamp(0, 1)
        reached = named_by(first, x_adv) == target
        table: dict[str, Columns] = {}
        for name, moved in (("adversarial", x_adv), ("random", x_random)):
            taught = replace(data, images=moved, labels=target).select(reached)
            student = self.learnt(taught, "second")
            table[name] = {
                "learnt": percent(named_by(student, x) == y),
                "fitted": percent(named_by(first, x) == y),
                "reached": percent(named_by(first, moved) == target),
            }
        return table

    def learnt(self, data: ImageData, role: str) -> Classifier:
        """A net that was trained on points."""
        net, seed = Net("mlp"), random.seed_of(self.seed, role)
        model = new_model(net, data, seed)
        recipe = Recipe(epochs=self.epochs, batch_size=len(data), lr=0.05)
        return train(model, data, recipe, seed=seed).model

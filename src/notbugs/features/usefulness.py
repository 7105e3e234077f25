"""How useful features are, and how much of it an adversary leaves.

A feature is a number for each image, with mean 0 and variance 1 on the training images. For a class
k it is compared with y = 1 for images of k and -1 for others, the two with equal weight:

    rho = E[y f(x)],    gamma = E[min over the threat of y f(x + delta)],

with the sign of f that has a positive rho on the training images. It is rho-useful if rho > 0, and
gamma-robustly useful if gamma > 0; useful and non-robust if rho > 0 and gamma is not.

**Source**: Ilyas et al. 2019 (arXiv 1905.02175), section 2.
**Differs from the source**, whose classes are two: a class against the others. f has variance 1 on
images as they come and y the weights of two equal classes, so rho is at most 1 for two equal
classes, and k / (2 sqrt(k - 1)) for k: 1.67 for ten.
"""

import math
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import Literal, final

import torch
from jaxtyping import Float, Int
from scipy import special
from torch import Tensor, nn
from torch.nn import functional

from notbugs.core import processes, random
from notbugs.core.errors import bad_type, bad_value, check_count, check_positive
from notbugs.core.types import Images, Labels
from notbugs.data import ImageData
from notbugs.engine import FromImages, LowestValue, Solver, Steepest, Threat, UniformIn
from notbugs.features.certified import certified_bounds, largest_gain
from notbugs.models import Classifier, frozen, prepared
from notbugs.models.prepared import plainly
from notbugs.representations.activations import Direction
from notbugs.representations.reading import Read, layer_of

Values = Float[Tensor, "n m"]
Directions = Float[Tensor, "m d"]
PerClass = Float[Tensor, "m k"]
Progress = Callable[[float], None]
Bound = Literal["exact", "lower", "upper"]

SURE = 0.975
"""The quantile at the upper end of a 95 % interval."""
SAME = 1e-6
"""Standard deviation of a reading, as a share of the largest, below which it is constant."""
ROWS = 512
"""Images that are changed at once."""
CERTIFIED = 16
"""Images of which bounds are computed at once."""
ENTRIES = 2**24
"""Entries of images times features that are held at once."""
UNITS = 4096
"""Units of a layer that can be features, at most: more are too many to attack one by one."""


def _silent(fraction: float) -> None:
    pass


def pixels(x: Images) -> Float[Tensor, "n d"]:
    """The reading that leaves images as they are, [n, d]: features of it are linear."""
    return x.flatten(1)


@dataclass(frozen=True, eq=False)
class Features:
    """m features: f_j(x) = (<read(x), direction_j> - mean_j) / deviation_j.

    Made by `features_of` or `pixel_features`, which fit means and deviations to training images.

    - `read`: images [n, c, h, w] -> readings [n, d], differentiable
    - `directions` [m, d]; `mean`, `deviation` [m]
    - `linear`: the reading is that of the pixels
    - `numbers` [m]: which of the features that were asked for each is (constant ones are left out)
    """

    read: Read
    directions: Directions
    mean: Float[Tensor, " m"]
    deviation: Float[Tensor, " m"]
    linear: bool
    numbers: Int[Tensor, " m"]

    def __len__(self) -> int:
        """m."""
        return len(self.directions)

    def values(self, x: Images) -> Values:
        """The features of images, [n, m], differentiable."""
        like = self.directions
        return (self.read(x.to(like)) @ like.T - self.mean) / self.deviation

    def __call__(self, x: Images) -> Values:
        """The features of images, [n, m], on the processor."""
        with plainly(), torch.no_grad():
            return torch.cat([self.values(part) for part in x.split(ROWS)]).cpu()

    def select(self, rows: Tensor) -> "Features":
        """Some of the features, by their places."""
        names = ("directions", "mean", "deviation", "numbers")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})


@final
@dataclass(frozen=True, eq=False)
class _Reading:
    """Reads a model's layer in eval mode, flattened, whatever mode the model is in."""

    model: Classifier
    layer: str | None

    def __call__(self, x: Images) -> Float[Tensor, "n d"]:
        with frozen(self.model):
            return layer_of(self.model, self.layer)(x.to(self.model.mean)).flatten(1)


@prepared()
def features_of(
    model: Classifier,
    data: ImageData,
    *,
    layer: str | None = None,
    directions: Directions | None = None,
    components: int | None = None,
) -> Features:
    """Features of a model's layer, standardised on training images.

    By default each unit of the layer is one; `components` takes the first principal components of
    its readings instead, `directions` given ones.

    - `layer`: None for the embedding, else as in `layer_of`
    - `directions` [m, d]: of readings of d entries
    - features that are constant on `data` are left out (`Features.numbers`)

    **Raises** ValueError for an unknown layer, directions of another length, more components than
    there are, both of these, and where no feature is left.
    """
    layer_of(model, layer)  # an unknown one is refused here
    return standardised(_Reading(model, layer), False, model.mean, data, directions, components)


def pixel_features(
    data: ImageData, *, directions: Directions | None = None, components: int | None = None
) -> Features:
    """Linear features of the pixels, as `features_of` makes them of a layer."""
    return standardised(pixels, True, torch.zeros(()), data, directions, components)


@torch.no_grad()
def standardised(
    read: Read,
    linear: bool,
    like: Tensor,
    data: ImageData,
    directions: Directions | None,
    components: int | None = None,
) -> Features:
    """The features of a reading, fitted to data: see `features_of`.

    - `like`: of the dtype and device that images are read at; `linear`: see `Features`
    """
    if directions is not None and components is not None:
        raise bad_value("components", "be left out with `directions`", components)
    readings = torch.cat([read(part.to(like)) for part in data.pixels().split(ROWS)])
    width = readings.shape[1]
    if directions is None and width > UNITS:
        remedy = "Name a smaller layer, or pass directions of it."
        raise bad_value("layer", f"have at most {UNITS:,} units", f"{width:,}", remedy)
    if components is not None:
        check_count(components, "components")
        if components > min(readings.shape):
            raise bad_value("components", f"be at most {min(readings.shape)}", components)
        # The last eigenvectors are those of the largest eigenvalues.
        directions = torch.linalg.eigh(readings.T.double().cov())[1].T.flip(0)[:components]
    directions = torch.eye(width).to(like) if directions is None else directions.to(like)
    if directions.ndim != 2 or directions.shape[1] != width or not len(directions):
        remedy = f"Flatten each to {width} entries."
        raise bad_value("directions", f"have shape (m, {width})", tuple(directions.shape), remedy)
    if not bool(directions.isfinite().all()):
        raise bad_value("directions", "be finite", "NaN or infinity")
    values = readings @ directions.T
    deviation = values.std(dim=0, correction=0)
    kept = (deviation > SAME * deviation.max()).nonzero()[:, 0]
    if not len(kept):
        raise bad_value("data", "make at least one feature vary", "none that does")
    mean = values.mean(dim=0)[kept]
    return Features(read, directions[kept], mean, deviation[kept], linear, kept.cpu())


@dataclass(frozen=True, eq=False)
class Usefulness:
    """How useful m features are for k classes, on images that nothing was fitted to.

    - `rho`, `gamma` [m, k]; `rho_error`, `gamma_error` [m, k]: half the width of 95 % intervals,
      of Welch's t
    - `bound`: what gamma is: "exact"; "lower": below the truth; "upper": above it, by the adversary
      that was tried
    - `trained` [m, k]: rho of f itself on the training images; where it is negative, minus the
      feature is the useful one. It chooses a feature's best class without looking at test images
    - `numbers` [m]: of the features (`Features.numbers`)
    """

    rho: PerClass
    gamma: PerClass
    rho_error: PerClass
    gamma_error: PerClass
    bound: Bound
    trained: PerClass
    numbers: Int[Tensor, " m"]

    @property
    def useful(self) -> Tensor:
        """Whether a feature is useful for a class, beyond its interval, [m, k]."""
        return self.rho - self.rho_error > 0

    @property
    def robust(self) -> Tensor:
        """Whether it is robustly useful, beyond its interval, [m, k].

        Where gamma is an upper bound, some of these a stronger adversary would turn around.
        """
        return self.useful & (self.gamma - self.gamma_error > 0)

    @property
    def non_robust(self) -> Tensor:
        """Whether it is useful and an adversary turns it around, beyond intervals, [m, k].

        A lower bound of gamma shows this of none.
        """
        turned = self.useful & (self.gamma + self.gamma_error < 0)
        return torch.zeros_like(turned) if self.bound == "lower" else turned

    def at_best(self) -> dict[str, Tensor]:
        """Numbers of each feature for the class that it is most useful for in training, [m] each.

        "class", "rho", "gamma", "rho_error", "gamma_error", "useful", "robust", "non_robust".
        """
        best = self.trained.abs().argmax(dim=1, keepdim=True)
        names = ("rho", "gamma", "rho_error", "gamma_error", "useful", "robust", "non_robust")
        columns = {name: getattr(self, name).gather(1, best)[:, 0] for name in names}
        return {"class": best[:, 0], **columns}


def usefulness(
    features: Features,
    train: ImageData,
    test: ImageData,
    threat: Threat | str,
    *,
    steps: int = 20,
    certify: bool = False,
    seed: int = 0,
    progress: Progress = _silent,
) -> Usefulness:
    """rho and gamma of features for each class, measured on test images.

    gamma of features of the pixels is exact. That of other features is an upper bound: each is
    attacked by itself, up and down, by PGD from the image and from a random point (a loose bound in
    L1, whose steps change one entry each). With `certify` it is a lower bound, by linear bounds of
    each ReLU (`certified.py`): near for a small eps, far below for a larger one or many layers.

    - `train`: images that tell each feature's sign; `test`: those that it is measured on
    - `steps`: of PGD, of length 2.5 * eps / steps
    - `certify`: of a model that is a chain of ReLUs and affine layers

    **Raises** ValueError for a threat that is not a norm, steps below 1, sets of other shapes or
    classes, where a class has no image in either set, or all, and `certify` for other models.
    """
    check_count(steps, "steps")
    if not isinstance(features, Features):  # pyright: ignore[reportUnnecessaryIsInstance]
        remedy = "Make them by features_of(model, data), or pixel_features(data)."
        raise bad_type("features", "Features", features, remedy)
    for name, data in (("train", train), ("test", test)):
        if not isinstance(data, ImageData):  # pyright: ignore[reportUnnecessaryIsInstance]
            remedy = "Make one: ImageData(images, labels, class_names, name)."
            raise bad_type(name, "an ImageData", data, remedy)
    threat = Threat.parse(threat) if isinstance(threat, str) else threat
    if (train.shape, train.classes) != (test.shape, test.classes):
        expected = f"have the shape {train.shape} and the {train.classes} classes of `train`"
        raise bad_value("test", expected, f"{test.shape} and {test.classes}")
    for name, data in (("train", train), ("test", test)):
        counts = torch.bincount(data.labels, minlength=data.classes)
        if int(counts.min()) == 0 or int(counts.max()) == len(data):
            raise bad_value(
                name,
                "hold images of every class, and of others",
                f"{counts.tolist()} of each",
                "Take more images, or a set without the classes that have none.",
            )
    with plainly():
        trained = _balanced(features(train.pixels()), train.labels)[0]
        x, y, clean = test.pixels(), test.labels, features(test.pixels())
        if features.linear or certify:
            low, high = _certified(features, x, clean, threat, progress)
        else:
            low, high = _attacked(features, x, clean, threat, steps, seed, progress)
    rho, rho_error = _balanced(clean, y)
    up, up_error = _balanced(low, y, high)  # of f itself, and of minus f
    down, down_error = _balanced(-high, y, -low)
    positive = trained >= 0
    return Usefulness(
        torch.where(positive, rho, -rho),
        torch.where(positive, up, down),
        rho_error,
        torch.where(positive, up_error, down_error),
        "exact" if features.linear else "lower" if certify else "upper",
        trained,
        features.numbers,
    )


def _balanced(own: Values, y: Labels, other: Values | None = None) -> tuple[PerClass, PerClass]:
    """(mean of y f, half its 95 % interval) for each class, of its images and the others alike.

    - `own`: f of images of the class; `other`: of the others (None: the same)
    """
    other = own if other is None else other
    means: list[Tensor] = []
    errors: list[Tensor] = []
    for k in range(int(y.max()) + 1):
        a, b = own[y == k].double(), other[y != k].double()
        means.append((a.mean(dim=0) - b.mean(dim=0)) / 2)
        variances = [_of_mean(values) for values in (a, b)]
        total = variances[0] + variances[1]
        # Welch's degrees of freedom; those of a mean that is known without error do not matter.
        parts = [v.square() / max(len(of) - 1, 1) for v, of in zip(variances, (a, b), strict=True)]
        freedom = (total.square() / (parts[0] + parts[1])).nan_to_num(1.0)
        times = torch.from_numpy(special.stdtrit(freedom.numpy(), SURE))
        errors.append(times * total.sqrt() / 2)
    return torch.stack(means, dim=1), torch.stack(errors, dim=1)


def _of_mean(values: Values) -> Tensor:
    """The variance of a mean of rows, [m]; of one row it is not known: infinite."""
    if len(values) < 2:
        return torch.full_like(values[0], math.inf)
    return values.var(dim=0) / len(values)


def _certified(
    features: Features, x: Images, clean: Values, threat: Threat, progress: Progress
) -> tuple[Values, Values]:
    """At most the smallest and at least the largest value of each feature, [n, m] each."""
    norm, like, deviation = threat.as_norm("usefulness"), features.directions, features.deviation
    read = features.read
    if not features.linear and not isinstance(read, _Reading):
        raise bad_value("certify", "be left out for features of no model", "True")
    bounds = (
        certified_bounds(read.model, read.layer, norm, threat.eps)
        if isinstance(read, _Reading)
        else None
    )

    def bounded(index: Tensor) -> tuple[Tensor, ...]:
        some = x[index].to(like)
        if bounds is None:
            lost, won = (largest_gain(norm, s * like, some.flatten(1), threat.eps) for s in (-1, 1))
            return clean[index] - (lost / deviation).cpu(), clean[index] + (won / deviation).cpu()
        low, high = (((end - features.mean) / deviation).cpu() for end in bounds(some, like))
        slack = 1e-3 * (1 + clean[index].abs())
        if not bool(((low <= clean[index] + slack) & (high >= clean[index] - slack)).all()):
            raise bad_value(
                "certify",
                "be left out for models that do more than their layers, one after the other",
                "True",
            )
        return low, high

    at_once = max(1, ENTRIES // like.numel()) if bounds is None else CERTIFIED
    low, high = processes.in_batches(len(x), at_once, bounded, progress)
    return low, high


def _attacked(
    features: Features,
    x: Images,
    clean: Values,
    threat: Threat,
    steps: int,
    seed: int,
    progress: Progress,
) -> tuple[Values, Values]:
    """The smallest and the largest value of each feature that PGD finds, [n, m] each."""
    norm = threat.as_norm("usefulness")
    rule = Steepest(norm, 2.5 * threat.eps / steps)
    solver = Solver(within=threat.within(), rule=rule, max_steps=steps, keep=LowestValue())
    keys = random.row_keys(len(x), seed, "usefulness")
    like, m = features.directions, len(features)

    def attacked(index: Tensor) -> tuple[Tensor, ...]:
        image, j = (index // m), (index % m)
        start_x, scaled = x[image].to(like), like / features.deviation[:, None]
        ends: list[Tensor] = []
        for sign in (1.0, -1.0):  # down, then up: the objective is minus the product
            direction = -sign * scaled[j.to(like.device)]
            problem, found = Direction(features.read), clean[image, j]
            for start in (FromImages(start_x), UniformIn()):
                key = random.fold(keys[image], "feature", sign).to(like.device)
                context = {"direction": direction}
                solution = solver.minimise(problem, start_x, context, keys=key, start=start)
                value = sign * solution.value.cpu() - (features.mean / features.deviation).cpu()[j]
                found = torch.minimum(found, value) if sign > 0 else torch.maximum(found, value)
            ends.append(found)
        return tuple(ends)

    low, high = processes.in_batches(len(x) * m, ROWS, attacked, progress)
    return low.reshape(len(x), m), high.reshape(len(x), m)


@prepared()
def restricted(
    model: Classifier, data: ImageData, units: Tensor | Sequence[int], *, decay: float = 1e-3
) -> Classifier:
    """A copy of a model whose head sees some units of the embedding alone.

    The head is a logistic regression on standardised units, by L-BFGS; units that are left out
    have weight 0. Ilyas et al.'s classifier of a set of features: the sign of b + sum of w_f f.

    - `units`: their numbers in the embedding (`Usefulness.numbers`); `data`: training images
    - `decay`: the penalty decay / 2 * ||weights||^2

    **Raises** ValueError for units that the embedding does not have or that do not vary, none, and
    a model whose logits are not one linear layer of its embedding.
    """
    check_positive(decay, "decay")
    units = torch.as_tensor(units).cpu()
    if units.dtype == torch.bool or units.is_floating_point() or units.ndim != 1:
        remedy = "Of a mask over features: features.numbers[mask]."
        raise bad_value("units", "be whole numbers, [m]", f"{units.dtype}, [{units.ndim}d]", remedy)
    every = features_of(model, data)
    there = torch.isin(every.numbers, units)
    if not len(units) or int(there.sum()) < len(units.unique()):
        remedy = "Those that vary: features_of(model, data).numbers."
        raise bad_value("units", "be numbers of units that vary", units.tolist()[:5], remedy)
    chosen = every.select(there.nonzero()[:, 0])
    values = torch.cat([chosen(data.pixels()).float(), torch.ones(len(data), 1)], dim=1)
    labels = data.labels.clone()  # one made in inference mode could not be learnt from
    weights = torch.zeros(data.classes, values.shape[1], requires_grad=True)
    solver = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        solver.zero_grad()
        fit = functional.cross_entropy(values @ weights.T, labels)
        value = fit + decay / 2 * weights[:, :-1].square().sum()
        value.backward()  # pyright: ignore[reportUnknownMemberType]
        return value

    solver.step(loss)  # pyright: ignore[reportUnknownMemberType]
    copied = deepcopy(model).eval()
    slopes = weights.detach()[:, :-1] / chosen.deviation.cpu()
    # A fresh layer: the weights of one that is parametrised cannot be set.
    head = nn.Linear(int(every.directions.shape[1]), data.classes).to(model.mean)
    with torch.no_grad():
        head.weight.zero_()
        head.weight[:, chosen.numbers] = slopes.to(head.weight)
        head.bias.copy_(weights.detach()[:, -1] - slopes @ chosen.mean.cpu())
    copied.body.set_submodule(_head(copied, data), head)
    return copied


def _head(model: Classifier, data: ImageData) -> str:
    """The name of the last linear layer, which must make the logits of the embedding."""
    layers = [(n, layer) for n, layer in model.body.named_modules() if isinstance(layer, nn.Linear)]
    if layers and layers[-1][0]:
        name, layer = layers[-1]
        with torch.no_grad():
            x = data.pixels(slice(0, 2)).to(model.mean)
            embedded, logits = model.embed(x), model.logits(x)
            fits = embedded.shape[1] == layer.in_features
            if fits and torch.allclose(layer(embedded), logits, atol=1e-4, rtol=1e-4):
                return name
    raise bad_value(
        "model", "have one linear layer from embedding to logits", type(model.body).__name__
    )

"""Controls of the targeted sets: the same targets and sizes, other perturbations."""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from notbugs.attacks.universal import universal
from notbugs.core import processes, random, rows
from notbugs.core.errors import bad_value, unknown_name
from notbugs.core.types import Images, Labels
from notbugs.data import JSON, ImageData, rows_at_once
from notbugs.engine import AbstractNorm, Linf, Threat
from notbugs.features.build import only_reached, origin
from notbugs.features.size import along
from notbugs.features.targets import choose_targets
from notbugs.models import Classifier, frozen, prepared
from notbugs.models.validation import check_gradients

DIRECTIONS = ("random", "span", "universal")


def class_patterns(
    classes: int, shape: tuple[int, int, int], threat: Threat, *, seed: int
) -> Images:
    """One fixed random pattern per class, [classes, c, h, w]: N(0, I) scaled to norm eps."""
    noise = random.normal(random.row_keys(classes, seed, "patterns"), shape)
    return noise * rows.expand(threat.eps / threat.norm.size(noise), noise)


def leakage_control(data: ImageData, kind: str, threat: Threat, *, seed: int) -> ImageData:
    """The control of D_rand, D_det or D_other: same targets and labels, no adversary.

    Instead of an adversarial perturbation each image is moved by eps along its target class's
    fixed random pattern (see `class_patterns`), within [0, 1]; images whose target is their own
    class are left alone. Whatever a model trained on this set gets right on true labels comes
    from the labels' leakage, not from adversarial features.

    - columns: `true_labels`, `source_rows`, `distance`. Images that cannot be moved by eps along
      the pattern are left out, and counted as "dropped".

    **Raises** ValueError for an unknown kind, a threat that is not a norm, and one that no image
    reaches.
    """
    norm = threat.as_norm("this set")
    targets: Labels = choose_targets(kind, data.labels, data.classes, seed=seed)
    patterns = class_patterns(data.classes, data.shape, threat, seed=seed)
    x, alone = data.pixels(), targets == data.labels
    if isinstance(norm, Linf):  # as the steps of an attack; in others, all pixels move
        patterns = norm.steepest(patterns)
    moved = along(x, patterns[targets], norm, threat.eps)
    images, reached = rows.where(alone, x, moved.x), moved.reached & ~alone
    made = _labelled(data, images, targets, threat, f"leak:D_{kind}", seed)
    return only_reached(made, reached | alone if bool(reached.any()) else reached, threat)


def without_class_means(made: ImageData, data: ImageData, threat: Threat) -> ImageData:
    """A targeted set whose changes have lost what they share with the differences of class means.

    Adversarial changes point, in part, towards what the average image of the class looks like, a
    faint form of what people would see. Here each change is projected on the orthogonal complement
    of the differences between the mean images of `data`'s classes, and brought to size eps again
    (clipping to [0, 1] may bring back a little): what such a set teaches is not that.

    - `made`: a set made of `data`, with the columns `source_rows` and `true_labels`
    - columns: `true_labels`, `source_rows`, `distance`; images that cannot be moved by eps are left
      out, and counted as "dropped"

    **Raises** ValueError for a threat that is not a norm and one that no image reaches, and for a
    `made` that is no set made of `data`.
    """
    norm = threat.as_norm("this set")
    for name in ("source_rows", "true_labels"):
        if name not in made.columns:
            raise bad_value("made", f"have the column `{name}`", f"'{made.name}', without it")
    if int(made.columns["source_rows"].max()) >= len(data) or made.shape != data.shape:
        raise bad_value("made", "be made of the images of `data`", f"'{made.name}', of others")
    of_rows = data.select(made.columns["source_rows"])
    x, flat = of_rows.pixels(), data.pixels().flatten(1)
    present = data.labels.unique()
    means = torch.stack([flat[data.labels == c].mean(dim=0) for c in present])
    basis = torch.linalg.svd((means - means.mean(dim=0)).double(), full_matrices=False).Vh
    basis = basis[: len(present) - 1].to(flat)
    change = (made.pixels() - x).flatten(1)
    found = along(x, (change - change @ basis.T @ basis).reshape(x.shape), norm, threat.eps)
    name, seed = f"{made.name}/projected", int(str(made.provenance.get("seed", 0)))
    changed = _labelled(of_rows, found.x, made.labels, threat, name, seed)
    changed = replace(
        changed, columns={**changed.columns, "source_rows": made.columns["source_rows"]}
    )
    return only_reached(changed, found.reached, threat)


@prepared()
def direction_control(
    model: Classifier,
    data: ImageData,
    kind: str,
    threat: Threat,
    direction: str,
    *,
    seed: int,
    batch_size: int = 256,
) -> ImageData:
    """A targeted set's images, targets and labels, each image moved by eps in another direction.

    - `direction`: "random", drawn for each image; "span", a random combination of the gradients of
      the logits of `model` at the image, which is as visible to the model as its own
      perturbations; "universal", for each class one perturbation that turns as many images as it
      can into the class (`universal`, on these images): adversarial, but the same for all images
    - columns: `true_labels`, `source_rows`, `distance`. Images that cannot be moved by eps in their
      direction (pixels saturate, a gradient is zero) are left out, and counted as "dropped".

    **Raises** ValueError for an unknown direction or kind, a threat that is not a norm, and one
    that no image reaches.
    """
    if direction not in DIRECTIONS:
        raise unknown_name("direction", direction, DIRECTIONS)
    norm = threat.as_norm("this set")
    targets = choose_targets(kind, data.labels, data.classes, seed=seed)
    keys = random.row_keys(len(data), seed, "directions", direction)
    device = next(model.parameters()).device
    with frozen(model):
        deltas = (
            _universal(model, data, norm, threat.eps, seed) if direction == "universal" else None
        )
        if direction == "span":
            check_gradients(model, data.pixels(slice(0, 1)).to(device), "direction_control")

        def moved(index: Tensor) -> tuple[Tensor, Tensor]:
            x = data.pixels(index).to(device)
            if deltas is not None:
                delta = deltas[targets[index].to(device)]
            elif direction == "random":
                delta = random.normal(keys[index], data.shape).to(device)
            else:
                weights = random.normal(keys[index], (data.classes,)).to(device)
                delta = _gradient(model.logits, x, weights)
            if isinstance(norm, Linf):  # as the steps of an attack; in others, all pixels move
                delta = norm.steepest(delta)
            found = along(x, delta, norm, threat.eps)
            return found.x.cpu(), found.reached.cpu()

        images, reached = processes.in_batches(
            len(data), rows_at_once(data.shape, batch_size, model.device), moved
        )
    made = _labelled(data, images, targets, threat, f"D_{kind}/{direction}", seed, model)
    return only_reached(made, reached, threat)


def _universal(
    model: Classifier, data: ImageData, norm: AbstractNorm, eps: float, seed: int
) -> Images:
    """A perturbation for each class, [classes, c, h, w]."""
    x, classes = data.pixels().to(model.device), range(data.classes)
    found = [universal(model, x, norm, eps, target=t, seed=seed).delta for t in classes]
    return torch.cat(found)


def _gradient(logits: Callable[[Images], Tensor], x: Images, weights: Tensor) -> Images:
    """The gradient of the weighted sum of each row's logits."""
    leaf = x.detach().requires_grad_()
    with torch.enable_grad():
        return torch.autograd.grad((logits(leaf) * weights).sum(), leaf)[0]


def noise_images(data: ImageData, *, seed: int) -> ImageData:
    """As many images of uniform noise in [0, 1], labelled at random: of `data` the sizes alone.

    Pushed towards other classes (`targeted_set` with `at_chance`) they are a set without natural
    images: what it teaches is in the perturbations alone.

    **Source**: Kumano, Kera & Yamasaki 2024 (arXiv 2402.10470), section 4.
    """
    keys = random.row_keys(len(data), seed, "noise-images")
    labels = random.integers(random.fold(keys, "labels"), data.classes)
    facts = {"recipe": "noise", "like": data.digest, "seed": seed}
    return ImageData(random.uniform(keys, data.shape), labels, data.class_names, "noise", facts)


def shuffled_labels(data: ImageData, *, seed: int) -> ImageData:
    """The same images, their labels dealt out at random: nothing to learn but the images."""
    order = torch.randperm(len(data), generator=random.generator(seed, "shuffled-labels"))
    return data.with_labels(data.labels[order])


def _labelled(
    data: ImageData,
    images: Images,
    targets: Labels,
    threat: Threat,
    name: str,
    seed: int,
    model: Classifier | None = None,
) -> ImageData:
    facts: dict[str, JSON] = {
        "recipe": name,
        "source": origin(data, model),
        "norm": threat.norm.name,
        "eps": threat.eps,
        "seed": seed,
    }
    columns = {
        "true_labels": data.labels,
        "source_rows": torch.arange(len(data)),
        "distance": threat.norm.size(images - data.pixels()),
    }
    return ImageData(images, targets, data.class_names, name, facts, columns)

"""Leakage-only controls: how much labels alone reveal, without adversarial features."""

import torch

from notbugs.core import random, rows
from notbugs.core.types import Images, Labels
from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.features.targets import choose_targets


def class_patterns(
    classes: int, shape: tuple[int, int, int], threat: Threat, *, seed: int
) -> Images:
    """One fixed random pattern per class, [classes, c, h, w]: N(0, I) scaled to norm eps."""
    noise = random.normal(random.row_keys(classes, seed, "patterns"), shape)
    return noise * rows.expand(threat.eps / threat.norm.size(noise), noise)


def leakage_control(data: ImageData, kind: str, threat: Threat, *, seed: int) -> ImageData:
    """The control of D_rand, D_det or D_other: same targets and labels, no adversary.

    Instead of an adversarial perturbation each image gets its target class's fixed random
    pattern (see `class_patterns`), added and clipped to [0, 1]; images whose target is
    their own class are left alone. Whatever a model trained on this set gets right on
    true labels comes from the labels' leakage, not from adversarial features.

    - columns: `true_labels`, `source_rows`, `distance`
    """
    targets: Labels = choose_targets(kind, data.labels, data.classes, seed=seed)
    patterns = class_patterns(data.classes, data.shape, threat, seed=seed)
    x = data.pixels()
    changed = (x + patterns[targets]).clamp(0, 1)
    images = rows.where(targets == data.labels, x, changed)
    facts = {
        "recipe": f"leak:D_{kind}",
        "source": {"data": data.name, "digest": data.digest},
        "norm": threat.norm.name,
        "eps": threat.eps,
        "seed": seed,
    }
    columns = {
        "true_labels": data.labels,
        "source_rows": torch.arange(len(data)),
        "distance": threat.norm.size(images - x),
    }
    return ImageData(images, targets, data.class_names, f"leak:D_{kind}", facts, columns)

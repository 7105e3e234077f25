"""Every public function of a model and images, called with as little work as shows its result.

A new one joins here by one line; an attack joins in `attacks.catalogue`. A call is given a
model, images [24, 1, 4, 4], and labels.
"""

from copy import deepcopy

import torch

from attacks.catalogue import ATTACKS, TARGETED_ONLY
from notbugs import analysis, attacks, features, judge, representations, training
from notbugs.attacks import named
from notbugs.core import random
from notbugs.data import ImageData
from notbugs.engine import L2, Linf, Threat
from notbugs.models import frozen, predicted_clean

CLASSES, WIDTH = 3, 8
FEW = representations.inversion(3, 0.1)
LINF = Threat(Linf(), 0.1)
PGD = attacks.pgd(Linf(), 0.1, steps=2)


def attacked(name):
    if name in TARGETED_ONLY:
        return lambda m, x, y: ATTACKS[name](m, x[:3], targets=(y[:3] + 1) % CLASSES)
    return lambda m, x, y: ATTACKS[name](m, x[:3], y[:3])


def in_linf(eps):
    return attacks.fgsm(Linf(), eps)


def keys(x):
    return random.row_keys(len(x), "entries", device=x.device)


def to_match(x):
    return x.new_zeros(len(x), WIDTH)


def data(x, y) -> ImageData:
    return ImageData(x, y, ("a", "b", "c"), "tiny")


def crafted(m, x, y):
    with frozen(m):
        return ATTACKS["pgd l2"].craft(m.logits, x, y, keys=keys(x))


def inverted_set(m, x, y):
    settings = features.InversionSettings(steps=2)
    return features.inverted_set(m, data(x, y), name="D_R", seed=0, settings=settings)


def trained(train):
    """Of a copy, for the other calls share the model: its weights afterwards."""

    def call(m, x, y):
        copy = deepcopy(m)
        train(copy, data(x, y))
        return [p.detach() for p in copy.parameters()]

    return call


# name -> call(model, images in any precision, labels)
ON_IMAGES = {
    **{name: attacked(name) for name in ATTACKS},
    "attack": lambda m, x, y: named.attack(m, x, y, "pgd-2", "linf:0.1"),
    "craft": crafted,
    "universal": lambda m, x, y: attacks.universal(m, x, L2(), 0.1, y=y, epochs=1),
    "latent": lambda m, x, y: attacks.latent(m.embed, x, to_match(x), L2(), 0.1, steps=3),
    "best_average_worst": lambda m, x, y: attacks.best_average_worst(ATTACKS["ddn"], m, x, y),
    "to_8_bit": lambda m, x, y: attacks.to_8_bit(ATTACKS["fgsm linf"], m, x, x, y),
    "predicted_clean": lambda m, x, y: predicted_clean(m, x),
    "invert": lambda m, x, y: representations.invert(
        m.embed, to_match(x), x, solver=FEW, keys=keys(x)
    ),
    "invert_images": lambda m, x, y: representations.invert_images(m, x, start=x[:1], solver=FEW),
    "interpolate": lambda m, x, y: representations.interpolate(
        m, x[:3], x[3:6], points=3, solver=FEW
    ),
    "path_of": lambda m, x, y: representations.path_of(m, x.reshape(12, 2, 1, 4, 4)),
    "visualise": lambda m, x, y: representations.visualise(m, [0, 1], start=x[:1], solver=FEW),
    "visualise_directions": lambda m, x, y: representations.visualise_directions(
        m, torch.eye(2, WIDTH), start=x[:2], solver=FEW
    ),
    "visualise_layer": lambda m, x, y: representations.visualise_layer(m, x, solver=FEW),
    "accentuate": lambda m, x, y: representations.accentuate(m, x[:3], 0, 0.1, solver=FEW),
    "assess_visualisations": lambda m, x, y: representations.assess_visualisations(
        m, x[:2], [0, 1], x
    ),
    "most_activating": lambda m, x, y: representations.most_activating(m, x, count=2),
    "styles": lambda m, x, y: representations.styles(m, x, ["1"])["1"],
    "style_error": lambda m, x, y: representations.style_error(m, x, x.flip(0), x, ["1"]),
    "style_transfer": lambda m, x, y: representations.style_transfer(
        m, x[:2], x[2:4], layers=["1"], solver=FEW
    ),
    "add_feature": lambda m, x, y: representations.add_feature(m, x, 0, 1.0, solver=FEW),
    "find_attribute": lambda m, x, y: representations.find_attribute(m, x[:9], x[9:]),
    "pattern_response": lambda m, x, y: analysis.pattern_response(
        m, x[:2] - x[2:4], [0, 1], x, [0.1]
    ),
    "confidence": lambda m, x, y: analysis.confidence(m, x),
    "input_gradients": lambda m, x, y: analysis.input_gradients(m, x, y),
    "amplification": lambda m, x, y: analysis.amplification(m, x, x.flip(0)),
}


def restricted(m, x, y):
    units = features.features_of(m, data(x, y)).numbers[:2]
    made = features.restricted(m, data(x, y), units)
    return [p.detach() for p in made.parameters()]  # autocast would round its logits


# Of those below, the ones that take the model alone.
ON_MODEL = ("downsamplings", "lipschitz_bounds")
# The same for those that take `ImageData`.
ON_DATA = {
    "fourier_heat_map": lambda m, x, y: analysis.fourier_heat_map(m, data(x, y), 0.5),
    "accuracy": lambda m, x, y: judge.accuracy(m, data(x, y)),
    "predictions": lambda m, x, y: judge.predictions(m, data(x, y)),
    "evaluate": lambda m, x, y: judge.evaluate(m, data(x, y), LINF, attacks=[PGD]),
    "diagnose": lambda m, x, y: judge.diagnose(m, data(x, y), LINF, count=3),
    "estimate": lambda m, x, y: judge.estimate(m, data(x, y), [PGD]) > 0,
    "robust_curve": lambda m, x, y: judge.robust_curve(in_linf, m, data(x, y), [0.1]),
    "distances": lambda m, x, y: judge.distances(ATTACKS["fmn l2"], m, data(x, y)),
    "loss_curve": lambda m, x, y: judge.loss_curve(PGD, m, data(x, y)),
    "targeted_set": lambda m, x, y: features.targeted_set(
        m, data(x, y), "det", LINF, seed=0, steps=2
    ),
    "direction_control": lambda m, x, y: features.direction_control(
        m, data(x, y), "det", LINF, "span", seed=0
    ),
    "encoded_set": lambda m, x, y: features.encoded_set(
        m.embed, data(x, y), Threat(L2(), 0.1), seed=0, steps=2
    ),
    "nearest_in": lambda m, x, y: features.nearest_in(m, data(x, y))(x[:3], torch.arange(3)),
    "inverted_set": inverted_set,
    "require_skill": lambda m, x, y: features.require_skill(m, data(x, y)),
    "features_of": lambda m, x, y: features.features_of(m, data(x, y))(x[:3]),
    "restricted": restricted,
    "natural": lambda m, x, y: analysis.natural(m, data(x, y)),
    "downsamplings": lambda m, x, y: analysis.downsamplings(m),
    "lipschitz_bounds": lambda m, x, y: analysis.lipschitz_bounds(m),
    "train": trained(
        lambda m, d: training.train(m, d, training.Recipe(epochs=1, batch_size=8), seed=0)
    ),
    "mean_sparse": lambda m, x, y: list(training.mean_sparse(m, data(x, y), 0.5).buffers()),
    "soft_labels": lambda m, x, y: training.soft_labels(m, data(x, y), 2.0),
}

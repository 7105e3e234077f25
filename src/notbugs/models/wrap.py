"""Makes any module a `Classifier`, after a test run that finds what does not fit."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from notbugs.core import random
from notbugs.core.errors import bad_type, bad_value
from notbugs.core.types import Images
from notbugs.models.classifier import Classifier, Shape
from notbugs.models.decision import looks_like_probabilities
from notbugs.models.frozen import frozen
from notbugs.models.layers import find_layer
from notbugs.models.outputs import logits_in, remedy_for
from notbugs.models.validation import check_ordinary

TRIED = 16
"""Random images on which the outputs are tested."""
HIGH_CONTRAST = 1000.0
"""Factor on the contrast of images, at which logits leave [0, 1]."""


def wrap(
    module: nn.Module,
    *,
    shape: Shape,
    classes: int,
    embedding: str,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
) -> Classifier:
    """A `Classifier` around any module, after a test on one grey image.

    Args:
        module: maps normalised images [n, c, h, w] to logits [n, k], or to a tuple, mapping
            or object that holds them (first, or under the name `logits`). It is
            not copied; its modes and gradients are left unchanged.
        shape: (channels, height, width) of the images.
        classes: k, the number of logits.
        embedding: dotted name of the layer that gives the embedding, for example "avgpool".
        mean: subtracted from the images in [0, 1]: one number, or one a channel.
        std: the images are then divided by it: one number, or one a channel.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
        >>> model = wrap(net, shape=(1, 8, 8), classes=10, embedding="2")
        >>> tuple(model.embed(torch.zeros(3, 1, 8, 8)).shape)
        (3, 16)

    Raises:
        ValueError: the module fails on an image of that shape, its logits are not finite
            or not [1, classes], or the embedding layer does not run exactly once.
        TypeError: the embedding layer returns something other than a tensor.
    """
    check_ordinary(module, "module")
    _check_readable(module, embedding)
    model = Classifier(
        module, shape=shape, classes=classes, embedding=embedding, mean=mean, std=std
    )
    outputs: list[object] = []

    def store(layer: nn.Module, inputs: object, output: object) -> None:
        outputs.append(output)

    handle = find_layer(module, embedding).register_forward_hook(store)
    try:
        logits = _test_logits(model)
    finally:
        handle.remove()
    _check_logits(logits, classes)
    _check_embedding(outputs, embedding)
    _warn_of_probabilities(model)
    return model


def _check_readable(module: nn.Module, name: str) -> None:
    """Refuses a layer of TorchScript, which allows no hooks."""
    compiled = isinstance(module, torch.jit.ScriptModule)
    layer = module if compiled else dict(module.named_modules()).get(name)
    if isinstance(layer, torch.jit.ScriptModule):
        raise bad_value(
            "embedding",
            "name a layer that can be read, which TorchScript does not allow",
            f"'{name}'",
            "Use wrap(torch.nn.Sequential(module, torch.nn.Identity()), embedding='1', ...): "
            "the embedding is then the logits.",
        )


def _test_logits(model: Classifier) -> object:
    grey = torch.full((1, *model.shape), 0.5, dtype=model.mean.dtype, device=model.device)
    with frozen(model), torch.no_grad():
        try:
            return logits_in(model.body(model.normalise(grey)))
        except (RuntimeError, ValueError, IndexError, AssertionError) as error:
            raise bad_value(
                "module",
                f"take images of shape {tuple(grey.shape)}",
                f"the error '{error}'",
                "Check `shape`, whose order is (channels, height, width).",
            ) from error


def _warn_of_probabilities(model: Classifier) -> None:
    """Warns where a model seems to return probabilities."""
    shape = (TRIED, *model.shape)
    noise = random.uniform(random.row_keys(TRIED, "wrap"), shape[1:], model.mean.dtype)
    # Small logits of few classes lie in [0, 1] by chance, and leave it on images of much
    # higher contrast; probabilities never do.
    for images in (noise, HIGH_CONTRAST * (noise - 0.5)):
        if not _gives_probabilities(model, images.to(model.device)):
            return
    warnings.warn(
        "The outputs of `module` look like probabilities: on random images all lie in [0, 1]. "
        "Attacks need logits: probabilities round to ties where the model is sure, and "
        "their gradients vanish. Leave out its last softmax or sigmoid, or return "
        "log_softmax.",
        stacklevel=3,
    )


def _gives_probabilities(model: Classifier, images: Images) -> bool:
    try:
        with frozen(model), torch.no_grad():
            return looks_like_probabilities(model.logits(images))
    except (RuntimeError, ValueError, IndexError, AssertionError):
        return True  # images that it refuses are no counterexample


def _check_logits(logits: object, classes: int) -> None:
    got = f"shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
    if not isinstance(logits, Tensor) or tuple(logits.shape) != (1, classes):
        raise bad_value(
            "module",
            f"return logits of shape (1, {classes}) for one image",
            got,
            remedy_for(logits, (1, classes)),
        )
    if not bool(torch.isfinite(logits).all()):
        raise bad_value(
            "module",
            "return finite logits",
            "NaN or infinity for a grey image",
            "Check its weights, and its mean and std.",
        )


def _check_embedding(outputs: list[object], name: str) -> None:
    if len(outputs) != 1:
        raise bad_value(
            "embedding",
            "name a layer that runs exactly once in a forward pass",
            f"'{name}', which ran {len(outputs)} times",
            "Name another layer.",
        )
    output = outputs[0]
    if not isinstance(output, Tensor):
        raise bad_type(
            f"output of layer '{name}'", "a tensor", output, "Name a layer that returns one."
        )
    if output.ndim < 2 or output.shape[0] != 1:
        raise bad_value(
            "embedding",
            "name a layer with the batch first, one row an image",
            f"'{name}' with output of shape {tuple(output.shape)} for one image",
            "Name another layer.",
        )

"""Makes any module a `Classifier`, after a test run that finds what does not fit."""

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from notbugs.core import random
from notbugs.core.errors import bad_type, bad_value, check_images
from notbugs.core.types import Images
from notbugs.models.classifier import Classifier, Shape
from notbugs.models.decision import looks_like_probabilities
from notbugs.models.frozen import frozen
from notbugs.models.layers import INPUT, recorded
from notbugs.models.outputs import check_classes, logits_in, remedy_for
from notbugs.models.validation import check_ordinary

TRIED = 16
"""Random images on which the outputs are tested."""
HIGH_CONTRAST = 1000.0
"""Factor on the contrast of images, at which logits leave [0, 1]."""


def wrap(
    module: nn.Module,
    x: Images | None = None,
    *,
    shape: Shape | None = None,
    classes: int | None = None,
    embedding: str | None = None,
    mean: float | Sequence[float] = 0.0,
    std: float | Sequence[float] = 1.0,
) -> Classifier:
    """A `Classifier` around any module, after a test on one grey image.

    Args:
        module: maps normalised images [n, c, h, w] to logits [n, k], or to a tuple, mapping
            or object that holds them (first, or under the name `logits`). It is
            not copied; its modes and gradients are left unchanged.
        x: images in [0, 1], which tell the shape; in its place `shape` may be given.
        shape: (channels, height, width) of the images.
        classes: k, the number of logits; by default what the module gives.
        embedding: dotted name of the layer that gives the embedding, for example "avgpool", or
            "fc.input" for what goes into a layer. By default what goes into the last linear layer
            that runs once; without one the model has no embedding.
        mean: subtracted from the images in [0, 1]: one number, or one a channel.
        std: the images are then divided by it: one number, or one a channel.

    Example:
        >>> net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
        >>> model = wrap(net, shape=(1, 8, 8))
        >>> model.classes, model.embedding
        (10, '3.input')
        >>> tuple(model.embed(torch.zeros(3, 1, 8, 8)).shape)
        (3, 16)

    Raises:
        ValueError: the module fails on an image of that shape, its logits are not finite
            or not [1, classes], or the embedding layer does not run exactly once.
        TypeError: the embedding layer returns something other than a tensor.
    """
    check_ordinary(module, "module")
    if x is not None:
        check_images(x)
        shape = (x.shape[1], x.shape[2], x.shape[3]) if shape is None else shape
    if shape is None:
        raise bad_value("shape", "be given, or images `x`", None, "Use wrap(module, images).")
    if embedding is not None:
        _check_readable(module, embedding)
    model = Classifier(module, shape=shape, classes=2, embedding=embedding, mean=mean, std=std)
    linear = [name for name, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    names = [f"{name}{INPUT}" for name in linear if name] if embedding is None else [embedding]
    seen: dict[str, list[object]] = {name: [] for name in names}
    with recorded(module, names, lambda name, output: seen[name].append(output)):
        logits = _test_logits(model)
    if classes is None:
        classes = logits.shape[1] if isinstance(logits, Tensor) and logits.ndim == 2 else 2
    check_classes(classes)
    model.classes = classes
    _check_logits(logits, classes)
    if embedding is None:
        model.embedding = next((n for n in reversed(names) if _fits(seen[n], n)), None)
    else:
        _check_embedding(seen[embedding], embedding)
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


def _fits(outputs: list[object], name: str) -> bool:
    try:
        _check_embedding(outputs, name)
    except (ValueError, TypeError):
        return False
    return True

"""Readers of a model's layers, and the start images of a search."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias, final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from notbugs.core import random
from notbugs.core.errors import bad_type, bad_value, check_images, unknown_name
from notbugs.core.types import Embeddings, Images
from notbugs.models import Classifier, capture, layer_names
from notbugs.models.layers import read_at

Read: TypeAlias = Callable[[Images], Tensor]
"""Images [n, c, h, w] in [0, 1] -> activations [n, ...], differentiable."""

LOGITS = "logits"
"""The name of a classifier's output, unless one of its layers has this name."""
STARTS = ("noise", "grey", "uniform")


@final
@dataclass(frozen=True, eq=False)
class Layer:
    """Reads the output of the layer `name`; hooks are registered only during a call."""

    model: nn.Module
    name: str

    def __call__(self, x: Images) -> Float[Tensor, "n ..."]:
        """Activations [n, ...] of images [n, c, h, w]."""
        body = self.model.body if isinstance(self.model, Classifier) else self.model
        with capture(body, [self.name]) as outputs:
            self.model(x)
        if self.name not in outputs:
            raise bad_value("layer", "be one that runs when the model is called", f"'{self.name}'")
        if outputs[self.name].shape[:1] != x.shape[:1]:
            raise bad_value(
                "layer",
                f"have an output with a row for each of the {len(x)} images",
                f"'{self.name}', of shape {tuple(outputs[self.name].shape)}",
            )
        return outputs[self.name]


def layer_of(model: nn.Module, layer: str | None = None) -> Read:
    """The reader of a layer: images [n, c, h, w] in [0, 1] -> activations [n, ...].

    - `model`: a `Classifier`, whose layers are named as in its body
      (`layer_names(model.body)`), or another module on images in [0, 1]
    - `layer`: a dotted name, or "logits" for a classifier's output; None means its embedding

    **Raises** ValueError for an unknown layer, and where no layer is named and the model
    has no embedding; TypeError where `model` is not a module.
    """
    if not isinstance(model, nn.Module):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise bad_type("model", "a torch module", model, "For plain functions use `invert`.")
    if layer == LOGITS and isinstance(model, Classifier) and LOGITS not in layer_names(model.body):
        return model.logits
    if layer is not None:
        read_at(model.body if isinstance(model, Classifier) else model, layer)
        return Layer(model, layer)
    if isinstance(model, Classifier):
        return model.embed
    raise bad_value(
        "layer",
        "be named, for this model has no embedding",
        None,
        "See `layer_names(model)`, or name one for good: wrap(module, embedding=...).",
    )


def flat(read: Read) -> Callable[[Images], Embeddings]:
    """A reader that flattens the activations of `read` to [n, d]."""

    def embed(x: Images) -> Embeddings:
        return read(x).flatten(1)

    return embed


def per_channel(activations: Float[Tensor, "n ..."]) -> Float[Tensor, "n ..."]:
    """The spatial mean of each channel, [n, c].

    Channels are the second dimension of [n, c, h, w] and [n, c], and the last of
    [n, tokens, c], as transformers have it.
    """
    if activations.ndim == 3:
        return activations.mean(dim=1)
    return activations if activations.ndim == 2 else activations.flatten(2).mean(dim=2)


def first_images(
    start: str | Tensor, n: int, model: nn.Module, seed: int, like: Images | None = None
) -> Images:
    """The `n` start images of a search, [n, c, h, w].

    - `start`: "noise" (0.5 + N(0, 1) / 20, clipped), "grey" (0.5), "uniform" (U[0, 1]), or
      images: `n` of them, or one for all
    - `like`: images of the wanted shape; without them it is that of the classifier

    **Raises** ValueError for an unknown name, images outside [0, 1] or of another number or
    shape, and where nothing says how large the images are.
    **Source**: the noise is that of Engstrom et al. 2019 (arXiv 1906.00945), authors' code.
    """
    if not isinstance(start, str):
        return _given(start, n, model, like)
    if start not in STARTS:
        raise unknown_name("start", start, STARTS)
    shape = _shape(model, like)
    if shape is None:
        raise bad_value(
            "start",
            "be images, for this model does not say their shape",
            f"'{start}'",
            "Pass images, or `wrap` the model with its shape.",
        )
    place = like if like is not None else next(model.parameters(), torch.zeros(()))
    keys = random.row_keys(n, seed, "start", device=place.device)
    if start == "grey":
        x = torch.full((n, *shape), 0.5)
    elif start == "uniform":
        x = random.uniform(keys, shape)
    else:
        x = (0.5 + random.normal(keys, shape) / 20).clamp(0, 1)
    return x.to(place)


def _given(start: Tensor, n: int, model: nn.Module, like: Images | None) -> Tensor:
    check_images(start, "start")
    shape = _shape(model, like)
    if len(start) not in (1, n) or (shape is not None and tuple(start.shape[1:]) != shape):
        sizes = "the images' own" if shape is None else str(shape)
        raise bad_value(
            "start", f"be 1 or {n} images of shape {sizes}", f"shape {tuple(start.shape)}"
        )
    return start.detach().expand(n, -1, -1, -1)


def _shape(model: nn.Module, like: Images | None) -> tuple[int, ...] | None:
    if like is not None:
        return tuple(like.shape[1:])
    return model.shape if isinstance(model, Classifier) else None

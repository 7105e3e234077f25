"""The model interface of all packages: images in [0, 1] in, logits and embedding out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.core.limits import PIXELS
from notbugs.core.types import Embeddings, Images, Logits
from notbugs.models.layers import Body, capture, read_at
from notbugs.models.outputs import check_classes, logits_in

JSON: TypeAlias = bool | int | float | str | Sequence[Any] | Mapping[str, Any] | None
Shape: TypeAlias = tuple[int, int, int]
LARGEST = {"mean": 1, "std": 16}
"""The largest plausible mean and std of images in [0, 1]; those of 0..255 exceed them."""


class Classifier(nn.Module):
    """A model of images in [0, 1] that normalises them itself and gives its embedding too.

    Attributes:
        body: the network, fed with normalised images.
        shape: (channels, height, width) of the images it takes.
        classes: k, the number of logits.
        embedding: dotted name, inside `body`, of the layer whose output is the embedding, with
            ".input" for its input; None without one.
        architecture: the built-in family it comes from, or None for a foreign module.
        options: the keyword options it was built with.
        mean, std: buffers [1, c, 1, 1]; the body sees (x - mean) / std.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        body: nn.Module,
        *,
        shape: Shape,
        classes: int,
        embedding: str | None,
        mean: float | Sequence[float] = 0.0,
        std: float | Sequence[float] = 1.0,
        architecture: str | None = None,
        options: Mapping[str, JSON] = {},
    ) -> None:
        """Takes `body` as it is; `mean` and `std` are one number, or one a channel.

        The body returns the logits, or a container of them: see `logits_in`.

        Raises:
            ValueError: a bad shape, number of classes, mean or std, or no layer of the
                name `embedding`. `wrap` also tests the module on an image.
        """
        super().__init__()
        check_shape(shape)
        check_classes(classes)
        if embedding is not None:
            read_at(body, embedding, "embedding layer")
        self.body = body
        self.shape: Shape = (shape[0], shape[1], shape[2])
        self.classes = classes
        self.embedding = embedding
        self.architecture = architecture
        self.options: dict[str, JSON] = dict(options)
        like = next((p for p in body.parameters() if p.is_floating_point()), torch.zeros(()))
        with torch.inference_mode(False):  # buffers that can be differentiated through
            for name, values in (("mean", mean), ("std", std)):
                self.register_buffer(name, _per_channel(values, shape[0], name).to(like))

    @property
    def device(self) -> torch.device:
        """The device of the model and of its images."""
        return self.mean.device

    def forward(self, x: Images) -> Logits:
        """Logits [n, k] of images [n, c, h, w] in [0, 1].

        Raises:
            ValueError: images of another shape than the model's.
        """
        return _copied(logits_in(self.body(self.normalise(x))))

    def logits(self, x: Images) -> Logits:
        """Logits [n, k] of images [n, c, h, w] in [0, 1]: the same as calling the model."""
        return self(x)

    def embed(self, x: Images) -> Embeddings:
        """The embedding [n, d] of images [n, c, h, w] in [0, 1], differentiable.

        Raises:
            ValueError: images of another shape than the model's, or no embedding.
        """
        if isinstance(self.body, Body) and self.embedding == "trunk":
            return self.body.trunk(self.normalise(x)).flatten(1)
        return self.both(x)[1]

    def both(self, x: Images) -> tuple[Logits, Embeddings]:
        """Logits [n, k] and embedding [n, d] from one forward pass.

        Raises:
            ValueError: images of another shape than the model's, or no embedding.
        """
        if self.embedding is None:
            raise bad_value(
                "model",
                "have an embedding",
                f"{type(self.body).__name__}, of which no layer is named",
                "Name one: wrap(module, embedding=...).",
            )
        images = self.normalise(x)
        if isinstance(self.body, Body) and self.embedding == "trunk":
            embedding = self.body.trunk(images)
            return self.body.head(embedding), embedding.flatten(1)
        with capture(self.body, [self.embedding]) as outputs:
            logits = _copied(logits_in(self.body(images)))
        return logits, outputs[self.embedding].flatten(1)

    def normalise(self, x: Images) -> Images:
        """The input of the body: (x - mean) / std, of the same shape.

        Raises:
            ValueError: images of another shape than the model's.
        """
        if tuple(x.shape[1:]) != self.shape:
            raise bad_value(
                "x",
                f"have shape (n, {', '.join(map(str, self.shape))}), as the model was built for",
                f"shape {tuple(x.shape)}",
                "Resize the images, or use a model of their shape.",
            )
        check_no_finer(x, self.mean.dtype)
        return (x - self.mean) / self.std


def _copied(logits: Any) -> Any:
    """The logits, copied where they need no gradient: a network may reuse its output buffer."""
    return logits.clone() if isinstance(logits, Tensor) and not logits.requires_grad else logits


def check_no_finer(x: Tensor, dtype: torch.dtype, argument: str = "x") -> None:
    """Refuses images of more precision than the `dtype` that a model computes in."""
    if torch.promote_types(x.dtype, dtype) != dtype:
        raise bad_value(
            argument,
            f"be no finer than the model's {dtype}",
            f"{x.dtype}",
            f"Use {argument}.to({dtype}), or model.to({x.dtype}).",
        )


def check_shape(shape: Shape) -> None:
    """Refuses anything but three counts (channels, height, width) of at least 1, not too large."""
    if len(shape) != 3:
        raise bad_value("shape", "be (channels, height, width)", tuple(shape))
    for size, name in zip(shape, ("channels", "height", "width"), strict=True):
        check_count(size, f"shape ({name})")
    if math.prod(shape) > PIXELS:
        raise bad_value("shape", f"hold at most {PIXELS:,} values", tuple(shape))


def _per_channel(entries: float | Sequence[float], channels: int, name: str) -> Tensor:
    values = [
        float(value) for value in ((entries,) if isinstance(entries, int | float) else entries)
    ]
    if len(values) not in (1, channels):
        raise bad_value(
            name,
            f"have one entry, or one for each of the {channels} channels",
            f"{len(values)} entries",
        )
    for value in values:
        if name == "std":
            check_positive(value, name, "Images are divided by it.")
        elif not math.isfinite(value):
            raise bad_value(name, "be finite", value)
        if value > LARGEST[name]:
            raise bad_value(
                name,
                f"be at most {LARGEST[name]}: images lie in [0, 1]",
                f"{value:g}",
                "It looks like 0..255: divide mean and std by 255.",
            )
    row = torch.tensor(values, dtype=torch.float32)
    return row.expand(channels).reshape(1, channels, 1, 1).clone()

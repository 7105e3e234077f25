"""Observers: which class does one see who looks at images otherwise than the attacked model?

An observer is a callable (images [n, c, h, w], rows [n] or None) -> labels [n]. With rows, image i
was made from row `rows[i]` of the training images, which the observer then leaves out.
"""

from collections.abc import Callable
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from notbugs.core.errors import bad_value, check_count, check_positive
from notbugs.core.types import Images, Labels, Mask
from notbugs.data import ImageData
from notbugs.models import Classifier, prepared
from notbugs.perception import lpips
from notbugs.perception.gaussian import blurred_images

MOST = 10_000
"""The most images among which the nearest is looked for."""


@runtime_checkable
class Observer(Protocol):
    """Says which class images show."""

    def __call__(self, x: Images, rows: Tensor | None = None) -> Labels:
        """The labels of images [n, c, h, w]."""
        ...


def nearest_image(data: ImageData, *, most: int = MOST) -> Observer:
    """The label of the nearest of `data`'s images (the first `most`), in L2 of pixels."""
    return _nearest(data, most, lambda x: x.flatten(1).cpu())


@prepared()
def nearest_in(model: Classifier, data: ImageData, *, most: int = MOST) -> Observer:
    """The label of the nearest of `data`'s images (the first `most`), in the LPIPS of a model."""
    distance = lpips(model)
    return _nearest(data, most, lambda x: distance.embed(x.to(model.device)).cpu())


def nearest_mean(data: ImageData, *, blur: float = 1.0) -> Observer:
    """The class whose mean image is nearest, in L2, both blurred by a Gaussian.

    - `blur`: its standard deviation in pixels

    **Raises** ValueError for a `blur` that is not positive and a class without images.
    """
    check_positive(blur, "blur")
    missing = torch.bincount(data.labels, minlength=data.classes) == 0
    if bool(missing.any()):
        name = data.class_names[int(missing.nonzero()[0])]
        raise bad_value("data", "hold images of every class", f"none of '{name}'")
    x = data.pixels().cpu()
    means = torch.stack([x[data.labels == c].mean(dim=0) for c in range(data.classes)])
    points = blurred_images(means, blur).flatten(1)

    def observe(x: Images, rows: Tensor | None = None) -> Labels:
        return torch.cdist(blurred_images(x.cpu(), blur).flatten(1), points).argmin(dim=1)

    return observe


def seen(observer: Observer, data: ImageData, *, batch_size: int = 256) -> float:
    """Percent of the images of wrong label whose observer sees the label: the mean of `turned`."""
    return 100 * float(turned(observer, data, batch_size=batch_size).float().mean())


def turned(observer: Observer, data: ImageData, *, batch_size: int = 256) -> Mask:
    """Of each image of wrong label, whether its observer sees the label and not the true class.

    - `data`: a constructed set with the columns `true_labels` and `source_rows`, which count the
      images that the observer knows

    **Raises** ValueError where no label is wrong.
    """
    true, rows = data.columns["true_labels"], data.columns["source_rows"]
    wrong = (data.labels != true).nonzero()[:, 0]
    if not len(wrong):
        raise bad_value("data", "have wrong labels, for who sees them", f"'{data.name}', all true")
    found = observed(observer, data.select(wrong), rows[wrong], batch_size=batch_size)
    return found == data.labels[wrong]


def observed(
    observer: Observer, data: ImageData, rows: Tensor | None = None, *, batch_size: int = 256
) -> Labels:
    """What an observer says of each image of a set, [n]."""
    check_count(batch_size, "batch_size")
    parts = torch.arange(len(data)).split(batch_size)
    return torch.cat([observer(data.pixels(i), None if rows is None else rows[i]) for i in parts])


def _nearest(data: ImageData, most: int, embed: Callable[[Images], Tensor]) -> Observer:
    check_count(most, "most")
    some = data.select(slice(0, most))
    points = torch.cat([embed(some.pixels(i)) for i in torch.arange(len(some)).split(256)])

    def observe(x: Images, rows: Tensor | None = None) -> Labels:
        distances = torch.cdist(embed(x), points)
        if rows is not None:
            own = (rows < len(some)).nonzero()[:, 0]
            distances[own, rows[own]] = torch.inf
        return some.labels[distances.argmin(dim=1).cpu()]

    return observe

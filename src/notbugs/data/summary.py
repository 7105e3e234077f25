"""Summary statistics of a dataset."""

import torch
from torch import Tensor

from notbugs.data.dataset import JSON, ImageData

_CHUNK = 2**22
"""Values at a time."""


def channel_stats(data: ImageData) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation of each channel over all pixels, in units of [0, 1].

    For normalisation layers: a constant channel (an opaque alpha, say) gets the standard
    deviation 1, so that dividing by it does no harm.
    """
    mean, std = _moments(data)
    return tuple(mean.tolist()), tuple(torch.where(std > 1e-6, std, 1.0).tolist())


def summary(data: ImageData) -> dict[str, JSON]:
    """Counts, shape, classes, pixel statistics and digest of a set, as plain values."""
    mean, std = _moments(data)
    counts = torch.bincount(data.labels.cpu(), minlength=data.classes).tolist()
    low, high = (float(v) for v in torch.aminmax(data.images))
    scale = 255.0 if data.images.dtype == torch.uint8 else 1.0
    return {
        "name": data.name,
        "images": len(data),
        "shape": list(data.shape),
        "dtype": str(data.images.dtype).removeprefix("torch."),
        "classes": data.classes,
        "images_per_class": dict(zip(data.class_names, counts, strict=True)),
        "min": low / scale,
        "max": high / scale,
        "mean": mean.tolist(),
        "std": std.tolist(),
        "columns": list(data.columns),
        "digest": data.digest,
        "provenance": data.provenance,
    }


def _rows(images: Tensor) -> int:
    return max(1, _CHUNK // images[0].numel())


def _moments(data: ImageData) -> tuple[Tensor, Tensor]:
    """Mean and (population) standard deviation of each channel, float64 [c]."""
    if data.images.dtype == torch.uint8:
        return _counted(data.images.cpu())
    count = len(data) * data.shape[1] * data.shape[2]
    chunks = data.images.cpu().split(_rows(data.images))
    mean = torch.stack([c.double().sum(dim=(0, 2, 3)) for c in chunks]).sum(dim=0) / count
    # Around the mean: a difference of large sums would lose the digits of a small variance.
    away = [(c.double() - mean[:, None, None]).square().sum(dim=(0, 2, 3)) for c in chunks]
    return mean, (torch.stack(away).sum(dim=0) / count).sqrt()


def _counted(images: Tensor) -> tuple[Tensor, Tensor]:
    """The same for uint8 images, exactly and fast: from how often each of 256 values occurs."""
    channels = range(images.shape[1])
    counts = torch.zeros(len(channels), 256, dtype=torch.int64)
    for part in images.split(_rows(images)):
        own = [torch.bincount(part[:, i].flatten(), minlength=256) for i in channels]
        counts += torch.stack(own)
    share = counts.double() / counts.sum(dim=1, keepdim=True)
    values = torch.arange(256, dtype=torch.float64) / 255
    mean = share @ values
    return mean, (share * (values - mean[:, None]).square()).sum(dim=1).sqrt()

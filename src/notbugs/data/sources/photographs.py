"""Views of a few photographs that Python packages ship, labelled as in ImageNet."""

from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from notbugs.core import random
from notbugs.core.errors import DataError
from notbugs.data.decoding import decoded
from notbugs.data.sources.source import Source, published, with_file

LABELLED = {
    "chelsea.png": (285, "Egyptian cat"),
    "coffee.png": (967, "espresso"),
    "motorcycle_left.png": (665, "moped"),
    "motorcycle_right.png": (665, "moped"),
    "camera.png": (872, "tripod"),
    "china.jpg": (698, "palace"),
    "flower.jpg": (985, "daisy"),
}
"""The files, and the ImageNet class of what each shows."""
PLACES = {"skimage": "data", "sklearn": "datasets/images"}
SIDE, CLASSES, VIEWS = 224, 1000, 60
LEAST = 0.7
"""The smallest side of a view, as a share of the photograph's shorter side."""


def load_photographs() -> Source:
    """420 views [3, 224, 224] of seven photographs, uint8, as test images; 1,000 classes.

    A view is a square of 0.7 to 1 times the photograph's shorter side at a random place, half of
    them mirrored, resampled to 224 pixels. Views of one photograph are alike: they are for the
    study of nets that were trained elsewhere. The training part has the same number of other views.

    **Source**: scikit-image (chelsea, coffee, the stereo pair of a motorcycle, camera) and
    scikit-learn (china, flower); licences in the packages. Labels are ours, in ImageNet-1k's
    classes.

    **Raises** DataError where scikit-image is not installed.
    """
    photographs = {name: _read(name) for name in LABELLED}
    files = {name: digest for name, (_, digest) in photographs.items()}
    labels = torch.tensor([label for label, _ in LABELLED.values()]).repeat_interleave(VIEWS)
    parts = {
        part: published(
            torch.cat([_views(photo, name, part) for name, (photo, _) in photographs.items()]),
            labels,
            class_names(),
            name="photographs",
            part=part,
            files=files,
        )
        for part in ("train", "test")
    }
    return Source("photographs", parts["train"], parts["test"])


def class_names() -> tuple[str, ...]:
    """Names of ImageNet-1k's classes: of those that the photographs show, else "class 17"."""
    titles = dict(LABELLED.values())
    return tuple(titles.get(i, f"class {i}") for i in range(CLASSES))


def _read(name: str) -> tuple[Tensor, str]:
    """A photograph [3, h, w], uint8, and the digest of its file."""
    for package, folder in PLACES.items():
        spec = find_spec(package)
        path = Path(str(spec and spec.origin)).parent / folder / name
        if path.is_file():
            return with_file(path, lambda content, path=path: decoded(path, content, "RGB")[0])
    raise DataError(
        f"The photograph '{name}' is not there: scikit-image or scikit-learn is not installed, or "
        "lacks it. Run: pip install 'notbugs[imagenet]'"
    )


def _views(photo: Tensor, name: str, part: str) -> Tensor:
    """Views of a photograph, uint8 [VIEWS, 3, SIDE, SIDE]."""
    keys = random.row_keys(VIEWS, "views", name, part)
    draws, (h, w) = random.uniform(keys, (4,)), photo.shape[1:]
    pixels, views = photo[None].float(), list[Tensor]()
    for size, down, across, mirrored in draws.tolist():
        side = round(min(h, w) * (LEAST + (1 - LEAST) * size))
        top, left = round(down * (h - side)), round(across * (w - side))
        view = pixels[:, :, top : top + side, left : left + side]
        view = F.interpolate(view, (SIDE, SIDE), mode="bilinear", antialias=True)
        views.append(view.flip(3) if mirrored < 0.5 else view)
    return torch.cat(views).round().clamp(0, 255).to(torch.uint8)

"""A k-nearest-neighbour classifier on pixels, as a judge without a network."""

import torch
from torch import Tensor

from notbugs.core import rows
from notbugs.core.errors import bad_value, check_count, check_labels
from notbugs.core.types import Images, Labels


def neighbours(
    images: Images, known: Tensor, labels: Tensor, *, classes: int, k: int = 10
) -> Labels:
    """Classes [n] of `images` by a vote of their k nearest neighbours among `known`.

    Similarity is the correlation of pixels, which ignores brightness and contrast. Ties between
    classes are broken by similarity.

    - `images` [n, c, h, w], `known` [m, c, h, w], `labels` [m] in 0..classes-1

    **Raises** ValueError for images of another shape, labels out of range, and a k outside 1..m.
    """
    if images.shape[1:] != known.shape[1:]:
        raise bad_value(
            "images", f"have shape {tuple(known.shape[1:])} each, as the known", images.shape[1:]
        )
    check_labels(labels, rows=len(known), classes=classes, argument="labels")
    check_count(k, "k")
    if k > len(known):
        raise bad_value("k", f"not exceed the number of known images, {len(known)}", k)
    known_vectors = _unit(known)
    votes: list[Tensor] = []
    for part in images.split(256):
        nearest = (_unit(part) @ known_vectors.T).topk(k, dim=1)
        # A vote weighs 1 and up to 1 / 4k more or less by its similarity: enough to break ties.
        weight = 1 + nearest.values.clamp(-1, 1) / (4 * k)
        count = nearest.values.new_zeros(len(part), classes)
        votes.append(count.scatter_add_(1, labels[nearest.indices], weight).argmax(dim=1))
    return torch.cat(votes)


def _unit(images: Tensor) -> Tensor:
    flat = rows.flatten(images)
    flat = flat - flat.mean(dim=1, keepdim=True)
    return flat / flat.norm(dim=1, keepdim=True).clamp(min=1e-12)

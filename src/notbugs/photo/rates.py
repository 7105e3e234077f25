"""How many adversarial images stop working when they are printed and photographed."""

from collections.abc import Sequence
from typing import Any

import torch

from notbugs.core.errors import bad_value
from notbugs.core.types import Labels, Logits, Mask
from notbugs.judge import wilson
from notbugs.models.decision import predicted
from notbugs.photo.layout import Cell
from notbugs.photo.pairs import CLEAN

CONFIDENCE = 0.8
"""The least confidence in both predictions before printing, of a prefiltered pair."""


def destruction_rate(right_clean: Mask, right_adv: Mask, right_photo: Mask) -> float | None:
    """The share of successful adversarial images that the transformation T destroys, in 0..1.

    d = sum C(X) notC(X_adv) C(T(X_adv)) / sum C(X) notC(X_adv); None where no attack succeeded.

    - `right_clean`, `right_adv`, `right_photo` [n]: whether the clean image X, the adversarial
      image X_adv and its photograph T(X_adv) are classified correctly (C)

    **Source**: Kurakin et al. 2016 (arXiv 1607.02533), the destruction rate.

    **Raises** ValueError where the lengths differ.
    """
    if not right_clean.shape == right_adv.shape == right_photo.shape:
        shapes = [tuple(one.shape) for one in (right_clean, right_adv, right_photo)]
        raise bad_value("right_adv", "have an entry for each clean image and photograph", shapes)
    successful = right_clean & ~right_adv
    n = int(successful.sum())
    return int((successful & right_photo).sum()) / n if n else None


def photo_rates(cells: Sequence[Cell], y: Labels, before: Logits, after: Logits) -> dict[str, Any]:
    """Accuracies and destruction rates of photographed images, in percent; JSON-serialisable.

    Under "clean", and under "adversarial" for each kind: the number of images, and the accuracy
    before printing and in photographs. For adversarial images also the destruction rate and the
    number of successful ones; both over all pairs, and over prefiltered ones: the clean image is
    right and the adversarial one wrong, both with a confidence of at least 0.8. A rate of no images
    is None.

    - `cells`, `y`, `before`, `after` [n]: the images, their labels, and the logits of each before
      printing and in a photograph

    **Source**: Kurakin et al. 2016, which asks prefiltered images for right and wrong top 5 too.
    """
    right, seen = (predicted(logits) == y for logits in (before, after))
    sure = before.softmax(dim=1).amax(dim=1) >= CONFIDENCE
    rows: dict[str, dict[int, int]] = {CLEAN: {}}
    for row, cell in enumerate(cells):
        rows.setdefault(cell.kind, {})[cell.original] = row
    clean, adversarial = rows.pop(CLEAN), dict[str, Any]()
    for kind, of in rows.items():
        both = [original for original in of if original in clean]
        x, x_adv = (torch.tensor([one[i] for i in both]).long() for one in (clean, of))
        adversarial[kind] = _accuracies(list(of.values()), right, seen)
        for name, chosen in (("", sure | True), ("_prefiltered", sure)):
            some = chosen[x] & chosen[x_adv]
            rate = destruction_rate(right[x][some], right[x_adv][some], seen[x_adv][some])
            adversarial[kind] |= {
                f"destruction_rate{name}": None if rate is None else 100 * rate,
                f"successful{name}": int((right[x] & ~right[x_adv] & some).sum()),
            }
    return {"clean": _accuracies(list(clean.values()), right, seen), "adversarial": adversarial}


def _accuracies(rows: list[int], right: Mask, seen: Mask) -> dict[str, Any]:
    n, hits = len(rows), int(seen[rows].sum())
    return {
        "n": n,
        "accuracy": 100 * int(right[rows].sum()) / n if n else None,
        "accuracy_photographed": 100 * hits / n if n else None,
        "accuracy_photographed_ci95": list(wilson(hits, n)),
    }

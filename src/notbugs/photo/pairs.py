"""Clean images and the adversarial ones made from them, in the order in which they are printed."""

from collections.abc import Mapping
from dataclasses import replace

import torch

from notbugs.core.errors import bad_value
from notbugs.data import ImageData

CLEAN = "clean"
"""The kind of an image that is not adversarial."""


def pairs(
    clean: ImageData, adversarial: Mapping[str, ImageData], count: int | None = None
) -> tuple[ImageData, list[str], list[int]]:
    """Clean images, each followed by its adversarial ones, in 8 bits; their kinds and originals.

    - `clean`: the set that was attacked
    - `adversarial`: by name; sets that `notbugs attack --save` wrote, from the first images of
      `clean`, or, for a target class, from the first of other classes
    - `count`: take only so many originals

    The result is a set with all images rounded to uint8, for each the kind ("clean" or a name),
    and the index of its original in `clean`.

    **Raises** ValueError where a set is named "clean", has other classes, labels or sizes than
    `clean`, or was made from other images.
    """
    rows = {name: _originals(clean, name, one) for name, one in adversarial.items()}
    order = sorted({row for some in rows.values() for row in some})[:count]
    sets = {CLEAN: clean} | dict(adversarial)
    place = {CLEAN: {row: row for row in order}}
    place |= {name: {row: i for i, row in enumerate(some)} for name, some in rows.items()}
    cells = [(row, kind) for row in order for kind in sets if row in place[kind]]
    images = torch.stack([_eight_bits(sets[kind], place[kind][row]) for row, kind in cells])
    data = replace(
        clean,
        images=images,
        labels=clean.labels[[row for row, _ in cells]],
        provenance={"recipe": "printed", "sets": {k: s.digest for k, s in sets.items()}},
        columns={},
    )
    return data, [kind for _, kind in cells], [row for row, _ in cells]


def _eight_bits(data: ImageData, row: int) -> torch.Tensor:
    return (data.pixels(slice(row, row + 1))[0] * 255).round().to(torch.uint8)


def _originals(clean: ImageData, name: str, adversarial: ImageData) -> list[int]:
    """The row of `clean` from which each adversarial image was made."""
    if name == CLEAN:
        raise bad_value("adversarial", "not be named 'clean'", f"'{name}'", "Rename the file.")
    if (adversarial.shape, adversarial.class_names) != (clean.shape, clean.class_names):
        raise bad_value(
            f"adversarial['{name}']", f"have the size and classes of {clean}", adversarial
        )
    target, source = (adversarial.provenance.get(key) for key in ("target", "source"))
    # Images of the target class are not attacked.
    able = [i for i, label in enumerate(clean.labels.tolist()) if label != target]
    rows = able[: len(adversarial)]
    digest = source.get("digest") if isinstance(source, Mapping) else None
    same = len(rows) == len(adversarial) and torch.equal(clean.labels[rows], adversarial.labels)
    if same and digest is not None:
        same = clean.select(rows).digest == digest
    if not same:
        raise bad_value(
            f"adversarial['{name}']",
            "be made from the first images of the clean set",
            f"{len(adversarial)} images made from others",
            "Give the set that was attacked: `notbugs attack --data CLEAN.safetensors`.",
        )
    return rows

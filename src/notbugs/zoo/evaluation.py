"""The outcome of an evaluation, image by image, with the digests of what was evaluated."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import Any, TypedDict

from notbugs.core.errors import DataError, bad_value
from notbugs.core.schema import read_json_file
from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.judge import Verdict, wilson
from notbugs.judge.standard import is_standard

ROBUST, WRONG, UNDECIDED = "RWU"
"""An image that is robust; wrong when clean; neither robust nor broken, for rounding or logits that
are not finite."""
BROKEN_BY = ascii_lowercase
"""An image that the first attack broke, the second, ..."""


class Written(TypedDict):
    """What an evaluation's file must say, so that a card can be made of it."""

    threat: str
    method: list[str]
    seed: int
    samples: int
    weights_sha256: str
    images_digest: str
    outcomes: str
    attacks: list[dict[str, Any]]
    robust_accuracy_is_upper_bound: bool
    masking: list[dict[str, str]]


@dataclass(frozen=True)
class Evaluation:
    """The standard evaluation of a model on its test images, or the first of them.

    - `attacks`: their names, in their order; `seed`: of their randomness
    - `outcomes`: a letter an image: `ROBUST`, `WRONG`, `UNDECIDED`, or one of `BROKEN_BY`
    - `is_upper_bound`: a check for masked gradients fires; `masking`: the checks
    """

    attacks: tuple[str, ...]
    seed: int
    outcomes: str
    is_upper_bound: bool
    masking: tuple[dict[str, str], ...]

    def check(self, images: int) -> None:
        """Refuses outcomes that are not those of the first of so many images.

        **Raises** ValueError.
        """
        broken = BROKEN_BY[: len(self.attacks)]
        if set(self.outcomes) - {ROBUST, WRONG, UNDECIDED, *broken}:
            expected = f"be letters R, W, U, and one for each attack ({broken})"
            raise bad_value("outcomes", expected, f"'{self.outcomes[:20]}'")
        if not 0 < len(self.outcomes) <= images:
            expected = f"have a letter for each of the first of {images} images"
            raise bad_value("outcomes", expected, len(self.outcomes))

    @property
    def robust_accuracy(self) -> float:
        """In percent; at most, where `is_upper_bound`."""
        return 100 * self.outcomes.count(ROBUST) / len(self.outcomes)

    @property
    def clean_accuracy(self) -> float:
        """In percent."""
        return 100 - 100 * self.outcomes.count(WRONG) / len(self.outcomes)

    def by_first(self, attacks: int) -> str:
        """The outcomes if only the first so many attacks had run: what others broke is robust."""
        broken = BROKEN_BY[:attacks]
        return "".join(x if x in (WRONG, *broken) else ROBUST for x in self.outcomes)

    @property
    def ci95(self) -> tuple[float, float]:
        """The 95 % Wilson interval of the robust accuracy over images, in percent."""
        return wilson(self.outcomes.count(ROBUST), len(self.outcomes))


def outcomes_of(verdict: Verdict) -> str:
    """A letter for each image of a verdict."""
    rows = zip(
        verdict.right.tolist(), verdict.robust.tolist(), verdict.broken_by.tolist(), strict=True
    )
    return "".join(
        WRONG if not right else ROBUST if robust else BROKEN_BY[by] if by >= 0 else UNDECIDED
        for right, robust, by in rows
    )


def sha256_of(path: Path) -> str:
    """The SHA-256 of a file, in hex.

    **Raises** DataError where it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"Cannot read '{path}': {error.strerror}. Check the path.") from error


def written(
    verdict: Verdict, *, weights: str, data: ImageData, methods: Sequence[str], seed: int
) -> Mapping[str, object]:
    """The verdict as JSON, with each image's outcome and the digests of weights and images.

    - `weights`: the SHA-256 of their file, taken when they were loaded
    """
    return {
        "samples": verdict.samples,
        **verdict.as_json(),
        "method": list(methods),
        "seed": seed,
        "weights_sha256": weights,
        "images_digest": data.digest,
        "outcomes": outcomes_of(verdict),
    }


def evaluation_of(content: Mapping[str, Any]) -> Evaluation:
    """What a card keeps of what `written` gives."""
    return Evaluation(
        attacks=tuple(attack["name"] for attack in content["attacks"]),
        seed=content["seed"],
        outcomes=content["outcomes"],
        is_upper_bound=content["robust_accuracy_is_upper_bound"],
        masking=tuple(content["masking"]),
    )


def read_evaluation(path: Path, *, weights: str, data: ImageData, threat: Threat) -> Evaluation:
    """The evaluation in a file that `notbugs evaluate --json` wrote.

    - `weights`: the SHA-256 of their file
    - `data`: all test images; the evaluation may be of the first of them

    **Raises** DataError where the file is none, or of other weights, images, threat or attacks.
    """
    remedy = "Make it with notbugs evaluate WEIGHTS --threat THREAT --json FILE."
    content = read_json_file(Written, path, remedy=remedy)
    expected = {
        "weights_sha256": weights,
        "images_digest": data.select(slice(0, max(1, len(content["outcomes"])))).digest,
        "threat": str(threat),
        "samples": 1,
    }
    for name, value in expected.items():
        if content[name] != value:
            raise DataError(
                f"'{path}' is of another evaluation: {name} is {content[name]}, not {value}. "
                "A card needs one of these weights, of the first test images, at its threat."
            )
    if not all(map(is_standard, content["method"])):
        raise DataError(f"'{path}' is not of the standard evaluation. {remedy}")
    return evaluation_of(content)

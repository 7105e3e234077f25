"""The outcome of an evaluation, image by image, with the digests of what was evaluated."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import ascii_lowercase
from typing import NotRequired, TypedDict, cast

import torch

import notbugs
from notbugs.core.errors import DataError, bad_value
from notbugs.core.schema import read_json_file
from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.judge import Verdict, standard_attacks, wilson
from notbugs.judge.standard import is_standard
from notbugs.judge.usable import usable
from notbugs.models import Classifier
from notbugs.store.digests import Digests

ROBUST, WRONG, UNDECIDED = "RWU"
"""An image that is robust; wrong when clean; neither robust nor broken, for rounding or logits that
are not finite."""
BROKEN_BY = ascii_lowercase
"""An image that the first attack broke, the second, ..."""


class MaskingCheck(TypedDict):
    """A check for masked gradients (`Verdict.masking`)."""

    check: str
    evidence: str
    verdict: str


class AttackMade(TypedDict):
    """An attack in an evaluation's file: its name, and what it ran on (`AttackRecord.copy`)."""

    name: str
    copy: str


class GivenUp(TypedDict):
    """The images that an attack gave up on."""

    rows: int


class Bound(TypedDict):
    """The most images that may count as robust only because attacks gave up."""

    images: int


class Written(TypedDict):
    """What an evaluation's file must say, so that a card can be made of it."""

    threat: str
    method: list[str]
    seed: int
    samples: int
    weights_sha256: str
    images_digest: str
    outcomes: str
    attacks: list[AttackMade]
    masking: list[MaskingCheck]
    versions: dict[str, str]
    left_out: NotRequired[list[str]]
    given_up: NotRequired[list[GivenUp]]
    missed_at_most: NotRequired[Bound]


@dataclass(frozen=True)
class Evaluation:
    """The standard evaluation of a model on its test images, or the first of them.

    - `attacks`: their names, in their order; `seed`: of their randomness
    - `copies`: what each ran on, the model itself ("own") or a copy of it in that precision;
      `left_out`: attacks that did not run because the model has no gradients
    - `outcomes`: a letter an image: `ROBUST`, `WRONG`, `UNDECIDED`, or one of `BROKEN_BY`
    - `given_up`: how often an attack gave up on an image; `missed`: the most images that may
      count as robust for that alone (with 95 % confidence)
    - `masking`: the checks for masked gradients; `versions`: of the packages that computed it
    """

    attacks: tuple[str, ...]
    copies: tuple[str, ...]
    left_out: tuple[str, ...]
    seed: int
    outcomes: str
    given_up: int
    missed: int
    masking: tuple[MaskingCheck, ...]
    versions: dict[str, str]

    def check(self, images: int) -> None:
        """Refuses outcomes that are not those of the first of so many images.

        **Raises** ValueError.
        """
        broken = BROKEN_BY[: len(self.attacks)]
        if not self.attacks or len(self.copies) != len(self.attacks):
            names = f"{len(self.attacks)} and {len(self.copies)}"
            raise bad_value("attacks", "be named, each with its copy", f"{names} of them")
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
    def is_upper_bound(self) -> bool:
        """Whether a check for masked gradients fires."""
        return any(check["verdict"] == "suspicious" for check in self.masking)

    def by_first(self, attacks: int) -> str:
        """The outcomes if only the first so many attacks had run: what others broke is robust."""
        later = BROKEN_BY[attacks : len(self.attacks)]
        return "".join(ROBUST if x in later else x for x in self.outcomes)

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
        return Digests().of(path)
    except OSError as error:
        raise DataError(f"Cannot read '{path}': {error.strerror}. Check the path.") from error


def written(
    verdict: Verdict, *, weights: str, data: ImageData, methods: Sequence[str], seed: int
) -> Written:
    """The verdict as JSON, with each image's outcome and the digests of weights and images.

    - `weights`: the SHA-256 of their file, taken when they were loaded
    """
    content = {
        "samples": verdict.samples,
        **verdict.as_json(),
        "method": list(methods),
        "seed": seed,
        "weights_sha256": weights,
        "images_digest": data.digest,
        "outcomes": outcomes_of(verdict),
        "versions": {"notbugs": notbugs.__version__, "torch": str(torch.__version__)},
    }
    return cast("Written", content)


def evaluation_of(content: Written) -> Evaluation:
    """What a card keeps of what `written` gives."""
    bound = content.get("missed_at_most")
    return Evaluation(
        attacks=tuple(attack["name"] for attack in content["attacks"]),
        copies=tuple(attack["copy"] for attack in content["attacks"]),
        left_out=tuple(content.get("left_out", ())),
        seed=content["seed"],
        outcomes=content["outcomes"],
        given_up=sum(attack["rows"] for attack in content.get("given_up", ())),
        missed=0 if bound is None else bound["images"],
        masking=tuple(content["masking"]),
        versions=content["versions"],
    )


@dataclass(frozen=True)
class Standard:
    """The names of the attacks of the standard evaluation, and of those among them that need the
    gradients which the model lacks."""

    attacks: tuple[str, ...]
    left_out: tuple[str, ...]


def standard_of(model: Classifier, data: ImageData, threat: Threat) -> Standard:
    """What the standard evaluation of a model is made of."""
    attacks, left_out = usable(model, data, standard_attacks(threat))
    return Standard(tuple(attack.name for attack in attacks), left_out)


def read_evaluation(
    path: Path, *, weights: str, data: ImageData, threat: Threat, standard: Standard
) -> Evaluation:
    """The evaluation in a file that `notbugs evaluate --json` wrote.

    - `weights`: the SHA-256 of their file
    - `data`: all test images; the evaluation may be of the first of them
    - `standard`: the attacks that it must have (`standard_of`)

    **Raises** DataError where the file is none, or of other weights, images, threat or attacks.
    """
    remedy = "Make it with notbugs evaluate WEIGHTS --threat THREAT --json FILE."
    content = read_json_file(Written, path, remedy=remedy)
    evaluation = evaluation_of(content)
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
    methods, made = content["method"], Standard(evaluation.attacks, evaluation.left_out)
    if len(methods) != 1 or not is_standard(methods[0]) or made != standard:
        raise DataError(
            f"'{path}' is not of the standard evaluation, which has the attacks "
            f"{', '.join(standard.attacks)} for this model. {remedy}"
        )
    return evaluation

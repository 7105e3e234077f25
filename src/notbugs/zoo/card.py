"""Model cards: what a file of weights is, how it was made, and how robust it was found to be."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notbugs.core.errors import DataError, bad_value
from notbugs.core.schema import read_json_file
from notbugs.engine import Threat
from notbugs.judge.tables import markdown
from notbugs.models.origin import Split
from notbugs.zoo.evaluation import BROKEN_BY, UNDECIDED, WRONG, Evaluation

CARD, PAGE = "card.json", "card.md"
"""The files of a card, beside the weights."""
FORMAT = 1
LARGEST = 10_000_000
"""Bytes of a card that is read: the outcomes of 50,000 images take 50,000."""
REMEDY = "Make it again: notbugs zoo add."
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
DIGEST = re.compile(r"[0-9a-f]{64}")
PERCENT = re.compile(r"\d{1,3}\.\d{2}")


@dataclass(frozen=True)
class ModelInfo:
    """A model's entry in a table, by the field names of RobustBench's model information.

    Accuracies are percent, written with two decimals; `clean_acc` is of all test images,
    `autoattack_acc` robust accuracy by the standard evaluation, of those it was run on, at `eps`
    in the norm of the card's threat; None where there was none.
    `unreliable`: a check for masked gradients fires, so that it is an upper bound; `reported`: the
    robust accuracy that a paper states, None where none is given.

    **Source**: Croce et al. 2020 (arXiv 2010.09670), whose `model_info` files have these names.
    """

    link: str
    name: str
    authors: str
    additional_data: bool
    number_forward_passes: int
    dataset: str
    venue: str
    architecture: str
    eps: str
    clean_acc: str
    reported: str | None
    autoattack_acc: str | None
    footnote: str
    unreliable: bool


@dataclass(frozen=True)
class TrainedOn:
    """The images a model was trained on and is evaluated on.

    - `dataset`, `split`: what `load_source` and `split` take
    - `train_digest`: of the training images, where the weights record it
    - `test_digest`, `test_images`: the digest of all test images of the split, and their number
    """

    dataset: str
    split: Split
    train_digest: str | None
    test_digest: str
    test_images: int


@dataclass(frozen=True)
class Card:
    """What a file of weights is, how it was made, and how robust it was found to be.

    - `architecture`, `options`, `shape`, `classes`: of `notbugs.models.build`
    - `parameters`: their number; `bytes`, `sha256`: of the file
    - `trained_on`: the images; `recipe`: the training, None where the weights record none
    - `command`: that trained it; "" where it is not known
    - `threat`: of the evaluation, such as "l2:1"
    """

    format: int
    name: str
    architecture: str
    options: dict[str, Any]
    shape: tuple[int, int, int]
    classes: int
    parameters: int
    bytes: int
    sha256: str
    trained_on: TrainedOn
    recipe: dict[str, Any] | None
    command: str
    threat: str
    model_info: ModelInfo
    evaluation: Evaluation | None = None

    def __post_init__(self) -> None:
        if self.format != FORMAT:
            raise bad_value("format", f"be {FORMAT}", self.format, "Update notbugs.")
        check_name(self.name)
        if str(Threat.parse(self.threat)) != self.threat:
            written = f"be written {Threat.parse(self.threat)}"
            raise bad_value("threat", written, f"'{self.threat[:80]}'")
        trained = self.trained_on
        for digest in (self.sha256, trained.test_digest, trained.train_digest):
            if digest is not None and not DIGEST.fullmatch(digest):
                raise bad_value("digest", "be 64 hexadecimal digits", f"'{digest[:80]}'")
        if self.evaluation is not None:
            self.evaluation.check(trained.test_images)
        self._check_info()

    def _check_info(self) -> None:
        """Refuses an entry of a table that is not of this card."""
        info = self.model_info
        for name in ("clean_acc", "reported"):
            value = getattr(info, name)
            if value is not None and not PERCENT.fullmatch(value):
                expected = "be percent with two decimals, such as 97.20"
                raise bad_value(name, expected, f"'{value[:80]}'")
        derived = info_of(self.threat, self.trained_on, self.architecture, self.evaluation)
        for name, value in derived.items():
            if getattr(info, name) != value:
                expected = f"be {value}, as the rest of the card says"
                raise bad_value(f"model_info/{name}", expected, f"'{getattr(info, name)}'")

    @property
    def robust(self) -> str:
        """Robust accuracy as text, in percent; "≤" before an upper bound, "-" without one."""
        robust = self.model_info.autoattack_acc
        return "-" if robust is None else "≤ " * self.model_info.unreliable + robust


def info_of(
    threat: str, trained_on: TrainedOn, architecture: str, evaluation: Evaluation | None
) -> dict[str, Any]:
    """The fields of `ModelInfo` that the rest of a card determines."""
    return {
        "dataset": trained_on.dataset,
        "architecture": architecture,
        "eps": threat.partition(":")[2],
        "autoattack_acc": None if evaluation is None else f"{evaluation.robust_accuracy:.2f}",
        "unreliable": evaluation is not None and evaluation.is_upper_bound,
    }


def check_name(name: str) -> None:
    """Refuses what cannot be the name of a model, and so of a folder.

    **Raises** ValueError.
    """
    if not NAME.fullmatch(name):
        remedy = "It is the name of a folder."
        expected = "be up to 100 letters, digits, dots, dashes and underscores, no dot first"
        raise bad_value("name", expected, f"'{name[:120]}'", remedy)


def read_card(folder: Path) -> Card:
    """The card in a model's folder.

    **Raises** DataError where there is none, or it is damaged or too large.
    """
    path = folder / CARD
    if path.is_file() and path.stat().st_size > LARGEST:
        raise DataError(f"'{path}' is larger than a card: more than {LARGEST:,} bytes. {REMEDY}")
    return read_json_file(Card, path, remedy=REMEDY)


def page_of(card: Card) -> str:
    """The card as Markdown."""
    trained, info = card.trained_on, card.model_info
    options = ", ".join(f"{name}={value}" for name, value in card.options.items())
    recipe = "not recorded" if card.recipe is None else _short(card.recipe)
    facts = {
        "Architecture": f"{card.architecture} ({options})" if options else card.architecture,
        "Images": f"{'x'.join(map(str, card.shape))}, {card.classes} classes, values in [0, 1]",
        "Parameters": f"{card.parameters:,}; {card.bytes:,} bytes",
        "Dataset": f"{trained.dataset}, split {_short(trained.split)}",
        "Recipe": recipe,
        "Made by": info.authors or "not recorded",
        "Link": info.link or "none",
        "Notes": info.footnote or "none",
        "Robust accuracy in the paper, %": info.reported or "none given",
    }
    digests = [
        ["SHA-256 of the weights", f"`{card.sha256}`"],
        ["SHA-256 of the test images", f"`{trained.test_digest}`"],
    ]
    lines = [f"# {_plain(card.name)}", _summary(card), *_evaluated(card)]
    if card.command:
        lines += ["## Trained by", _fenced(card.command)]
    rows = [*([name, _plain(value)] for name, value in facts.items()), *digests]
    table = markdown(["", ""], rows)
    return "\n\n".join([*lines, "## Facts", table]) + "\n"


def _summary(card: Card) -> str:
    """The numbers in one sentence."""
    test = f"{card.trained_on.test_images:,} test images of {_plain(card.trained_on.dataset)}"
    clean = f"On {test} the clean accuracy is {card.model_info.clean_acc} %"
    if card.evaluation is None:
        return f"{clean}. No robust accuracy was measured; the threat is {card.threat}."
    low, high = card.evaluation.ci95
    bound = "at most " * card.evaluation.is_upper_bound
    n = len(card.evaluation.outcomes)
    first = f", on the first {n:,} of them," * (n < card.trained_on.test_images)
    return (
        f"{clean}, and the robust accuracy at {card.threat} (pixel units of [0, 1]){first} is "
        f"{bound}{card.model_info.autoattack_acc} %, by the standard evaluation (95 % interval "
        f"over images: {low:.1f} to {high:.1f})."
    )


def _evaluated(card: Card) -> list[str]:
    """The attacks, the images that they broke, and the checks for masked gradients."""
    evaluation = card.evaluation
    if evaluation is None:
        return []
    outcomes = evaluation.outcomes
    counts = {
        "wrong when clean": outcomes.count(WRONG),
        **{
            f"broken by {_plain(attack)}": outcomes.count(letter)
            for attack, letter in zip(evaluation.attacks, BROKEN_BY, strict=False)
        },
        "neither broken nor robust": outcomes.count(UNDECIDED),
    }
    shown = ", ".join(f"{count} {words}" for words, count in counts.items() if count)
    rows = [[_plain(check["check"]), _plain(check["evidence"]), _plain(check["verdict"])]
            for check in evaluation.masking]  # fmt: skip
    return [
        "## Evaluation",
        f"{_plain(', '.join(evaluation.attacks))}, each on what those before it did not break, "
        f"seed {evaluation.seed}. Of {len(outcomes):,} images: {shown or 'all robust'}.",
        _conditions(evaluation),
        markdown(["check for masked gradients", "evidence", "verdict"], rows),
    ]


def _conditions(evaluation: Evaluation) -> str:
    """What else the numbers depend on."""
    pairs = zip(evaluation.attacks, evaluation.copies, strict=True)
    folded = [f"{attack} ({copy})" for attack, copy in pairs if copy != "own"]
    given_up = (
        f"Attacks gave up {evaluation.given_up:,} times where progress was too slow: at most "
        f"{evaluation.missed:,} images count as robust for that alone (95 % confidence)."
    )
    sentences = [
        f"Left out, for the model has no gradients: {', '.join(evaluation.left_out)}."
        * bool(evaluation.left_out),
        f"On a faster copy, each success confirmed by the model itself: {', '.join(folded)}."
        * bool(folded),
        given_up * bool(evaluation.given_up),
        f"Versions: {_short(evaluation.versions)}.",
    ]
    return _plain(" ".join(filter(None, sentences)))


def _short(values: Mapping[str, Any]) -> str:
    """Names and values, without those that are nothing."""
    pairs = list[str]()
    for name, value in values.items():
        if isinstance(value, dict):
            inner: dict[str, Any] = value
            pairs.append(f"{name} ({_short(inner)})")
        elif value is not None:
            pairs.append(f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}")
    return ", ".join(pairs)


def _fenced(text: str) -> str:
    """A block of code, between fences that are longer than any in it."""
    fence = "`" * max(3, *(1 + len(run) for run in re.findall("`+", text)), 0)
    return f"{fence}\n{text}\n{fence}"


def _plain(text: str) -> str:
    """Text that Markdown does not read as HTML, emphasis, a link or code."""
    shown = re.sub(r"([\\`*_\[\]])", r"\\\1", text.replace("&", "&amp;").replace("<", "&lt;"))
    return " ".join(shown.split())

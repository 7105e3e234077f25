"""Compares a card with what is measured again."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from notbugs.core.errors import check_count
from notbugs.core.strict_json import finite
from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.judge import accuracy, evaluate, standard_attacks
from notbugs.judge.usable import usable
from notbugs.models import Classifier, load, prepare
from notbugs.models.origin import splits_for
from notbugs.zoo.adding import parameters_of, trained_on_of
from notbugs.zoo.card import PAGE, Card, page_of
from notbugs.zoo.evaluation import (
    BROKEN_BY,
    ROBUST,
    UNDECIDED,
    WRONG,
    Evaluation,
    outcomes_of,
    sha256_of,
)
from notbugs.zoo.index import Entry

WORDS = {ROBUST: "robust", WRONG: "wrong", UNDECIDED: "neither"}
SHOWN = 8
"""Images that are listed where outcomes differ."""


@dataclass(frozen=True)
class Check:
    """One statement of a card beside what was measured."""

    name: str
    card: object
    measured: object

    @property
    def same(self) -> bool:
        """Whether they agree."""
        return self.card == self.measured


def verify(
    entry: Entry,
    *,
    count: int = 50,
    attacks: int | None = None,
    data_dir: Path | None = None,
    device: str = "cpu",
    progress: Callable[[float], None] = lambda fraction: None,
) -> list[Check]:
    """Statements of a model's card, each beside the measurement.

    What the weights say of themselves (`weights_checks`), the images that they record, the clean
    accuracy on all test images, the names of the standard evaluation's attacks, and its outcome for
    each of the first `count` images. Not measured: the outcomes of the other images, the checks for
    masked gradients, and so whether the robust accuracy is an upper bound. An image may differ on
    another processor or by giving up: the evaluation of all images lets an attack give up on some,
    which is bounded by 1 % (`notbugs.judge.evaluate`).

    - `attacks`: run the first so many of the evaluation's attacks alone, which is quicker, and
      compare with what those broke; None: all

    **Raises** DataError where card or weights are missing or damaged, or the weights do not say
    which images they belong to.
    """
    check_count(count, "count")
    if attacks is not None:
        check_count(attacks, "attacks")
    card = entry.card
    model, facts = load(entry.weights)
    parts = splits_for(facts, None, data_dir)
    model = prepare(model, device)
    stated, recorded = asdict(card.trained_on), asdict(trained_on_of(facts, parts))
    clean = f"{accuracy(model, parts.test):.2f}"
    few = parts.test.select(slice(0, count))
    return [
        *weights_checks(entry),
        *(Check(name.replace("_", " "), stated[name], recorded[name]) for name in stated),
        Check("clean accuracy, %", card.model_info.clean_acc, clean),
        *_outcomes(card, model, few, attacks, progress),
    ]


def weights_checks(entry: Entry) -> list[Check]:
    """The statements of a card on the file of weights alone, and its page."""
    card = entry.card
    model, facts = load(entry.weights)
    return [
        Check("name", card.name, entry.name),
        Check("SHA-256 of the weights", card.sha256, sha256_of(entry.weights)),
        Check("bytes", card.bytes, entry.weights.stat().st_size),
        Check("architecture", _built(card), _built(model)),
        Check("parameters", card.parameters, parameters_of(model)),
        Check("recipe", card.recipe, facts.get("recipe")),
        Check("command", card.command, facts.get("command", card.command)),
        Check(PAGE, page_of(card), _text(entry.folder / PAGE)),
    ]


def _outcomes(
    card: Card,
    model: Classifier,
    few: ImageData,
    attacks: int | None,
    progress: Callable[[float], None],
) -> Iterator[Check]:
    """The attacks of the card's evaluation, and the outcome of each image."""
    stated = card.evaluation
    if stated is None:
        return
    threat = Threat.parse(card.threat)
    few = few.select(slice(0, len(stated.outcomes)))
    standard, left_out = usable(model, few, standard_attacks(threat))
    yield Check("attacks", stated.attacks, tuple(attack.name for attack in standard))
    yield Check("left out", stated.left_out, left_out)
    verdict = evaluate(
        model, few, threat, attacks=standard[:attacks], seed=stated.seed, progress=progress
    )
    old = stated.by_first(attacks or len(stated.attacks))[: len(few)]
    yield _compared(f"first {len(few)} images at {card.threat}", old, outcomes_of(verdict), stated)


def _compared(name: str, old: str, new: str, evaluation: Evaluation) -> Check:
    """The outcomes of images, counted, and where they differ."""
    broken = {letter: f"attack {i + 1}" for i, letter in enumerate(BROKEN_BY)}
    broken |= dict(zip(BROKEN_BY, evaluation.attacks, strict=False))
    words = {**WORDS, **{letter: f"broken by {attack}" for letter, attack in broken.items()}}
    differ = [i for i, (one, other) in enumerate(zip(old, new, strict=True)) if one != other]
    where = ", ".join(f"{i}: {words[old[i]]}, {words[new[i]]}" for i in differ[:SHOWN])
    more = f" and {len(differ) - SHOWN} more" * (len(differ) > SHOWN)
    card, measured = (_counted(outcomes, words) for outcomes in (old, new))
    return Check(name, card, f"{measured} (image {where}{more})" if differ else measured)


def _built(made: Card | Classifier) -> dict[str, Any]:
    """What determines the layers of a model."""
    shape, options = list(made.shape), finite(made.options)
    return {
        "architecture": made.architecture,
        "options": options,
        "shape": shape,
        "classes": made.classes,
    }


def _counted(outcomes: str, words: Mapping[str, str]) -> str:
    return ", ".join(f"{outcomes.count(k)} {word}" for k, word in words.items() if k in outcomes)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else "missing"

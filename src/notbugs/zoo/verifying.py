"""Compares a card with what is measured again."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from notbugs.core.errors import check_count
from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.judge import accuracy, evaluate, standard_attacks
from notbugs.models import Classifier, load, prepare
from notbugs.models.origin import splits_for
from notbugs.zoo.adding import parameters_of
from notbugs.zoo.card import PAGE, Card, page_of
from notbugs.zoo.evaluation import (
    BROKEN_BY,
    ROBUST,
    UNDECIDED,
    WRONG,
    Evaluation,
    evaluation_of,
    sha256_of,
    written,
)
from notbugs.zoo.index import Entry

WORDS = {ROBUST: "robust", WRONG: "wrong", UNDECIDED: "neither"}
SHOWN = 8
"""Images that are listed where outcomes differ."""


@dataclass(frozen=True)
class Check:
    """One statement of a card beside what was measured."""

    name: str
    card: str
    measured: str

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
    """Every statement of a model's card that can be measured, beside the measurement.

    The digests of weights and test images, the architecture, the clean accuracy on all test
    images, and the outcome of the standard evaluation for each of the first `count` of them. An
    image may differ on another processor or by giving up: the evaluation of all images lets an
    attack give up on some, which is bounded by 1 % (`notbugs.judge.evaluate`).

    - `attacks`: run the first so many of the evaluation's attacks alone, which is quicker, and
      compare with what those broke; None: all

    **Raises** DataError where card or weights are missing or damaged.
    """
    check_count(count, "count")
    if attacks is not None:
        check_count(attacks, "attacks")
    card = entry.card
    model, facts = load(entry.weights)
    origin = {"dataset": card.trained_on.dataset, "split": card.trained_on.split}
    test = splits_for(origin, None, data_dir).test
    checks = [
        Check("name", card.name, entry.name),
        Check("SHA-256 of the weights", card.sha256, sha256_of(entry.weights)),
        Check("bytes", str(card.bytes), str(entry.weights.stat().st_size)),
        Check("architecture", _built(card), _built(model)),
        Check("parameters", str(card.parameters), str(parameters_of(model))),
        Check("recipe", str(card.recipe), str(facts.get("recipe"))),
        Check("test images", card.trained_on.test_digest, test.digest),
        Check(PAGE, page_of(card), _text(entry.folder / PAGE)),
    ]
    model = prepare(model, device)
    clean = accuracy(model, test)
    checks.append(Check("clean accuracy, %", card.model_info.clean_acc, f"{clean:.2f}"))
    few = test.select(slice(0, count))
    return [*checks, *_outcomes(card, model, few, attacks, progress)]


def _outcomes(
    card: Card,
    model: Classifier,
    few: ImageData,
    attacks: int | None,
    progress: Callable[[float], None],
) -> Iterator[Check]:
    """The numbers of the card's table against its evaluation, and that against a new one."""
    stated = card.evaluation
    if stated is None:
        return
    robust, info = f"{stated.robust_accuracy:.2f}", card.model_info
    yield Check("robust accuracy, %, by the outcomes", str(info.autoattack_acc), robust)
    threat = Threat.parse(card.threat)
    chosen = [a for a in standard_attacks(threat) if a.name in stated.attacks][:attacks]
    few = few.select(slice(0, len(stated.outcomes)))
    yield Check("attacks", ", ".join(stated.attacks[:attacks]), ", ".join(a.name for a in chosen))
    verdict = evaluate(model, few, threat, attacks=chosen, seed=stated.seed, progress=progress)
    content = written(verdict, weights=card.sha256, data=few, methods=(), seed=stated.seed)
    old, new = (e.by_first(attacks or len(e.attacks)) for e in (stated, evaluation_of(content)))
    yield _compared(f"first {len(few)} images at {card.threat}", old[: len(few)], new, stated)


def _compared(name: str, old: str, new: str, evaluation: Evaluation) -> Check:
    """The outcomes of images, counted, and where they differ."""
    broken = zip(BROKEN_BY, evaluation.attacks, strict=False)
    words = {**WORDS, **{letter: f"broken by {attack}" for letter, attack in broken}}
    differ = [i for i, (one, other) in enumerate(zip(old, new, strict=True)) if one != other]
    where = ", ".join(f"{i}: {words[old[i]]}, {words[new[i]]}" for i in differ[:SHOWN])
    more = f" and {len(differ) - SHOWN} more" * (len(differ) > SHOWN)
    card, measured = (_counted(outcomes, words) for outcomes in (old, new))
    return Check(name, card, f"{measured} (image {where}{more})" if differ else measured)


def _built(made: Card | Classifier) -> str:
    """What determines the layers of a model."""
    return f"{made.architecture} {made.options} {tuple(made.shape)} {made.classes}"


def _counted(outcomes: str, words: Mapping[str, str]) -> str:
    return ", ".join(f"{outcomes.count(k)} {word}" for k, word in words.items() if k in outcomes)


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else "missing"

"""Puts weights into the zoo, with a card that is made from them and from an evaluation."""

import os
import secrets
import shutil
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from notbugs.core.errors import DataError, StoreError, bad_type, bad_value, check_count
from notbugs.core.schema import fit
from notbugs.core.strict_json import SchemaError
from notbugs.data import ImageData, Splits
from notbugs.data.writing import new_folder, write_errors, write_file, write_json
from notbugs.engine import Threat
from notbugs.judge import accuracy, evaluate, evaluation_attacks, identity
from notbugs.judge.ledger import state_file
from notbugs.models import Classifier, load, prepare
from notbugs.models.origin import Origin, origin_of, splits_for
from notbugs.models.weights import MODEL
from notbugs.zoo.addresses import weights_at
from notbugs.zoo.card import (
    CARD,
    FORMAT,
    PAGE,
    Card,
    ModelInfo,
    TrainedOn,
    check_name,
    info_of,
    page_of,
)
from notbugs.zoo.evaluation import (
    Evaluation,
    evaluation_of,
    read_evaluation,
    sha256_of,
    standard_of,
    written,
)
from notbugs.zoo.index import SHIPPED, Entry, zoo_folder

STANDARD = ("standard",)


@dataclass(frozen=True)
class About:
    """What a card says of a model that its weights do not: all of it may be left out.

    - `title`: of the paper, or the model; its name without it
    - `additional_data`: whether it was trained on other images than the dataset's
    - `command`: that trained it, where the weights do not record it
    - `reported`: the robust accuracy that the paper states, in percent
    """

    title: str = ""
    authors: str = ""
    link: str = ""
    venue: str = ""
    footnote: str = ""
    additional_data: bool = False
    command: str = ""
    reported: float | None = None

    def __post_init__(self) -> None:
        if self.reported is not None and not 0 <= self.reported <= 100:
            raise bad_value("reported", "be percent, 0 to 100", self.reported)


class Facts(Origin, total=False):
    """What weights record of their training, as far as a card says it."""

    recipe: dict[str, Any] | None
    command: str
    train_digest: str | None


def add(
    weights: Path | str,
    name: str,
    threat: Threat | str,
    *,
    evaluation: Path | str | bool = False,
    count: int | None = None,
    about: About = About(),
    data_dir: Path | None = None,
    overwrite: bool = False,
    device: str = "cpu",
    progress: Callable[[float], None] = lambda fraction: None,
) -> Entry:
    """Copies weights into the user's zoo and makes their card.

    - `weights`: a file, or another address (`weights_at`), of a model that is built by name, with
      the dataset and split that `notbugs train` and `convert` record
    - `threat`: of the evaluation, "l2:0.5"
    - `evaluation`: True runs the standard evaluation, which resumes where it was interrupted; a
      path is that of a file of `notbugs evaluate --json`, of these weights and the first test
      images; False: none, the card then has the clean accuracy alone
    - `count`: evaluate the first so many test images; None: all
    - `overwrite`: replace a model of that name; nothing else is ever replaced

    **Raises** ValueError for a name that cannot be one, or another command than the weights
    record; DataError where the weights are of a module of the user's own, record no dataset, or
    the file is of another evaluation; StoreError for a name that is taken, and where the zoo's
    folder cannot be written.
    """
    if not isinstance(evaluation, bool | str | Path):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise bad_type("evaluation", "True, False or a path", evaluation)
    threat = Threat.parse(threat) if isinstance(threat, str) else threat
    if count is not None:
        check_count(count, "count")
    folder = _free_folder(name, overwrite=overwrite)
    path = weights_at(weights)
    digest = sha256_of(path)
    model, metadata = load(path)
    facts = _facts(path, metadata)
    parts = splits_for(metadata, None, data_dir)
    model = prepare(model, device)
    card = _card(name, str(threat), about, model, facts, path, digest, parts)
    few = parts.test.select(slice(0, count))
    state = _state(model, few, threat) if evaluation is True else None
    if not isinstance(evaluation, bool):
        standard = standard_of(model, parts.test, threat)
        given = read_evaluation(
            Path(evaluation), weights=digest, data=parts.test, threat=threat, standard=standard
        )
        card = _with(card, given)
    with _replacing(folder, overwrite=overwrite) as new:
        _fill(new, path, card)  # before the evaluation: what cannot be written is found out first
        if state is not None:
            verdict = evaluate(model, few, threat, progress=progress, save_to=state, keep=True)
            content = written(verdict, weights=digest, data=few, methods=STANDARD, seed=0)
            _describe(new, _with(card, evaluation_of(content)))
    if state is not None:
        state.unlink(missing_ok=True)  # only now: whatever failed before, the evaluation is kept
    return Entry(folder)


def _card(
    name: str,
    threat: str,
    about: About,
    model: Classifier,
    facts: Facts,
    path: Path,
    digest: str,
    parts: Splits,
) -> Card:
    """The card of a model that was not evaluated."""
    trained_on, architecture = trained_on_of(facts, parts), str(model.architecture)
    info = ModelInfo(
        link=about.link,
        name=about.title or name,
        authors=about.authors,
        additional_data=about.additional_data,
        number_forward_passes=1,
        venue=about.venue,
        clean_acc=f"{accuracy(model, parts.test):.2f}",
        reported=None if about.reported is None else f"{about.reported:.2f}",
        footnote=about.footnote,
        **info_of(threat, trained_on, architecture, None),
    )
    return Card(
        format=FORMAT,
        name=name,
        architecture=architecture,
        options=model.options,
        shape=model.shape,
        classes=model.classes,
        parameters=parameters_of(model),
        bytes=path.stat().st_size,
        sha256=digest,
        trained_on=trained_on,
        recipe=facts.get("recipe"),
        command=_command(facts, about),
        threat=threat,
        model_info=info,
    )


def _free_folder(name: str, *, overwrite: bool) -> Path:
    check_name(name)
    folder = zoo_folder() / name
    if (SHIPPED / name).exists() and folder.resolve() != (SHIPPED / name).resolve():
        remedy = "Choose another."
        raise bad_value("name", "differ from those of models in the package", f"'{name}'", remedy)
    _check_replaceable(folder, overwrite=overwrite)
    return folder


def _check_replaceable(folder: Path, *, overwrite: bool) -> None:
    """Refuses a folder that is there, unless it is a model of the zoo that may be replaced."""
    if not os.path.lexists(folder):
        return
    if not overwrite:
        raise StoreError(
            f"'{folder}' is already there. Choose another name, or pass --overwrite "
            "(overwrite=True) to replace it."
        )
    others = {path.name for path in folder.iterdir()} if folder.is_dir() else {"no folder"}
    if others and (CARD not in others or others - {MODEL, CARD, PAGE}):
        raise StoreError(
            f"'{folder}' is no model of the zoo alone: it is not replaced. Choose another name, or "
            "move it elsewhere."
        )


def _facts(path: Path, metadata: Mapping[str, Any]) -> Facts:
    """What the weights record of their training, for a model of which there can be a card."""
    if metadata["architecture"] is None:
        raise DataError(
            f"'{path}' holds a model that is not built in: a card cannot say how to build it. "
            "Register one of an architecture that notbugs.models.build knows."
        )
    if origin_of(metadata).get("dataset") is None:
        raise DataError(
            f"'{path}' does not say which dataset it belongs to. Save it with "
            "save_model(model, path, metadata={'dataset': 'digits', 'split': {'seed': 0}})."
        )
    try:
        return fit(Facts, dict(metadata))
    except SchemaError as error:
        raise DataError(
            f"What '{path}' says of its training is damaged: {error}. Train it again, or save it "
            "again with `notbugs.models.save`."
        ) from error


def _command(facts: Facts, about: About) -> str:
    recorded = facts.get("command", "")
    if recorded and about.command not in ("", recorded):
        remedy = f"The weights record the command that trained them: {recorded}"
        raise bad_value("command", "be left out", f"'{about.command}'", remedy)
    return recorded or about.command


def trained_on_of(facts: Mapping[str, Any], parts: Splits) -> TrainedOn:
    """The images that weights record, and their split."""
    origin = origin_of(facts)
    return TrainedOn(
        dataset=str(origin.get("dataset")),
        split=origin.get("split") or {"seed": 0},
        train_digest=facts.get("train_digest"),
        test_digest=parts.test.digest,
        test_images=len(parts.test),
    )


def _state(model: Classifier, data: ImageData, threat: Threat) -> Path:
    """The file of the evaluation's state, which is where `notbugs evaluate` keeps it."""
    return state_file(identity(model, data, threat, evaluation_attacks(STANDARD, threat), 0))


def _with(card: Card, evaluation: Evaluation) -> Card:
    """The card with an evaluation."""
    derived = info_of(card.threat, card.trained_on, card.architecture, evaluation)
    return replace(card, evaluation=evaluation, model_info=replace(card.model_info, **derived))


def parameters_of(model: Classifier) -> int:
    """The number of a model's parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


@contextmanager
def _replacing(folder: Path, *, overwrite: bool) -> Generator[Path, None, None]:
    """Yields a new folder to fill, which takes the place of `folder` if the block succeeds.

    A model that is replaced stays until then, and is put back where that fails.

    **Raises** StoreError where `folder` may not be replaced, or cannot be written.
    """
    token = secrets.token_hex(4)
    fresh, old = (folder.with_name(f".{folder.name}.{token}.{end}") for end in ("new", "old"))
    try:
        with new_folder(fresh) as new:
            yield new
        _check_replaceable(folder, overwrite=overwrite)  # it may have appeared since
        with write_errors(folder):
            _swap(folder, fresh, old)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def _swap(folder: Path, fresh: Path, old: Path) -> None:
    """Puts the folder `fresh` in the place of `folder`, which is moved to `old` and deleted."""
    if not os.path.lexists(folder):
        fresh.rename(folder)
        return
    folder.rename(old)
    try:
        fresh.rename(folder)
    except BaseException:
        old.rename(folder)
        raise
    if old.is_symlink():
        old.unlink()  # what it leads to is not of the zoo
    else:
        shutil.rmtree(old, ignore_errors=True)


def _fill(folder: Path, weights: Path, card: Card) -> None:
    """Puts weights and card into a folder."""
    with write_errors(folder):
        shutil.copyfile(weights, folder / MODEL)
    if sha256_of(folder / MODEL) != card.sha256:
        raise DataError(f"'{weights}' was replaced in the meantime. Add it again.")
    _describe(folder, card)


def _describe(folder: Path, card: Card) -> None:
    """Writes a card, and its page."""
    page = page_of(card).encode()
    write_json(folder / CARD, asdict(card))
    write_file(folder / PAGE, lambda file: file.write(page))

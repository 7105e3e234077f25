"""Puts weights into the zoo, with a card that is made from them and from an evaluation."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from notbugs.core.errors import DataError, StoreError, bad_value, check_count
from notbugs.data import ImageData, Splits
from notbugs.data.writing import new_folder, write_errors, write_json
from notbugs.engine import Threat
from notbugs.judge import accuracy, evaluate, evaluation_attacks, identity
from notbugs.judge.ledger import state_file
from notbugs.models import Classifier, load, prepare
from notbugs.models.origin import origin_of, splits_for
from notbugs.models.weights import MODEL
from notbugs.zoo.addresses import weights_at
from notbugs.zoo.card import (
    CARD,
    FORMAT,
    PAGE,
    Card,
    ModelInfo,
    Trained,
    check_name,
    page_of,
)
from notbugs.zoo.evaluation import Evaluation, evaluation_of, read_evaluation, sha256_of, written
from notbugs.zoo.index import SHIPPED, Entry, zoo_folder

STANDARD = ("standard",)


@dataclass(frozen=True)
class About:
    """What a card says of a model that its weights do not: all of it may be left out.

    - `title`: of the paper, or the model; its name without it
    - `additional_data`: whether it was trained on other images than the dataset's
    - `command`: that trained it, where the weights do not record it
    """

    title: str = ""
    authors: str = ""
    link: str = ""
    venue: str = ""
    footnote: str = ""
    additional_data: bool = False
    command: str = ""


def add(
    weights: Path | str,
    name: str,
    threat: Threat | str,
    *,
    evaluation: Path | bool = False,
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
    - `overwrite`: replace a model of that name

    **Raises** ValueError for a name that is taken or cannot be one; DataError where the weights
    are of a module of the user's own, record no dataset, or the file is of another evaluation;
    StoreError where the zoo's folder cannot be written.
    """
    threat = Threat.parse(threat) if isinstance(threat, str) else threat
    if count is not None:
        check_count(count, "count")
    folder = _free_folder(name, overwrite=overwrite)
    path = weights_at(weights)
    digest = sha256_of(path)
    model, facts = load(path)
    parts = _images(path, facts, data_dir)
    model = prepare(model, device)
    if isinstance(evaluation, Path):
        found = read_evaluation(evaluation, weights=digest, data=parts.test, threat=threat)
    else:
        few = parts.test.select(slice(0, count))
        found = _evaluated(model, digest, few, threat, progress) if evaluation else None
    clean = accuracy(model, parts.test)
    info = _info(name, threat, str(model.architecture), facts, clean, found, about)
    card = Card(
        format=FORMAT,
        name=name,
        architecture=str(model.architecture),
        options=model.options,
        shape=model.shape,
        classes=model.classes,
        parameters=parameters_of(model),
        bytes=path.stat().st_size,
        sha256=digest,
        trained_on=_trained_on(facts, parts),
        recipe=facts.get("recipe"),
        command=about.command or facts.get("command", ""),
        threat=str(threat),
        model_info=info,
        evaluation=found,
    )
    _write(folder, path, card)
    return Entry(folder)


def _free_folder(name: str, *, overwrite: bool) -> Path:
    check_name(name)
    folder = zoo_folder() / name
    if (SHIPPED / name).exists() and folder.resolve() != (SHIPPED / name).resolve():
        remedy = "Choose another."
        raise bad_value("name", "differ from those of models in the package", f"'{name}'", remedy)
    if folder.exists() and not overwrite:
        raise StoreError(
            f"'{folder}' is already there. Choose another name, or pass --overwrite "
            "(overwrite=True) to replace it."
        )
    return folder


def _images(path: Path, facts: Mapping[str, Any], data_dir: Path | None) -> Splits:
    """The images that the weights record."""
    if facts["architecture"] is None:
        raise DataError(
            f"'{path}' holds a model that is not built in: a card cannot say how to build it. "
            "Register one of an architecture that notbugs.models.build knows."
        )
    if origin_of(facts).get("dataset") is None:
        raise DataError(
            f"'{path}' does not say which dataset it belongs to. Save it with "
            "save_model(model, path, metadata={'dataset': 'digits', 'split': {'seed': 0}})."
        )
    return splits_for(facts, None, data_dir)


def _evaluated(
    model: Classifier,
    digest: str,
    data: ImageData,
    threat: Threat,
    progress: Callable[[float], None],
) -> Evaluation:
    """The standard evaluation; its state is where `notbugs evaluate` keeps it."""
    attacks = evaluation_attacks(STANDARD, threat)
    state = state_file(identity(model, data, threat, attacks, 0))
    verdict = evaluate(model, data, threat, progress=progress, save_to=state)
    return evaluation_of(written(verdict, weights=digest, data=data, methods=STANDARD, seed=0))


def _trained_on(facts: Mapping[str, Any], parts: Splits) -> Trained:
    origin = origin_of(facts)
    return Trained(
        dataset=str(origin.get("dataset")),
        split=origin.get("split") or {"seed": 0},
        train_digest=facts.get("train_digest"),
        test_digest=parts.test.digest,
        test_images=len(parts.test),
    )


def _info(
    name: str,
    threat: Threat,
    architecture: str,
    facts: Mapping[str, Any],
    clean: float,
    evaluation: Evaluation | None,
    about: About,
) -> ModelInfo:
    robust = None if evaluation is None else f"{evaluation.robust_accuracy:.2f}"
    return ModelInfo(
        link=about.link,
        name=about.title or name,
        authors=about.authors,
        additional_data=about.additional_data,
        number_forward_passes=1,
        dataset=str(origin_of(facts).get("dataset")),
        venue=about.venue,
        architecture=architecture,
        eps=str(threat).partition(":")[2],
        clean_acc=f"{clean:.2f}",
        reported=robust,
        autoattack_acc=robust,
        footnote=about.footnote,
        unreliable=evaluation is not None and evaluation.is_upper_bound,
    )


def parameters_of(model: Classifier) -> int:
    """The number of a model's parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def _write(folder: Path, weights: Path, card: Card) -> None:
    """Weights and card in their folder; a model that is replaced stays until all is written."""
    part = folder.with_name(f".{folder.name}.new")
    with write_errors(folder):
        shutil.rmtree(part, ignore_errors=True)
        with new_folder(part) as new:
            shutil.copyfile(weights, new / MODEL)
            if sha256_of(new / MODEL) != card.sha256:
                raise DataError(f"'{weights}' was replaced in the meantime. Add it again.")
            write_json(new / CARD, asdict(card))
            (new / PAGE).write_text(page_of(card), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        part.replace(folder)

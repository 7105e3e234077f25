"""The producers of the main experiment: the work of each stage."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import torch

from notbugs.core import random
from notbugs.data import ImageData, Planted, Splits, load, safefile, save
from notbugs.data.writing import write_json
from notbugs.engine import Threat
from notbugs.experiments.config import USER
from notbugs.experiments.experiment import DAMAGED as DAMAGED
from notbugs.experiments.experiment import NUMBERS as NUMBERS
from notbugs.experiments.model_training import new_model, restarting, train_in
from notbugs.experiments.shared import digest_of as digest_of
from notbugs.experiments.shared import splits as splits
from notbugs.features import (
    InversionSettings,
    inverted_set,
    leakage_control,
    targeted_set,
)
from notbugs.judge import accuracy, evaluate, evaluation_pgd, predictions
from notbugs.models import Classifier, load_into, prepare
from notbugs.models import load as load_model
from notbugs.models.decision import predicted
from notbugs.models.weights import MODEL
from notbugs.store import StageContext
from notbugs.training import recipe_from_json

DATASET = "data.safetensors"


def splits_of(context: StageContext) -> Splits:
    """The split of the stage's seed."""
    data, settings = context.config["data"], context.settings
    return splits(
        data["name"],
        data["digest"],
        settings.get("data_dir"),
        context.config["seed"],
        data["train_size"],
        data["test_size"],
    )


def train_model(context: StageContext) -> None:
    """Trains one model, on the seed's split or on a constructed set, and saves it."""
    config, parts = context.config, splits_of(context)
    built = context.inputs.get("data")
    data = load(built / DATASET) if built is not None else parts.train
    seed = random.seed_of(config["seed"], config["role"])
    job = partial(
        train_in,
        context.work,
        prepare(_new_model(context, seed), context.settings.get("device", "cpu")),
        data,
        recipe_from_json(config["recipe"]),
        seed=seed,
        metadata=_model_facts(config, data),
        val=parts.val,
        progress=context.progress,
    )
    restarting(lambda restart: job(restart=restart), context.notice)


def _new_model(context: StageContext, seed: int) -> Classifier:
    config, data = context.config, splits_of(context).train
    return new_model(config["architecture"], config["options"], data, seed)


def _model_facts(config: Mapping[str, Any], data: ImageData) -> dict[str, Any]:
    return {
        "dataset": config["data"]["name"],
        "split": {"seed": config["seed"], **config["data"]},
        "trained_on": data.name,
        "training_set": dict(data.provenance),
        "class_names": list(data.class_names),
        "recipe": config["recipe"],
        "role": config["role"],
    }


def model_of(context: StageContext, name: str) -> Classifier:
    """The model of an input, in the configured architecture."""
    path, config = context.inputs[name] / MODEL, context.config
    if config["architecture"] == USER:
        model = _new_model(context, seed=0)
        load_into(model, path)
    else:
        model, _ = load_model(path)
    return prepare(model.eval(), context.settings.get("device", "cpu"))


def build_inverted(context: StageContext) -> None:
    """Builds D_R or D_NR from the seed's training images."""
    config = context.config
    dataset = inverted_set(
        model_of(context, "source"),
        splits_of(context).train,
        name=config["name"],
        seed=random.seed_of(config["seed"], "inverted"),
        settings=InversionSettings(**config["inversion"]),
        batch_size=config["batch_size"],
        precision=config["precision"],
        progress=context.progress,
    )
    save(dataset, context.work / DATASET)


def build_targeted(context: StageContext) -> None:
    """Builds D_rand, D_det or D_other from the seed's training images."""
    config = context.config
    dataset = targeted_set(
        model_of(context, "source"),
        splits_of(context).train,
        config["target_kind"],
        Threat.parse(config["threat"]),
        seed=random.seed_of(config["seed"], "targets"),
        steps=config["steps"],
        step_size=config["step_size"],
        batch_size=config["batch_size"],
        precision=config["precision"],
        progress=context.progress,
    )
    save(dataset, context.work / DATASET)


def build_control(context: StageContext) -> None:
    """Builds the leakage-only control of D_rand, D_det or D_other."""
    config = context.config
    dataset = leakage_control(
        splits_of(context).train,
        config["target_kind"],
        Threat.parse(config["threat"]),
        seed=random.seed_of(config["seed"], "targets"),
    )
    save(dataset, context.work / DATASET)


def measure(context: StageContext) -> None:
    """Measures clean, shifted and robust accuracy of a model on the original test set."""
    config, test = context.config, splits_of(context).test
    model = model_of(context, "model")
    threat = Threat.parse(config["threat"])
    seed = random.seed_of(config["seed"], "measure")
    half, full = threat.scaled(0.5), threat
    verdicts = {}
    for i, (name, radius) in enumerate({"robust_half_eps": half, "robust_eps": full}.items()):
        attack = evaluation_pgd(radius, steps=config["steps"])
        verdicts[name] = evaluate(
            model,
            test,
            radius,
            attacks=[attack],
            seed=seed,
            batch_size=config["batch_size"],
            fast=False,  # a folded copy depends on the processor; numbers must not
            progress=lambda done, i=i: context.progress((i + done) / 2),
        )
    shifted = (test.labels + 1) % test.classes
    built = context.inputs.get("data")
    data = None if built is None else load(built / DATASET)
    numbers: dict[str, float | None] = {
        "clean": accuracy(model, test),
        "shifted": accuracy(model, test, shifted),
        "robust_half_eps": verdicts["robust_half_eps"].robust_accuracy,
        "robust_eps": verdicts["robust_eps"].robust_accuracy,
        **{f"{name}_upper_bound": float(v.is_upper_bound) for name, v in verdicts.items()},
        "zero_gradients": verdicts["robust_eps"].zero_gradients,
        "test_images": len(test),
        **_set_numbers(data),
    }
    if config["data"]["name"] == "planted":
        numbers |= _planted_numbers(model, data or splits_of(context).train, test)
    write_json(context.work / NUMBERS, numbers)


def _set_numbers(data: ImageData | None) -> dict[str, float | None]:
    """Numbers of a constructed set; original images (None) have true labels."""
    if data is None:
        return {"true_labels": 100.0, "source_success": None, "distance": None, "images": None}
    columns = data.columns
    same = (data.labels == columns["true_labels"]).float().mean()
    success = columns.get("success")
    error, distance = columns.get("relative_error"), columns.get("distance")
    moved = columns.get("from_original")
    return {
        "true_labels": 100 * float(same),
        "source_success": None if success is None else 100 * float(success.float().mean()),
        "relative_error": None if error is None else float(error.mean()),
        "from_original": None if moved is None else float(moved.mean()),
        "distance": None if distance is None else float(distance.mean()),
        "images": float(len(data)),
        "dropped": float(str(data.provenance.get("dropped", 0))),
    }


def _planted_numbers(model: Classifier, data: ImageData, test: ImageData) -> dict[str, float]:
    """Numbers against the known truth: features in a set's images and in its model's predictions.

    The set: percent of its images whose planted feature points to the label. The model:
    percent of its predictions that follow the feature, over the test images on which the
    two features disagree.
    """
    truth = Planted()
    robust, nonrobust = test.columns["robust_feature"], test.columns["nonrobust_feature"]
    conflicting = test.select((robust != nonrobust).nonzero()[:, 0])
    labels = predictions(model, conflicting)
    return {
        "planted_robust": _share(truth.decode_robust(data.pixels()), data.labels),
        "planted_nonrobust": _share(truth.decode_nonrobust(data.pixels()), data.labels),
        "model_robust": _share(labels, conflicting.columns["robust_feature"]),
        "model_nonrobust": _share(labels, conflicting.columns["nonrobust_feature"]),
    }


def _share(a: torch.Tensor, b: torch.Tensor) -> float:
    return 100 * float((a == b).float().mean())


def pick_samples(context: StageContext) -> None:
    """Picks pictures for the report: random examples of each set and adversarial examples."""
    config, parts = context.config, splits_of(context)
    order = torch.randperm(len(parts.train), generator=random.generator(config["seed"], "samples"))
    rows = order[: config["count"]]
    tensors = {"D.images": parts.train.pixels(rows), "D.labels": parts.train.labels[rows]}
    for name in config["sets"]:
        data = load(context.inputs[name] / DATASET)
        chosen = _rows_of(data, rows)
        tensors[f"{name}.images"] = data.pixels(chosen)
        tensors[f"{name}.labels"] = data.labels[chosen]
        tensors[f"{name}.true_labels"] = data.columns["true_labels"][chosen]
    tensors |= _adversarial(context, parts.test)
    safefile.write_tensors(context.work / "samples.safetensors", tensors, {})


def _rows_of(data: ImageData, rows: torch.Tensor) -> torch.Tensor:
    """The rows of a constructed set made from training rows; dropped ones are replaced."""
    if "distance" not in data.columns:
        return rows
    places = {int(r): i for i, r in enumerate(data.columns["source_rows"])}
    return torch.tensor([places.get(int(r), int(r) % len(data)) for r in rows])


def _adversarial(context: StageContext, test: ImageData) -> dict[str, torch.Tensor]:
    """Correctly classified test images, attacked on the standard and on the robust model."""
    config = context.config
    threat = Threat.parse(config["threat"])
    attack = evaluation_pgd(threat, steps=config["steps"])
    models = {name: model_of(context, name) for name in ("standard", "robust")}
    device = next(models["standard"].parameters()).device
    some = test.select(slice(0, 64))
    x, y = some.pixels().to(device), some.labels.to(device)
    with torch.no_grad():
        right = (predicted(models["standard"].eval().logits(x)) == y).nonzero()[:, 0]
    x, y = x[right[: config["count"]]], y[right[: config["count"]]]
    tensors = {"adv.images": x, "adv.labels": y}
    for name, model in models.items():
        result = attack(model, x, y, seed=config["seed"], fast=False)
        with torch.no_grad():
            labels = predicted(model.eval().logits(result.x_adv))
        tensors |= {f"adv.{name}.images": result.x_adv, f"adv.{name}.said": labels}
    return {k: v.cpu() for k, v in tensors.items()}

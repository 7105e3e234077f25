"""`notbugs train` and `evaluate`: one model at a time."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from notbugs.attacks import AbstractAttack
from notbugs.cli.common import (
    check_writable,
    device_of,
    images_for,
    moved,
    open_model,
    write_text,
)
from notbugs.cli.logs import Logs
from notbugs.cli.progress import bar, duration
from notbugs.core import random
from notbugs.core.errors import bad_value, check_count, unknown_name
from notbugs.data import ImageData, channel_stats, load_source, split
from notbugs.data.download import cache_folder
from notbugs.engine import Threat
from notbugs.experiments.defaults import training_config, training_recipe
from notbugs.judge import (
    Verdict,
    estimate,
    evaluate,
    evaluation_pgd,
    identity,
    standard_attacks,
)
from notbugs.models import build, prepare
from notbugs.models import save as save_model
from notbugs.training import Recipe, recipe_as_json, train
from notbugs.training import estimate as cost_of

LOOKS = 10
"""Looks at held-out accuracy in the course of a training whose recipe says nothing of it."""


@dataclass(frozen=True)
class Train:
    """Train a model and save it with its recipe.

    The folder gets model.safetensors, metrics.jsonl (a line an epoch) and training.png.

    Try:
      notbugs train --out models/plain
      notbugs train --recipe pgd --threat l2:1.0 --out models/robust
    """

    out: Path
    """Folder for model.safetensors, metrics.jsonl, training.png, and the checkpoint meanwhile."""
    data: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, planted, or folder:PATH."""
    recipe: str = "standard"
    """standard, l1, l2, lipschitz; with a threat: pgd (Madry et al.), fgsm (mixed with clean
    images), fast, n-fgsm, free, trades, mart, awp, scaled-gradient, rotation, hidden; and the
    controls noise-signs, noise-uniform, noise-gaussian."""
    threat: str | None = None
    """norm:eps, e.g. l2:1.0 or linf:8/255; the dataset's default without it."""
    architecture: str | None = None
    """A built-in architecture; the dataset's default without it."""
    epochs: int | None = None
    """Epochs; the dataset's default without it."""
    train_size: int | None = None
    """Images to train on (10 % of them held out)."""
    seed: int = 0
    """Varies split, weights, order and adversary."""
    tensorboard: bool = False
    """Also write TensorBoard's event files to the folder (needs the package tensorboard)."""
    data_dir: Path | None = None
    """Where the dataset's files lie."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def run(self, console: Console) -> None:
        """Trains, saves, and prints held-out accuracy."""
        if self.out.exists() and not self.out.is_dir():
            raise bad_value("--out", "be a folder, or not there yet", f"'{self.out}', a file")
        config = training_config(self.data, self.threat)
        size = config.train_size if self.train_size is None else self.train_size
        recipe = training_recipe(config, self.recipe, self.threat)
        parts = split(load_source(self.data, self.data_dir), seed=self.seed, train_size=size)
        if self.epochs is not None:
            recipe = replace(recipe, epochs=self.epochs)
        if not recipe.watch_every:
            recipe = replace(recipe, watch_every=max(1, recipe.epochs // LOOKS))
        mean, std = channel_stats(parts.train)
        architecture = self.architecture or config.architecture
        model = build(
            architecture,
            shape=parts.train.shape,
            classes=parts.train.classes,
            seed=random.seed_of(self.seed, self.recipe),
            mean=mean,
            std=std,
            options=config.options if architecture == config.architecture else {},
        )
        model = prepare(model, device_of(self.device))
        checkpoint = self.out / "checkpoint.safetensors"
        against = "" if recipe.adversary is None else f" at {recipe.adversary.threat}"
        cost = duration(cost_of(model, parts.train, recipe))
        console.print(
            f"Recipe {self.recipe}{against}, {recipe.epochs} epochs: about {cost} of training."
        )
        logs = Logs(self.out, tensorboard=self.tensorboard, resumed=checkpoint.exists())
        with bar(console, f"train {architecture} on {self.data}") as progress:
            done = train(
                model,
                parts.train,
                recipe,
                seed=random.seed_of(self.seed, self.recipe),
                val=parts.val,
                checkpoint_path=checkpoint,
                progress=progress,
                on_epoch=logs.write,
            )
        logs.draw(done.history)
        facts = {
            "dataset": self.data,
            "split": {"seed": self.seed, "train_size": size, "test_size": None},
            "trained_on": parts.train.name,
            "class_names": list(parts.train.class_names),
            "recipe": recipe_as_json(recipe),
            "history": done.history,
        }
        path = self.out / "model.safetensors"
        save_model(model.cpu(), path, metadata=facts)
        checkpoint.unlink(missing_ok=True)
        at = Threat.parse(self._watched(recipe, config.norm, config.eps_eval))
        verdict = evaluate(model, parts.val, at, attacks=[evaluation_pgd(at)], seed=self.seed)
        console.print(
            f"Held-out validation ({verdict.n} images): clean {verdict.clean:.1f} %, "
            f"robust at {at} {verdict.robust:.1f} % (PGD-20). {duration(done.seconds)}."
        )
        if done.stopped:
            console.print(done.stopped)
        console.print(f"Model: {path}", soft_wrap=True)

    def _watched(self, recipe: Recipe, norm: str, eps: float) -> str:
        if recipe.watch_threat is not None:
            return recipe.watch_threat
        return f"{norm}:{eps}" if recipe.adversary is None else recipe.adversary.threat


@dataclass(frozen=True)
class Evaluate:
    """Measure clean and robust accuracy: worst case per image over an ensemble of attacks.

    The state is saved after every batch: the same command goes on where it was stopped.

    Try:
      notbugs evaluate runs/demo/models/robust-seed0.safetensors --threat l2:0.5
      notbugs evaluate w.safetensors --threat l2:1 --data mnist --model net.py:make --embedding fc1
    """

    weights: Annotated[Path, tyro.conf.Positional]
    """A .safetensors file."""
    threat: str
    """norm:eps, e.g. linf:8/255 or l2:0.5 (pixel units of [0, 1])."""
    data: str | None = None
    """Another dataset, or a saved set (.safetensors), than the weights name."""
    data_dir: Path | None = None
    """Where the dataset's files lie."""
    model: str | None = None
    """Your own model: path/to/file.py:factory."""
    embedding: str | None = None
    """With --model: the layer whose output is the embedding."""
    method: str = "standard"
    """standard (the ensemble of AutoAttack's standard version) or pgd (quick, weaker)."""
    steps: int | None = None
    """With pgd: steps, of length eps / 5; 20 without it."""
    restarts: int | None = None
    """With pgd: random starts for each image that still stands; 1 without it."""
    samples: int = 1
    """For a model that is random: passes that attacks average, and whose majority decides."""
    thorough: bool = False
    """With standard: spend the whole budget on every image, also where progress is hopeless."""
    fast: bool = True
    """Let attacks work on a faster stand-in; each success is confirmed by the model itself."""
    batch_size: int | None = None
    """Images at once; 128 on a CPU and 1,024 on a GPU without it."""
    count: int | None = None
    """Images to evaluate; all test images without it."""
    seed: int = 0
    """Seed of the attacks' randomness; the images are the split's own."""
    json: Path | None = None
    """Write the verdict to this file."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def run(self, console: Console) -> None:
        """Evaluates and prints the verdict."""
        threat = Threat.parse(self.threat)
        named = self.data if self.model is not None else None
        source = load_source(named, self.data_dir) if named else None
        model, facts = open_model(self.weights, self.model, self.embedding, source)
        data = images_for("test", facts, self.data, self.data_dir, None, self.count)
        model = moved(model, self.device)
        attacks, seed = self._attacks(threat), self.seed
        if self.json is not None:
            check_writable(self.json)
        worst = estimate(model, data, attacks, fast=self.fast)
        console.print(f"At most about {duration(worst)}, if every image stands to the end.")
        state = _state_file(identity(model, data, threat, attacks, seed, self.samples))
        if state.exists():
            console.print("Going on from where this evaluation was stopped.")
        with bar(console, f"{self.method} on {len(data)} images") as progress:
            verdict = evaluate(
                model,
                data,
                threat,
                attacks=attacks,
                seed=seed,
                batch_size=self.batch_size,
                fast=self.fast,
                progress=progress,
                save_to=state,
                diagnosis=self.method == "standard",
                samples=self.samples,
            )
        self._print(console, data, verdict)
        for line in verdict.masking:
            console.print(f"Masking check: {line['check']}: {line['evidence']}: {line['verdict']}.")
        if self.json is not None:
            write_text(self.json, json.dumps(verdict.as_json(), indent=1))
            console.print(f"Verdict: {self.json}", soft_wrap=True)

    def _attacks(self, threat: Threat) -> Sequence[AbstractAttack]:
        chosen = {"steps": self.steps, "restarts": self.restarts}
        given = {name: value for name, value in chosen.items() if value is not None}
        if self.method == "standard":
            for name, value in given.items():
                raise bad_value(f"--{name}", "come with --method pgd", value)
            return standard_attacks(threat, samples=self.samples, thorough=self.thorough)
        if self.thorough:
            raise bad_value("--thorough", "come with --method standard", self.method)
        if self.method != "pgd":
            raise unknown_name("method", self.method, ("standard", "pgd"))
        check_count(self.samples, "--samples")
        return [evaluation_pgd(threat, **given).averaging(self.samples)]

    def _print(self, console: Console, data: ImageData, verdict: Verdict) -> None:
        low, high = verdict.ci95
        table = Table(
            title=f"{data.name}, {verdict.n} images, {verdict.threat} (pixel units of [0, 1])"
        )
        for name in ("", "broken", "standing %", "seconds"):
            table.add_column(name, justify="left" if not name else "right")
        standing = int(verdict.right.sum())
        table.add_row("clean", str(verdict.n - standing), f"{verdict.clean:.2f}", "")
        for attack in verdict.attacks:
            standing -= attack.broken
            share = 100 * standing / verdict.n
            table.add_row(attack.name, str(attack.broken), f"{share:.2f}", f"{attack.seconds:.1f}")
        console.print(table)
        console.print(
            f"Robust accuracy {verdict.robust:.2f} % (95 % interval over images: "
            f"{low:.1f} to {high:.1f}); {verdict.forwards / verdict.n:.0f} forward passes an image."
        )
        left = [attack for attack in verdict.attacks if attack.given_up]
        if left:
            checked, fallen = sum(a.checked for a in left), sum(a.fallen for a in left)
            console.print(
                f"Attacks left images on which they progressed too slowly; {checked} of those "
                f"were attacked to the end as a check, and {fallen} of them fell."
            )
        if verdict.samples > 1:
            console.print(
                f"The model is taken as random: attacked on the average of {verdict.samples} "
                "passes, and judged by the majority of as many."
            )


def _state_file(name: str) -> Path:
    """Where an evaluation keeps its state: by what it is, so that it finds its own again."""
    return cache_folder() / "evaluations" / f"{name[:32]}.json"

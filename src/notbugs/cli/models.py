"""`notbugs train`, `evaluate` and `attack`: one model at a time."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from rich.console import Console
from rich.table import Table

from notbugs.attacks import AbstractAttack, AttackResult
from notbugs.cli.common import device_of, images_for, moved, open_model
from notbugs.cli.methods import attack_named
from notbugs.cli.progress import bar, duration
from notbugs.core import random
from notbugs.core.errors import StoreError, bad_value, check_count, unknown_name
from notbugs.data import ImageData, channel_stats, export_folder, load_source, save, split
from notbugs.data.download import cache_folder
from notbugs.engine import Threat
from notbugs.experiments.config import config_for, recipe_as_json
from notbugs.judge import (
    Verdict,
    estimate,
    evaluate,
    evaluation_pgd,
    identity,
    standard_attacks,
)
from notbugs.models import Classifier, build, prepare
from notbugs.models import save as save_model
from notbugs.training import Adversary, train

RECIPES = ("standard", "pgd")


@dataclass(frozen=True)
class Train:
    """Train a model and save it with its recipe.

    Try:
      notbugs train --out models/plain
      notbugs train --recipe pgd --threat l2:1.0 --out models/robust
    """

    out: Path
    """Folder for model.safetensors (and the checkpoint while it trains)."""
    data: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, planted, or folder:PATH."""
    recipe: str = "standard"
    """standard, or pgd (adversarial training of Madry et al.)."""
    threat: str | None = None
    """With pgd: norm:eps, e.g. l2:1.0 or linf:8/255."""
    architecture: str | None = None
    """A built-in architecture; the dataset's default without it."""
    epochs: int | None = None
    """Epochs; the dataset's default without it."""
    train_size: int | None = None
    """Images to train on (10 % of them held out)."""
    seed: int = 0
    """Varies split, weights, order and adversary."""
    data_dir: Path | None = None
    """Where the dataset's files lie."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def run(self, console: Console) -> None:
        """Trains, saves, and prints held-out accuracy."""
        if self.recipe not in RECIPES:
            raise unknown_name("recipe", self.recipe, RECIPES)
        config = config_for(self.data, "laptop")
        size = config.train_size if self.train_size is None else self.train_size
        parts = split(load_source(self.data, self.data_dir), seed=self.seed, train_size=size)
        recipe = config.robust if self.recipe == "pgd" else config.standard
        if self.epochs is not None:
            recipe = replace(recipe, epochs=self.epochs)
        if self.threat is not None:
            threat = str(Threat.parse(self.threat))
            if recipe.adversary is None:
                raise bad_value("--threat", "come with --recipe pgd", self.threat)
            recipe = replace(recipe, adversary=replace(recipe.adversary, threat=threat))
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
        with bar(console, f"train {architecture} on {self.data}") as progress:
            done = train(
                model,
                parts.train,
                recipe,
                seed=random.seed_of(self.seed, self.recipe),
                val=parts.val,
                checkpoint_path=checkpoint,
                progress=progress,
            )
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
        at = Threat.parse(self._watched(recipe.adversary, config.norm, config.eps_eval))
        verdict = evaluate(model, parts.val, at, attacks=[evaluation_pgd(at)], seed=self.seed)
        console.print(
            f"Held-out validation ({verdict.n} images): clean {verdict.clean:.1f} %, "
            f"robust at {at} {verdict.robust:.1f} % (PGD-20). {duration(done.seconds)}."
        )
        console.print(f"Model: {path}", soft_wrap=True)

    def _watched(self, adversary: Adversary | None, norm: str, eps: float) -> str:
        return f"{norm}:{eps}" if adversary is None else adversary.threat


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
            _check_writable(self.json)
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
            _write(self.json, json.dumps(verdict.as_json(), indent=1))
            console.print(f"Verdict: {self.json}", soft_wrap=True)

    def _attacks(self, threat: Threat) -> Sequence[AbstractAttack]:
        chosen = {"steps": self.steps, "restarts": self.restarts}
        given = {name: value for name, value in chosen.items() if value is not None}
        if self.method == "standard":
            for name, value in given.items():
                raise bad_value(f"--{name}", "come with --method pgd", value)
            return standard_attacks(threat, samples=self.samples)
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
        checked = sum(attack.checked for attack in verdict.attacks)
        if checked:
            fallen = sum(attack.fallen for attack in verdict.attacks)
            console.print(
                f"Attacks give up on images that progress too slowly: {checked} of those were "
                f"attacked to the end as a check, and {fallen} of them fell."
            )
        if verdict.samples > 1:
            console.print(
                f"The model is taken as random: attacked on the average of {verdict.samples} "
                "passes, and judged by the majority of as many."
            )


@dataclass(frozen=True)
class AttackCommand:
    """Attack a model's test images and save the adversarial examples.

    Try:
      notbugs attack model.safetensors --threat linf:8/255 --method fgsm
      notbugs attack model.safetensors --threat l2:1 --target 3 --save adv.safetensors --png adv
      notbugs attack model.safetensors --threat l2:0.5 --method cw
    """

    weights: Annotated[Path, tyro.conf.Positional]
    """A .safetensors file."""
    threat: str
    """norm:eps, e.g. linf:8/255 or l2:0.5 (pixel units of [0, 1])."""
    method: str = "pgd"
    """Within the threat: fgsm, pgd, bim, least-likely, mim, di, ti, apgd, apgd-targeted, fab,
    square. The nearest success in the threat's norm: fab-nearest, fmn, deepfool, ddn, alma, cw,
    cw-linf, cw-l0, ead, lbfgs, hop-skip-jump."""
    target: int | None = None
    """A class to reach: a targeted attack on the images that are not of it."""
    steps: int | None = None
    """Steps (queries of square); the method's default without it."""
    step_size: float | None = None
    """Length of a step; the method's default without it (pgd: 2.5 * eps / steps)."""
    restarts: int | None = None
    """Random starts for each image that still stands."""
    count: int | None = None
    """Images to attack; all test images without it."""
    save: Path | None = None
    """Write the adversarial images, lossless, to this .safetensors file."""
    png: Path | None = None
    """Write them as PNG into this folder (rounded; success is checked again)."""
    data: str | None = None
    """Another dataset, or a saved set (.safetensors), than the weights name."""
    data_dir: Path | None = None
    """Where the dataset's files lie."""
    model: str | None = None
    """Your own model: path/to/file.py:factory."""
    embedding: str | None = None
    """With --model: the layer whose output is the embedding."""
    seed: int = 0
    """Seed of the random starts."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def run(self, console: Console) -> None:
        """Attacks, prints the rates, saves what was asked for."""
        threat = Threat.parse(self.threat)
        named = self.data if self.model is not None else None
        source = load_source(named, self.data_dir) if named else None
        model, facts = open_model(self.weights, self.model, self.embedding, source)
        data = images_for("test", facts, self.data, self.data_dir, None, self.count)
        model = moved(model, self.device)
        data, targets = self._aimed(data)
        attack = self._attack(threat)
        with bar(console, f"{attack.name} on {len(data)} images") as progress:
            found = _attacked(attack, model, data, targets, self.seed, progress)
        x_adv = torch.cat([part.x_adv.cpu() for part in found])
        success = torch.cat([part.success.cpu() for part in found])
        wrong = torch.cat([part.already_wrong.cpu() for part in found])
        distance = torch.cat([part.distance.cpu() for part in found])
        goal = "misclassified" if self.target is None else f"classified as {self.target}"
        console.print(
            f"{attack.name}, {threat} (pixel units of [0, 1]), {len(data)} images: "
            f"{100 * float(success.float().mean()):.1f} % {goal}; "
            f"{100 * float(wrong.float().mean()):.1f} % were already wrong; "
            f"mean {threat.norm.name} distance {float(distance.mean()):.4f}."
        )
        if attack.threat is None and bool(success.any()):
            near = distance[success]
            share = 100 * float((near <= threat.eps).sum()) / len(data)
            console.print(
                f"Distance of the nearest successes: median {float(near.median()):.4f}, largest "
                f"{float(near.max()):.4f}; {share:.1f} % of the images fall within {threat}."
            )
        if self.save is not None or self.png is not None:
            self._save(console, model, data, x_adv, success, threat, attack)

    def _aimed(self, data: ImageData) -> tuple[ImageData, torch.Tensor | None]:
        if self.target is None:
            return data, None
        if not 0 <= self.target < data.classes:
            raise bad_value("--target", f"lie in 0..{data.classes - 1}", self.target)
        data = data.select((data.labels != self.target).nonzero()[:, 0])
        return data, torch.full_like(data.labels, self.target)

    def _attack(self, threat: Threat) -> AbstractAttack:
        return attack_named(
            self.method,
            threat,
            steps=self.steps,
            step_size=self.step_size,
            restarts=self.restarts,
        )

    def _save(
        self,
        console: Console,
        model: Classifier,
        data: ImageData,
        x_adv: torch.Tensor,
        success: torch.Tensor,
        threat: Threat,
        attack: AbstractAttack,
    ) -> None:
        facts = {
            "recipe": attack.name,
            "norm": threat.norm.name,
            "eps": threat.eps,
            "attack": repr(attack),
            "seed": self.seed,
            "source": {"data": data.name, "digest": data.digest},
        }
        made = ImageData(
            x_adv, data.labels, data.class_names, f"{data.name}-adv", facts, {"success": success}
        )
        if self.save is not None:
            save(made, self.save)
            console.print(f"Adversarial images: {self.save}", soft_wrap=True)
        if self.png is not None:
            export_folder(made, self.png)
            self._check_rounded(console, model, made, success)

    def _check_rounded(
        self, console: Console, model: Classifier, made: ImageData, success: torch.Tensor
    ) -> None:
        """8-bit pixels move every value by up to 1/510: the attack may not survive it."""
        rounded = (made.pixels() * 255).round() / 255
        device = next(iter(model.buffers())).device
        with torch.no_grad():
            said = torch.cat(
                [model.logits(p.to(device)).argmax(dim=1).cpu() for p in rounded.split(256)]
            )
        still = said == self.target if self.target is not None else said != made.labels
        still &= success
        console.print(
            f"PNG images: {self.png} ({int(still.sum())} of {int(success.sum())} successes "
            "hold after rounding to 8 bits)",
            soft_wrap=True,
        )


def _attacked(
    attack: AbstractAttack,
    model: Classifier,
    data: ImageData,
    targets: torch.Tensor | None,
    seed: int,
    progress: object,
) -> list[AttackResult]:
    device = next(iter(model.buffers())).device
    keys = random.row_keys(len(data), seed, "attack")
    found: list[AttackResult] = []
    for index in torch.arange(len(data)).split(256):
        x, y = data.pixels(index).to(device), data.labels[index].to(device)
        aims = None if targets is None else targets[index].to(device)
        found.append(attack(model, x, y, targets=aims, keys=keys[index]))
        if callable(progress):
            progress((int(index[-1]) + 1) / len(data))
    return found


def _state_file(name: str) -> Path:
    """Where an evaluation keeps its state: by what it is, so that it finds its own again."""
    return cache_folder() / "evaluations" / f"{name[:32]}.json"


def _check_writable(path: Path) -> None:
    """Refuses a file that cannot be written before hours are spent on its content."""
    there = path.exists()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.open("a").close()
    except OSError as error:
        raise StoreError(
            f"Cannot write '{path}': {error.strerror}. Choose another file."
        ) from error
    if not there:
        path.unlink()


def _write(path: Path, text: str) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    except OSError as error:
        raise StoreError(
            f"Cannot write '{path}': {error.strerror}. Choose another file."
        ) from error

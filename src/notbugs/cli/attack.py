"""`notbugs attack`: adversarial examples of one model, saved, and drawn as curves."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import torch
import tyro
from rich.console import Console
from torch import Tensor

from notbugs.attacks import AbstractAttack
from notbugs.attacks.named import attack_named, method_named, numbered
from notbugs.attacks.result import percent
from notbugs.cli.attack_run import AttackOutcome, AttackRun
from notbugs.cli.common import below_chance, check_taken
from notbugs.cli.curves import MOST_RADII, curves_of, draw_curves, radii_up_to
from notbugs.cli.kinds import ATTACKED, FOLDER, PICTURE
from notbugs.cli.outputs import Output, check_outputs, set_at, write_numbers
from notbugs.cli.progress import bar
from notbugs.cli.subject import OfImages, SomeImages
from notbugs.core.errors import bad_value, check_count
from notbugs.data import ImageData, export_folder, save
from notbugs.data.files import SUFFIX
from notbugs.engine import Threat
from notbugs.judge import Distances
from notbugs.judge.fingerprint import described
from notbugs.models import Classifier


@dataclass(frozen=True)
class Files:
    """Nothing is written without these."""

    save: Path | None = None
    """Write the adversarial images, lossless, to this .safetensors file."""
    png: Path | None = None
    """Write them as PNG into this folder: in 8 bits, success checked again; within the threat, or,
    of a method for the nearest success, as far as it found."""
    plot: Path | None = None
    """Draw robust accuracy against eps to this .png file, beside the distances (of a minimum-norm
    method) or the loss against steps (of a method within the threat)."""
    radii: int | None = None
    """With --plot or --json, for a method within the threat: how many radii up to 2 * eps the
    curve has; 8 with --plot."""
    json: Path | None = None
    """Write the rates (percent), the mean distance over images that the attack broke, and the
    numbers of the curves to this file."""
    overwrite: bool = False
    """Replace files of those names that notbugs did not write; never what a folder holds."""

    @property
    def curved(self) -> bool:
        """Whether curves are drawn, or their numbers written."""
        return self.plot is not None or self.radii is not None

    def of(self, name: str) -> "Files":
        """The files of one of several methods."""
        paths = {flag: getattr(self, flag) for flag in ("save", "plot", "json")}
        named = {
            flag: path.with_name(f"{path.stem}-{name}{path.suffix}")
            for flag, path in paths.items()
            if path is not None
        }
        return replace(self, png=None if self.png is None else self.png / name, **named)

    def outputs(self) -> dict[str, Output]:
        """The files of one method, by flag."""
        if self.save is not None and self.save.suffix != SUFFIX:
            raise bad_value("--save", f"end in {SUFFIX}", f"'{self.save}'", f"Add {SUFFIX}.")
        outputs = {} if self.save is None else set_at(self.save, "--save")
        for flag, path, kind in (
            ("--plot", self.plot, PICTURE),
            ("--json", self.json, ATTACKED),
            ("--png", self.png, FOLDER),
        ):
            if path is not None:
                outputs[flag] = Output(path, kind)
        return outputs


@dataclass(frozen=True)
class AttackCommand:
    """Attack a model's test images and save the adversarial examples.

    Try:
      notbugs attack model.safetensors --threat linf:8/255 --method fgsm
      notbugs attack model.safetensors --threat l2:1 --target 3 --save adv.safetensors --png adv
      notbugs attack model.safetensors --threat l2:0.5 --method fmn --plot curves.png
      notbugs attack model.safetensors --threat l2:0.5 --method pgd-20 cw --png adv
    """

    weights: Annotated[Path, tyro.conf.Positional]
    """A .safetensors file, the folder that train wrote, zoo:NAME, hub:OWNER/REPO or
    imagenet:NAME; with --model also a file of torch.save (.pt)."""
    threat: str
    """norm:eps, e.g. linf:8/255 or l2:0.5 (pixel units of [0, 1])."""
    method: tuple[str, ...] = ("pgd",)
    """One or several; pgd-20 takes 20 steps. Within the threat: fgsm, pgd, bim, least-likely, mim,
    di, ti, eot, apgd, apgd-targeted, fab, square. The nearest success in the threat's norm:
    fab-nearest, fmn, deepfool, ddn, alma, cw, cw-linf, cw-l0, ead, lbfgs, jsma, hop-skip-jump.
    Of several, each writes files of its own: adv.safetensors becomes adv-pgd.safetensors, and
    PNGs lie in a folder for each."""
    target: int | None = None
    """Targeted attack: the class to reach, on all images of other classes."""
    steps: int | None = None
    """Steps (queries of square); the method's default without it."""
    step_size: float | None = None
    """Length of a step; the method's default without it (pgd: 2.5 * eps / steps)."""
    restarts: int | None = None
    """Random starts for each image that is not yet broken."""
    confidence: float | None = None
    """Of cw, cw-linf, cw-l0 and ead: the margin in logits that a success must have; a larger one
    also holds after rounding, and transfers better."""
    seed: int = 0
    """Seed of the random starts."""
    files: Annotated[Files, tyro.conf.arg(name="file")] = Files()
    given: OfImages = SomeImages()

    @property
    def draws(self) -> bool:
        """Whether there will be a picture."""
        return self.files.plot is not None

    def run(self, console: Console) -> None:
        """Attacks, prints the rates, and writes the requested files."""
        if len({numbered(method) for method in self.method}) < len(self.method):
            raise bad_value("--method", "name each method once", ", ".join(self.method))
        threat = Threat.parse(self.threat)
        parts = [self._alone(method) for method in self.method]
        outputs = dict[str, Output]()
        for part in parts:
            part._check_curves(part._attack(threat))
            of = f" of {part.method[0]}" * (len(parts) > 1)
            outputs |= {f"{flag}{of}": output for flag, output in part.files.outputs().items()}
        inputs = self.given.inputs(self.weights)
        check_outputs(outputs, inputs, overwrite=self.files.overwrite)
        model, facts = self.given.opened(self.weights)
        data = self.given.chosen("test", facts)
        data, targets = self._aimed(data)
        self._check_pictures(data)
        broken = torch.zeros(len(data), dtype=torch.bool)
        for part in parts:
            broken |= part._attacked(console, threat, model, data, targets)
        if len(parts) > 1:
            console.print(f"By any of them: {percent(broken):.1f} % {self._goal} within {threat}.")

    def _alone(self, method: str) -> "AttackCommand":
        """This command for one of its methods, with files of its own where it has several."""
        if len(self.method) == 1:
            return self
        method_named(method)  # refuses what is no name
        plain, steps = numbered(method)
        name = plain if steps is None else f"{plain}-{steps}"
        return replace(self, method=(method,), files=self.files.of(name))

    def _attacked(
        self,
        console: Console,
        threat: Threat,
        model: Classifier,
        data: ImageData,
        targets: Tensor | None,
    ) -> Tensor:
        """Attacks by one method, and writes the files; returns the successes in the threat, [n]."""
        attack = self._attack(threat)
        run = AttackRun(attack, threat, model, data, targets, self.seed)
        with bar(console, f"{attack.name} on {len(data)} images") as progress:
            outcome = run.attack_all(
                progress, traced=self.files.curved and attack.threat is not None
            )
        self._print(console, outcome)
        facts = outcome.as_json() | {"target": self.target}
        if self.files.save is not None:
            save(self._set(outcome, outcome.x_adv, {"distance": outcome.distance}), self.files.save)
            console.print(f"Adversarial images: {self.files.save}", soft_wrap=True)
        if self.files.png is not None:
            facts["png"] = self._pictures(console, outcome, self.files.png)
        if self.files.curved:
            facts["curves"] = self._curves(console, outcome)
        if self.files.json is not None:
            write_numbers(self.files.json, facts)
            console.print(f"Numbers: {self.files.json}", soft_wrap=True)
        return outcome.within

    def _attack(self, threat: Threat) -> AbstractAttack:
        (method,) = self.method
        names = ("steps", "step_size", "restarts", "confidence")
        options = {name: getattr(self, name) for name in names}
        check_taken(method, options)
        return attack_named(method, threat, **options)

    def _check_curves(self, attack: AbstractAttack) -> None:
        if self.files.plot is not None and self.files.plot.suffix != ".png":
            raise bad_value("--plot", "end in .png", f"'{self.files.plot}'", "Add .png.")
        if self.files.curved and self.target is not None:
            raise bad_value(
                "--target",
                "be left out with --plot or --radii",
                self.target,
                "Robust accuracy counts any wrong class.",
            )
        if self.files.radii is None:
            return
        check_count(self.files.radii, "--radii")
        if attack.threat is None:
            raise bad_value(
                "--radii",
                f"be left out for {self.method[0]}",
                self.files.radii,
                "Its curve is exact at every radius.",
            )
        if self.files.plot is None and self.files.json is None:
            raise bad_value("--radii", "come with --plot or --json", self.files.radii)

    def _check_pictures(self, data: ImageData) -> None:
        if self.files.png is not None and data.shape[0] not in (1, 3, 4):
            raise bad_value(
                "--png", "be for images of 1, 3 or 4 channels", data.shape[0], "Use --save."
            )

    def _aimed(self, data: ImageData) -> tuple[ImageData, Tensor | None]:
        if self.target is None:
            return data, None
        if not 0 <= self.target < data.classes:
            raise bad_value("--target", f"lie in 0..{data.classes - 1}", self.target)
        data = data.select((data.labels != self.target).nonzero()[:, 0])
        return data, torch.full_like(data.labels, self.target)

    def _print(self, console: Console, outcome: AttackOutcome) -> None:
        threat, attack, n = outcome.run.threat, outcome.run.attack, len(outcome.run.data)
        nearest, mean = attack.threat is None, self._mean(outcome)
        if odd := below_chance(int((~outcome.wrong).sum()), n, outcome.run.data.classes):
            console.print(odd)
        console.print(
            f"{attack.name}, {threat} (pixel units of [0, 1]), {n} images: "
            f"{percent(outcome.within):.1f} % {self._goal}; "
            f"{outcome.wrong_rate:.1f} % were already wrong{'' if nearest else f'; {mean}'}."
        )
        if nearest:
            console.print(f"At any distance: {outcome.success_rate:.1f} %; {mean}{_far(outcome)}.")

    @property
    def _goal(self) -> str:
        return "misclassified" if self.target is None else f"classified as {self.target}"

    def _mean(self, outcome: AttackOutcome) -> str:
        if outcome.mean_distance is None:
            return "no image was broken"
        norm, count = outcome.run.threat.norm.name, int(outcome.broken.sum())
        broken = "the 1 broken image" if count == 1 else f"the {count} broken images"
        return f"mean {norm} distance of {broken} {outcome.mean_distance:.4f}"

    def _set(self, outcome: AttackOutcome, images: Tensor, columns: dict[str, Tensor]) -> ImageData:
        run = outcome.run
        facts = {
            "recipe": run.attack.name,
            "norm": run.threat.norm.name,
            "eps": run.threat.eps,
            "attack": described(run.attack),
            "target": self.target,
            "seed": self.seed,
            "source": {"data": run.data.name, "digest": run.data.digest},
        }
        columns = {"success": outcome.success, "already_wrong": outcome.wrong} | columns
        data = run.data
        labels = data.labels.cpu()
        return ImageData(images, labels, data.class_names, f"{data.name}-adv", facts, columns)

    def _pictures(self, console: Console, outcome: AttackOutcome, folder: Path) -> dict[str, Any]:
        """Writes the images in 8 bits; returns how many successes remain."""
        rounded = outcome.rounded
        held = int((rounded.success & outcome.success).sum())
        columns = {"success": rounded.success, "distance": rounded.distance}
        export_folder(self._set(outcome, rounded.images, columns), folder)
        text = f"{held} of {int(outcome.success.sum())} successes hold after rounding to 8 bits"
        if bool(rounded.shrunk.any()):
            text += f"; {int(rounded.shrunk.sum())} changes made smaller to stay within the threat"
        console.print(f"PNG images: {folder} ({text})", soft_wrap=True)
        return {
            "attack_success_rate": percent(rounded.success),
            "held": held,
            "shrunk": int(rounded.shrunk.sum()),
            "largest_distance": float(rounded.distance.max()),
        }

    def _curves(self, console: Console, outcome: AttackOutcome) -> dict[str, Any]:
        """Computes the curves, draws them if asked to, and returns their numbers."""
        run = outcome.run
        radii = radii_up_to(
            run.threat, MOST_RADII if self.files.radii is None else self.files.radii
        )
        label = f"{run.attack.name} at {len(radii)} radii"
        with bar(console, label) as progress:
            curves = curves_of(
                run.attack,
                outcome.parts,
                outcome.traces,
                make=lambda eps: self._attack(Threat(run.threat.norm, eps)),
                model=run.model,
                data=run.data,
                radii=radii,
                seed=self.seed,
                progress=progress,
            )
        if self.files.plot is not None:
            draw_curves(curves, run.attack.name, self.files.plot)
            console.print(f"Curves: {self.files.plot}", soft_wrap=True)
        return curves.as_json()


def _far(outcome: AttackOutcome) -> str:
    """The median over correctly classified images; unbroken ones count as infinitely far."""
    if outcome.mean_distance is None:
        return ""
    distances = Distances.of(outcome.run.attack, outcome.parts)
    never = f" (infinite for {distances.unbroken} never broken)" if distances.unbroken else ""
    largest = float(outcome.distance[outcome.broken].max())
    return f", median {distances.median:.4f}{never}, largest {largest:.4f}"

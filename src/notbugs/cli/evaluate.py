"""`notbugs evaluate`: clean and robust accuracy of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console
from rich.table import Table

from notbugs.attacks import AbstractAttack
from notbugs.cli.common import below_chance, check_taken
from notbugs.cli.kinds import EVALUATED
from notbugs.cli.outputs import Output, check_outputs, write_numbers
from notbugs.cli.progress import bar, duration
from notbugs.cli.subject import OfImages, SomeImages
from notbugs.core import processes
from notbugs.core.errors import bad_value, unknown_name
from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.judge import (
    Verdict,
    estimate,
    evaluate,
    evaluation_attacks,
    identity,
)
from notbugs.judge.ledger import state_file
from notbugs.judge.standard import is_standard
from notbugs.models.folded_copy import CHOICES
from notbugs.zoo import weights_at, written
from notbugs.zoo.evaluation import sha256_of


@dataclass(frozen=True)
class Evaluate:
    """Measure clean and robust accuracy: worst case per image over an ensemble of attacks.

    The state is saved after every batch: after an interruption the same command resumes.

    Try:
      notbugs evaluate runs/demo/models/robust-seed0.safetensors --threat l2:0.5
      notbugs evaluate w.safetensors --threat l2:1 --data mnist --model net.py:make --embedding fc1
    """

    shares_work: ClassVar[bool] = True
    if_stopped: ClassVar[str] = (
        "Stopped. The results of finished batches are kept; the current batch is lost. The same "
        "command resumes from there."
    )

    weights: Annotated[Path, tyro.conf.Positional]
    """A .safetensors file, the folder that train wrote, zoo:NAME, hub:OWNER/REPO or
    imagenet:NAME; with --model also a file of torch.save (.pt)."""
    threat: str
    """norm:eps, e.g. linf:8/255 or l2:0.5 (pixel units of [0, 1])."""
    method: tuple[str, ...] = ("standard",)
    """standard (or autoattack: the ensemble of its standard version), pgd (quick, weaker; pgd-50
    takes 50 steps), or methods within the threat as attack takes them: each runs on the images
    that those before it did not break."""
    steps: int | None = None
    """Of another method than standard; pgd takes 20, of length eps / 5, without it."""
    restarts: int | None = None
    """Of pgd, apgd, mim and square: random starts for each image that is not yet broken; 1
    without it."""
    samples: int = 1
    """For a random model: passes that attacks average, and whose majority decides."""
    thorough: bool = False
    """With standard: spend the whole budget on every image, also where progress is too slow."""
    fast: str = "auto"
    """The copy of the model that attacks work on: where it pays (auto), always in that precision,
    or none. Each success is confirmed by the model itself."""
    batch_size: int | None = None
    """Images at once; 128 on a CPU and 1,024 on a GPU without it."""
    seed: int = 0
    """Seed of the attacks' randomness; the images are the split's own."""
    json: Path | None = None
    """Write the verdict to this file."""
    overwrite: bool = False
    """Replace a file of that name that notbugs did not write."""
    given: OfImages = SomeImages()

    def run(self, console: Console) -> None:
        """Evaluates and prints the verdict."""
        threat = Threat.parse(self.threat)
        if self.json is not None:
            outputs = {"--json": Output(self.json, EVALUATED)}
            check_outputs(outputs, self.given.inputs(self.weights), overwrite=self.overwrite)
        model, facts = self.given.opened(self.weights)
        digest = sha256_of(weights_at(self.weights))
        data = self.given.chosen("test", facts)
        attacks, seed = self._attacks(threat), self.seed
        if self.fast not in (*CHOICES, "none"):
            raise unknown_name("--fast", self.fast, (*CHOICES, "none"))
        fast = None if self.fast == "none" else self.fast
        worst = estimate(model, data, attacks, fast=fast) / processes.count()
        console.print(f"At most about {duration(worst)}, if no image is broken.")
        state = state_file(identity(model, data, threat, attacks, seed, self.samples, fast))
        if state.exists():
            console.print("Resuming from where this evaluation was stopped.")
        with bar(console, f"{', '.join(self.method)} on {len(data)} images") as progress:
            verdict = evaluate(
                model,
                data,
                threat,
                attacks=attacks,
                seed=seed,
                batch_size=self.batch_size,
                fast=fast,
                progress=progress,
                save_to=state,
                diagnosis=self._is_standard,
                samples=self.samples,
            )
        self._print(console, data, verdict)
        for line in verdict.masking:
            console.print(f"Masking check: {line['check']}: {line['evidence']}: {line['verdict']}.")
        if self.json is not None:
            numbers = written(
                verdict, weights=digest, data=data, methods=self.method, seed=self.seed
            )
            write_numbers(self.json, numbers)
            console.print(f"Verdict: {self.json}", soft_wrap=True)

    def _attacks(self, threat: Threat) -> Sequence[AbstractAttack]:
        chosen = {"steps": self.steps, "restarts": self.restarts}
        options: dict[str, Any] = {
            name: value for name, value in chosen.items() if value is not None
        }
        if self._is_standard:
            for name, value in options.items():
                raise bad_value(f"--{name}", "come with another --method than standard", value)
        elif self.thorough:
            raise bad_value("--thorough", "come with --method standard", ", ".join(self.method))
        for method in self.method if options else ():
            check_taken(method, options)
        return evaluation_attacks(
            self.method, threat, samples=self.samples, thorough=self.thorough, **options
        )

    @property
    def _is_standard(self) -> bool:
        return any(map(is_standard, self.method))

    def _print(self, console: Console, data: ImageData, verdict: Verdict) -> None:
        console.print(_table(data, verdict))
        low, high = verdict.ci95
        for copy in sorted({attack.copy for attack in verdict.attacks} - {"own"}):
            names = ", ".join(attack.name for attack in verdict.attacks if attack.copy == copy)
            console.print(f"On a folded {copy} copy of the model, confirmed by itself: {names}.")
        if odd := below_chance(int(verdict.right.sum()), verdict.n, data.classes):
            console.print(odd)
        if verdict.left_out:
            names = ", ".join(verdict.left_out)
            console.print(f"The model has no gradients, so these were left out: {names}.")
        most = "at most " if verdict.is_upper_bound else ""
        console.print(
            f"Robust accuracy {most}{verdict.robust_accuracy:.2f} % (95 % interval over images: "
            f"{low:.1f} to {high:.1f}); {verdict.forwards / verdict.n:.0f} forward passes an image."
        )
        if verdict.is_upper_bound:
            fired = [c["check"] for c in verdict.masking if c["verdict"] == "suspicious"]
            console.print(
                f"An upper bound, not a measurement: {', '.join(fired)} show that these attacks "
                "miss some images. An adaptive attack may break many more."
            )
        if verdict.given_up:
            checked = sum(attack.checked for attack in verdict.attacks)
            broken = sum(attack.broken_in_check for attack in verdict.attacks)
            console.print(
                f"Attacks gave up on images where progress was too slow: {verdict.given_up} times; "
                f"{checked} of those were attacked with the full budget as a check, which broke "
                f"{broken}. Of the others at most {verdict.missed} could have been broken (95 %): "
                f"{100 * verdict.missed / verdict.given_up:.1f} % of those given up, "
                f"{100 * verdict.missed / verdict.n:.1f} % of the images evaluated."
            )
        if verdict.samples > 1:
            console.print(
                f"The model is treated as random: attacked on the average of {verdict.samples} "
                "passes, and evaluated by the majority vote of as many."
            )


def _table(data: ImageData, verdict: Verdict) -> Table:
    """What is left after each attack."""
    table = Table(
        title=f"{data.name}, {verdict.n} images, {verdict.threat} (pixel units of [0, 1])"
    )
    robust_head = "not broken % (at most)" if verdict.is_upper_bound else "not broken %"
    for name in ("", "broken", robust_head, "seconds"):
        table.add_column(name, justify="left" if not name else "right")
    unbroken = int(verdict.right.sum())
    table.add_row("clean", str(verdict.n - unbroken), f"{verdict.clean_accuracy:.2f}", "")
    for attack in verdict.attacks:
        unbroken -= attack.broken
        share = 100 * unbroken / verdict.n
        table.add_row(attack.name, str(attack.broken), f"{share:.2f}", f"{attack.seconds:.1f}")
    for name, count in (
        ("label does not lead, within rounding", int(verdict.within_rounding.sum())),
        ("logits not finite", int(verdict.non_finite.sum())),
    ):
        if count:
            unbroken -= count
            table.add_row(name, str(count), f"{100 * unbroken / verdict.n:.2f}", "")
    return table

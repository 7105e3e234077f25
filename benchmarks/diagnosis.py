"""Does the masking diagnosis fire where it must, and only there?

    .venv/bin/python benchmarks/diagnosis.py            # honest models, then dishonest ones
    .venv/bin/python benchmarks/diagnosis.py --only JPEG --images 40

Nets are trained here on scikit-learn's digits. Each is evaluated by the standard evaluation,
with the diagnosis; on dishonest ones an adaptive attack tells the truth: APGD and its targeted
form along the gradient of an open twin of the model, and a long search (Square), their results
judged by the model. A number is silently false where it is beyond that truth by more than
`SLACK` images and neither a check fires nor the model is refused. Writes
results/diagnosis-<date>.md and .json.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from conditions import conditions
from diagnosis_models import Cases, Judged, dishonest, honest
from table import table

from notbugs.attacks import apgd, predicted, square
from notbugs.attacks.apgd import apgd_targeted
from notbugs.attacks.attack import AttackInputs, Victim
from notbugs.attacks.losses import margin
from notbugs.core import random
from notbugs.engine import Threat
from notbugs.features import require_skill
from notbugs.judge import evaluate
from notbugs.models import frozen

SLACK = 2
PASSES = 33
"""Of a random model, whose majority says what it sees in an image."""


@dataclass(frozen=True)
class Outcome:
    """What was said of a model; counts are images. `truth` is None where none was sought."""

    name: str
    honest: bool
    images: int
    clean: int
    robust: int
    truth: int | None
    fired: tuple[str, ...]
    refused: str = ""
    seconds: float = 0.0

    @property
    def as_it_should(self) -> bool:
        """No check fires on an honest model; no false number stands alone on another."""
        warned = bool(self.fired or self.refused)
        if self.honest:
            return not warned
        return warned or (self.truth is not None and self.robust - self.truth <= SLACK)


def outcome(name: str, case: Judged, is_honest: bool, images: int, quick: bool) -> Outcome:
    """Evaluates a model, with the diagnosis; on a dishonest one the truth is looked for."""
    data, threat, began = case.data.select(slice(0, images)), Threat.parse(case.threat), time.time()
    norm, given = threat.as_norm("the evaluation"), {"samples": case.samples, "diagnosis": True}
    if is_honest:
        require_skill(case.model, case.data)  # of a model that learnt nothing nothing follows
    few = [apgd(norm, threat.eps, steps=30), square(norm, threat.eps, steps=1000)]
    try:
        verdict = evaluate(case.model, data, threat, attacks=few if quick else None, **given)
    except ValueError as error:
        return Outcome(name, is_honest, images, 0, 0, None, (), str(error))
    fired = tuple(c["check"] for c in verdict.masking if c["verdict"] == "suspicious")
    clean, robust = int(verdict.right.sum()), int(verdict.robust.sum())
    found = None if is_honest else int((verdict.robust & ~broken(case, images)).sum())
    seconds = time.time() - began
    return Outcome(name, is_honest, len(data), clean, robust, found, fired, "", seconds)


def broken(case: Judged, images: int) -> torch.Tensor:
    """Which of the first images the adaptive attack breaks."""
    data, threat = case.data.select(slice(0, images)), Threat.parse(case.threat)
    norm, x, y = threat.as_norm("the truth"), data.pixels(), data.labels
    keys = random.row_keys(len(x), "truth")
    assert case.twin is not None
    found = torch.zeros(len(x), dtype=torch.bool)
    attacks = (
        (apgd(norm, threat.eps, steps=100, loss=margin, stop_on_success=False), case.twin),
        (apgd_targeted(norm, threat.eps, steps=50), case.twin),
        (square(norm, threat.eps, steps=5000), case.model.logits),
    )
    with frozen(case.model):
        for attack, logits in attacks:
            solved = attack.find(Victim(logits, None, case.model), AttackInputs(x, y, None, keys))
            found |= majority_wrong(case, solved.x, y)
    return found


def majority_wrong(case: Judged, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """Which images most passes put in another class."""
    with torch.no_grad():
        wrong = [predicted(case.model.logits(x)) != y for _ in range(PASSES)]
    return torch.stack(wrong).float().mean(dim=0) > 0.5


KINDS = {"honest": honest, "dishonest": dishonest}


def outcomes(kinds: list[str], images: int, only: list[str], quick: bool) -> Iterator[Outcome]:
    """One a model, honest ones first."""
    cases = Cases()
    for kind in kinds:
        for name, make in KINDS[kind](cases).items():
            if not only or any(part in name for part in only):
                torch.manual_seed(0)  # random models draw from the global generator
                yield outcome(name, make(), kind == "honest", images, quick)


def markdown(found: list[Outcome]) -> str:
    """The table: a model a row."""
    head = ("model", "images", "clean", "robust", "truth", "which checks fire", "as it should")
    rows = [
        (
            one.name,
            one.images,
            one.clean,
            ("at most " if one.fired else "") + str(one.robust),
            "" if one.truth is None else one.truth,
            f"refused: {one.refused}" if one.refused else ", ".join(one.fired),
            "yes" if one.as_it_should else "**no**",
        )
        for one in found
    ]
    return table(head, rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=60)
    parser.add_argument("--only", nargs="*", default=[], help="models whose names hold these")
    parser.add_argument("--quick", action="store_true", help="APGD-30 and Square-1000 alone")
    parser.add_argument("--kind", choices=list(KINDS), help="these alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    wanted = parser.parse_args()
    torch.set_num_threads(wanted.threads)
    found: list[Outcome] = []
    kinds = [wanted.kind] if wanted.kind else list(KINDS)
    for one in outcomes(kinds, wanted.images, wanted.only, wanted.quick):
        found.append(one)
        print(markdown([one]).splitlines()[-1], f"{one.seconds:.0f} s", flush=True)
    wanted.out.mkdir(parents=True, exist_ok=True)
    under = conditions(wanted.threads, {"torch": torch.__version__})
    right = sum(one.as_it_should for one in found)
    text = (
        f"# The masking diagnosis, {under['date']}\n\n{len(found)} models, {right} as they should "
        f"be; digits, seed 0, counts of images; {under['processor']}, {wanted.threads} thread, "
        f"commit {under['commit']}.\n\n{markdown(found)}"
    )
    stem = wanted.out / f"diagnosis-{under['date']}"
    stem.with_suffix(".md").write_text(text)
    written = {"conditions": under, "models": [asdict(one) for one in found]}
    stem.with_suffix(".json").write_text(json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()

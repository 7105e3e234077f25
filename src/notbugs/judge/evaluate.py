"""The evaluation: worst case per example over attacks and restarts."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from notbugs.attacks import AbstractAttack
from notbugs.core import processes, random
from notbugs.core.errors import StoreError, bad_type, bad_value, check_count
from notbugs.core.types import Mask
from notbugs.data import ImageData, rows_at_once
from notbugs.engine import Threat
from notbugs.judge.accuracy import correct
from notbugs.judge.fingerprint import copies, identity
from notbugs.judge.ledger import REMEDY, BatchResult, Ledger
from notbugs.judge.masking import diagnose, repeats
from notbugs.judge.missed import share_checked
from notbugs.judge.signs import Check, drifted, one_derivative, searched
from notbugs.judge.standard import evaluation_attacks, is_standard
from notbugs.judge.usable import usable
from notbugs.judge.verdict import Verdict
from notbugs.models import Classifier, Fast, prepared

CHECK_MOST = 0.75
"""Share of given-up rows to check above which no attack gives up, as that saves nothing."""
WITHOUT_GRADIENTS = 4
"""Factor on the batch size of attacks without gradients, which keep no activations."""
GIVING_UP = 3
"""Factor on a CPU for attacks that give up on most rows early: small batches are slow there."""
SLIGHT = 0.01
"""Share of images that rounding may turn right or wrong between two passes."""


@prepared()
def evaluate(
    model: Classifier,
    data: ImageData,
    threat: Threat,
    *,
    attacks: Sequence[AbstractAttack] | Sequence[str] | str = "standard",
    seed: int = 0,
    batch_size: int | None = None,
    fast: Fast = "auto",
    progress: Callable[[float], None] = lambda fraction: None,
    save_to: Path | None = None,
    keep: bool = False,
    diagnosis: bool | None = None,
    samples: int = 1,
    thorough: bool = False,
) -> Verdict:
    """Clean and robust accuracy of `model` on `data` under `threat`.

    An image counts as robust if it is classified correctly when clean and under every attack
    and restart. Each attack runs on the images not yet broken. Of the rows on which an attack gave
    up, a random sample is attacked again with the whole budget, large enough that at most 1 % of
    the images are missed (with 95 % confidence); if one of the sample is broken, all rows given up
    by any attack are attacked again. Below 200 images the sample would be nearly all rows, so no
    attack gives up. Several processes (`notbugs.core.processes`) share the batches; each returns
    the whole verdict.

    - `threat`: a `Threat`, or its text form, "l2:0.5"
    - `attacks`: "standard" (`standard_attacks`), the name of another method, "pgd-20", several
      names (`evaluation_attacks`), or attacks
    - `seed`: row i of the data has its own random stream, whatever the batch size
    - `batch_size`: images per batch; None: 128 on a CPU, 1,024 on a GPU, fewer of large images
      (`data.rows_at_once`). It is 4 times as
      large for attacks without gradients, which keep no activations, and on a CPU 3 times
      as large for attacks that give up early
    - `fast`: the faster copy of the model that attacks run on (`notbugs.models.Fast`); None:
      no copy. "auto" depends on the model, the job and the processor alone. The verdict names
      the copy of each attack; every success is confirmed on the model itself
    - `progress`: called with the fraction done, 0..1
    - `save_to`: a file for the state of the run (after every batch, or less often where that takes
      a twentieth of the time); the same call resumes from it. It is
      removed at the end, or with `keep` left for the same call to read the result from
    - `diagnosis`: add the masking diagnosis (`diagnose`) to the verdict; None does so for
      the standard evaluation alone
    - `thorough`: no attack gives up on a row before its whole budget is spent
    - `samples`: passes of a randomised model: attacks use their mean logits, and the majority
      decides whether an image is right or broken. The verdict's check "two passes agree"
      shows whether this is needed

    On a model without gradients, attacks that need them are left out, and the verdict names
    them. Images that attacks without gradients break after those with them are evidence of
    masking (`signs.searched`), so put such attacks last, as the standard evaluation does.

    **Raises** ValueError where the data does not fit the model, the logits of a clean image are
    NaN or depend on the other images of the batch, the model has no gradients and every attack
    needs them, there is no attack, or an attack has another threat; StoreError where `save_to`
    holds another evaluation.
    """
    if batch_size is None:
        most = 128 if model.device.type == "cpu" else 1024
        batch_size = rows_at_once(data.shape, most, model.device)
    check_count(batch_size, "batch_size")
    check_count(samples, "samples")
    save_to = None if save_to is None else Path(save_to)
    if attacks is None:  # pyright: ignore[reportUnnecessaryComparison]
        raise bad_type("attacks", "attacks or a name", attacks, "Leave it out for the standard.")
    given = (attacks,) if isinstance(attacks, str) else tuple(attacks)
    names = [name for name in given if isinstance(name, str)]
    if names and len(names) == len(given):
        chosen = evaluation_attacks(names, threat, samples=samples)
    else:
        chosen = cast(list[AbstractAttack], list(given))  # what is none is refused
    _check_attacks(chosen, threat)
    chosen = [attack.with_samples(samples) for attack in chosen]
    if thorough or share_checked(len(data)) > CHECK_MOST:
        chosen = [attack.without_giving_up() for attack in chosen]
    chosen, left_out = usable(model, data, chosen)
    diagnosing = any(map(is_standard, names)) if diagnosis is None else diagnosis
    if diagnosing:
        threat.as_norm("the masking diagnosis")  # raises before the attacks run
    ledger = Ledger.opened(
        save_to,
        lambda: identity(model, data, threat, chosen, seed, samples, fast),
        len(chosen),
        len(data),
    )
    run = _Run(model, data, chosen, seed, batch_size, fast, progress, ledger, samples)
    try:
        run.begin(save_to)
        run.attack_all()
    finally:
        ledger.flush()
    verdict = replace(run.verdict(threat), left_out=left_out, derivative=one_derivative(model))
    if diagnosing and run.is_unchanged and bool(verdict.right.any()):
        ledger.diagnosed(lambda: diagnose(model, data, threat, seed=seed, samples=samples))
        verdict = replace(verdict, diagnosis=tuple(ledger.diagnosis))
    ledger.close(keep=keep)  # last, so that a run interrupted in the diagnosis can be resumed
    return verdict


def changed_rows(right: Sequence[bool], now: Mask) -> int:
    """How many images are right in one of two passes alone; 0 for a few, as by rounding.

    A few: at most 1 %, or one image. Meaningless for a randomised model.
    """
    changed = int((now != torch.tensor(right)).sum())
    return changed if changed > max(1, SLIGHT * len(right)) else 0


def _check_attacks(attacks: Sequence[AbstractAttack], threat: Threat) -> None:
    if not attacks:
        raise bad_value(
            "attacks",
            "hold at least one attack",
            "none",
            "Leave it out for the standard evaluation; for clean accuracy use `accuracy`.",
        )
    for attack in attacks:
        if not isinstance(attack, AbstractAttack):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise bad_type("attacks", "made of attacks", attack, "Call it: apgd(norm, eps).")
        if attack.threat is None and not attack.is_minimum_norm:
            raise bad_value(
                "attacks",
                f"all have the threat {threat}",
                f"{attack.name}, which has a bound of its own",
                "Call it by itself.",
            )
        if attack.threat is None:
            raise bad_value(
                "attacks",
                f"all have the threat {threat}",
                f"{attack.name}, which looks for the nearest success at any distance",
                "Call it by itself, or use fab(norm, eps), which stops at the radius.",
            )
        if attack.threat != threat:
            raise bad_value(
                "attacks",
                f"all have the threat {threat}",
                f"{attack.name} with {attack.threat}",
                "Evaluate each threat on its own.",
            )


@dataclass
class _Run:
    """An evaluation in progress."""

    model: Classifier
    data: ImageData
    attacks: Sequence[AbstractAttack]
    seed: int
    batch_size: int
    fast: Fast
    progress: Callable[[float], None]
    ledger: Ledger
    samples: int
    is_unchanged: bool = True
    """Whether the same clean images are right after the attacks as before."""

    def begin(self, save_to: Path | None) -> None:
        """Records which clean images are right; for a resumed run, checks that they still are.

        **Raises** StoreError where they are not.
        """
        if not self.ledger.right:
            self.ledger.begin(self._right().tolist(), passes=self.samples)
        elif self._repeats()["verdict"] == "clear" and changed_rows(
            self.ledger.right, self._right()
        ):
            raise StoreError(
                f"'{save_to}' is the state of another model's evaluation: with the same weights, "
                f"other images were right. {REMEDY}"
            )

    def verdict(self, threat: Threat) -> Verdict:
        """The verdict, with the checks on repeated passes and on attacks without gradients."""
        copy_names = copies(self.model, self.data, self.attacks, self.fast)
        verdict = self.ledger.verdict(threat, [attack.name for attack in self.attacks], copy_names)
        check = self._repeats()
        changed = 0
        if check["verdict"] == "clear":
            changed = changed_rows(self.ledger.right, self._right())
        self.is_unchanged = not changed
        return replace(
            verdict,
            samples=self.samples,
            repeats=drifted(changed, len(self.data)) if changed else check,
            search_check=searched(
                verdict, [attack.requirements.gradients for attack in self.attacks]
            ),
        )

    def _right(self) -> Mask:
        size = max(self.batch_size, 256)
        return correct(
            self.model, self.data, self.data.labels, batch_size=size, samples=self.samples
        )

    def _repeats(self) -> Check:
        return processes.from_first(lambda: repeats(self.model, self.data, samples=self.samples))

    def attack_all(self) -> None:
        """Runs the remaining attacks on the rows not yet broken."""
        keys = random.row_keys(len(self.data), self.seed, "evaluate")
        shares = _shares_of_passes(self.attacks)
        for i, attack in enumerate(self.attacks):
            for done in self._stage(i, attack, "", self.ledger.rows_to_attack(i), keys):
                self.progress(sum(shares[:i]) + shares[i] * done)
            if _gives_up(attack):
                self._check_given_up(i, attack.without_giving_up(), keys)
        # One broken row in any check: attack all given-up rows, as `most_missed` assumes.
        if any(self.ledger.count_broken_in_check(i) for i in range(len(self.attacks))):
            for i, attack in enumerate(self.attacks):
                if _gives_up(attack):
                    self._finish(i, attack.without_giving_up(), keys)
        self.progress(1.0)

    def _check_given_up(self, i: int, thorough: AbstractAttack, keys: Tensor) -> None:
        """Attacks a sample of the given-up rows with the whole budget; if one breaks, all."""
        share, keys_of_check = share_checked(len(self.data)), random.fold(keys, "check", i)
        chosen = self.ledger.check(i, lambda rows: _sample(rows, keys_of_check, share))
        remaining = sorted(set(chosen) & set(self.ledger.given_up_rows(i)))
        for _ in self._stage(i, thorough, "checked", remaining, keys):
            pass
        if self.ledger.count_broken_in_check(i):
            self._finish(i, thorough, keys)

    def _finish(self, i: int, thorough: AbstractAttack, keys: Tensor) -> None:
        """Attacks all unbroken rows that an attack gave up with the whole budget."""
        for _ in self._stage(i, thorough, "checked", self.ledger.given_up_rows(i), keys):
            pass

    def _stage(
        self,
        i: int,
        attack: AbstractAttack,
        stage: str,
        rows: list[int],
        keys: Tensor,
    ) -> Iterator[float]:
        """Runs an attack on rows, batch by batch; yields the fraction done."""
        size = self.batch_size
        if not attack.requirements.gradients:
            size *= WITHOUT_GRADIENTS
        elif _gives_up(attack) and self.model.device.type == "cpu":
            size *= GIVING_UP
        workers = processes.count()
        size = min(size, max(-(-len(rows) // workers), 1))
        batches = torch.tensor(rows, dtype=torch.int64).split(size) if rows else ()
        for first in range(0, len(batches), workers):
            position = first + processes.rank()
            result = None
            if position < len(batches):
                index = batches[position]
                result = self._batch(i, attack, index, keys[index])
            for gathered in _with_shared_time(processes.all_gather(result)):
                self.ledger.add(i, gathered, stage=stage)
            yield min((first + workers) / len(batches), 1.0)

    def _batch(self, i: int, attack: AbstractAttack, index: Tensor, keys: Tensor) -> BatchResult:
        began, device = time.perf_counter(), self.model.device
        x, y = self.data.pixels(index).to(device), self.data.labels[index].to(device)
        keys = random.fold(keys, "attack", i).to(device)
        votes = max(self.samples, attack.votes)
        result = attack(self.model, x, y, keys=keys, fast=self.fast, votes=votes)
        gave_up = result.gave_up & _gives_up(attack)  # others stop where no gain is possible
        return BatchResult(
            index.tolist(),
            success=result.success.tolist(),
            within_rounding=result.within_rounding.tolist(),
            non_finite=result.non_finite.tolist(),
            gave_up=gave_up.tolist(),
            seconds=time.perf_counter() - began,
            forwards=result.forwards,
            without_gradient=int(result.without_gradient.sum()),
            non_finite_points=result.non_finite_points,
        )


def _with_shared_time(gathered: Sequence[BatchResult | None]) -> list[BatchResult]:
    """The processes' results; their times add up to that of the slowest process."""
    results = [result for result in gathered if result is not None]
    seconds = max(result.seconds for result in results) / len(results)
    return [result._replace(seconds=seconds) for result in results]


def _gives_up(attack: AbstractAttack) -> bool:
    """Whether the attack may give up on rows before its budget is spent."""
    return attack.without_giving_up() != attack


def _sample(rows: list[int], keys: Tensor, share: float) -> list[int]:
    """A random share of the rows, decided by their keys."""
    return sorted(rows, key=lambda row: int(keys[row]))[: math.ceil(share * len(rows))]


def _shares_of_passes(attacks: Sequence[AbstractAttack]) -> list[float]:
    """Each attack's share of all passes, if no image is broken."""
    passes = [attack.passes for attack in attacks]
    return [p / sum(passes) for p in passes]

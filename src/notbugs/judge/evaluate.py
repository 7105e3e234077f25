"""The evaluation: worst case per example over attacks and restarts."""

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from notbugs.attacks import AbstractAttack
from notbugs.core import processes, random
from notbugs.core.errors import StoreError, bad_value, check_count
from notbugs.core.types import Mask
from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.judge.accuracy import correct
from notbugs.judge.fingerprint import copies, identity
from notbugs.judge.ledger import BatchResult, Ledger
from notbugs.judge.masking import diagnose, repeats
from notbugs.judge.missed import share_checked
from notbugs.judge.signs import Check, drifted, searched
from notbugs.judge.standard import standard_attacks
from notbugs.judge.usable import usable
from notbugs.judge.verdict import Verdict
from notbugs.models import Classifier, Fast, prepared

CHECK_MOST = 0.75
"""Share to be checked above which giving up saves nothing, so that every row gets its budget."""
WITHOUT_GRADIENTS = 4
"""By which a batch is larger where no activations are kept for a backward pass."""
GIVING_UP = 3
"""By which it is on a CPU where most rows leave early: many small batches take longer."""


SLIGHT = 0.01
"""Share of the images of which a model may say otherwise in another pass, by rounding."""


@prepared()
def evaluate(
    model: Classifier,
    data: ImageData,
    threat: Threat,
    *,
    attacks: Sequence[AbstractAttack] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    fast: Fast = "auto",
    progress: Callable[[float], None] = lambda fraction: None,
    save_to: Path | None = None,
    diagnosis: bool | None = None,
    samples: int = 1,
    thorough: bool = False,
) -> Verdict:
    """Clean and robust accuracy of `model` on `data` under `threat`.

    An image counts as robust when it is classified correctly as it is and under every
    attack and restart. Each attack runs over the whole set and only sees the images that
    are not yet broken. Without `attacks`: the standard evaluation (`standard_attacks`). Of the
    rows on which an attack gave up, a random part is attacked again with the whole budget, so
    large that at most 1 % of the images can have been missed (at 95 %); if one of them is
    broken, all rows that any attack gave up are. Below 200 images nearly all would be in that
    part, so that no attack gives up. Several processes (`notbugs.core.processes`) take the
    batches in turn; all get the whole verdict.

    - `threat`: a `Threat`, or one as it is written, "l2:0.5"
    - `seed`: row i of the data has its own random stream, whatever the batch size
    - `batch_size`: images a batch; None takes 128 on a CPU and 1,024 on a GPU. Attacks
      without gradients, which keep no activations, take four times as many; on a CPU those
      that give up on most rows early take three times as many.
    - `fast`: the copy of the model that attacks work on (`notbugs.models.Fast`); "auto"
      follows from the model, the job and the processor alone. The verdict names the copy for
      each attack; every success is confirmed by the model itself, and None leaves copies out
    - `progress`: called with the fraction done, 0..1
    - `save_to`: a file that keeps the state after every batch; the same call goes on from
      it, and it is removed at the end
    - `diagnosis`: add the masking diagnosis (`diagnose`) to the verdict; None does so for
      the standard evaluation alone
    - `thorough`: no attack gives up on a row before its whole budget is spent
    - `samples`: for a model that is random in itself, passes whose average the attacks
      follow, and whose majority says whether an image is right or broken. The verdict's
      "two passes agree" tells where it is needed.

    On a model without gradients, attacks that need them are left out, and the verdict names
    them. What attacks without gradients break after the others is evidence of masking, and
    tested (`signs.searched`): put them last, as the standard evaluation does.

    **Raises** ValueError when the data does not fit the model, the model gives NaN for a
    clean image, its logits of an image depend on the other images of the batch, it has no
    gradients and every attack needs them, there is no attack, or an attack has another
    threat; StoreError where `save_to` is of another evaluation.
    """
    size = (128 if model.device.type == "cpu" else 1024) if batch_size is None else batch_size
    check_count(size, "batch_size")
    check_count(samples, "samples")
    chosen = standard_attacks(threat, samples=samples) if attacks is None else list(attacks)
    chosen = [attack.with_samples(samples) for attack in chosen]
    if thorough or share_checked(len(data)) > CHECK_MOST:
        chosen = [attack.without_giving_up() for attack in chosen]
    _check_attacks(chosen, threat)
    chosen, left_out = usable(model, data, chosen)
    wanted = attacks is None if diagnosis is None else diagnosis
    if wanted:
        threat.as_norm("the masking diagnosis")  # refused before the work, not after it
    ledger = Ledger.opened(
        save_to, lambda: identity(model, data, threat, chosen, seed, samples, fast), len(chosen)
    )
    run = _Run(model, data, chosen, seed, size, fast, progress, ledger, samples)
    run.begin(save_to)
    run.all()
    verdict = replace(run.verdict(threat), left_out=left_out)
    if wanted and run.repeats_itself and bool(verdict.right.any()):
        more = processes.from_first(
            lambda: diagnose(model, data, threat, seed=seed, samples=samples)
        )
        verdict = replace(verdict, diagnosis=tuple(more))
    ledger.close()  # not before: whoever is stopped in the diagnosis keeps the rest
    return verdict


def otherwise(right: Sequence[bool], now: Mask) -> int:
    """How many images a model has right that it had not, or the reverse; 0 where it is rounding.

    That is one in a hundred at most. A model that is random in itself is not asked.
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
    """An evaluation under way."""

    model: Classifier
    data: ImageData
    attacks: Sequence[AbstractAttack]
    seed: int
    batch_size: int
    fast: Fast
    progress: Callable[[float], None]
    ledger: Ledger
    samples: int
    repeats_itself: bool = True
    """Whether the model has the same images right at the end as at the beginning."""

    def begin(self, save_to: Path | None) -> None:
        """Sees which clean images are right; where a run is resumed, whether they still are.

        **Raises** StoreError where they are not.
        """
        if not self.ledger.right:
            self.ledger.begin(self._right().tolist(), passes=self.samples)
        elif self._repeats()["verdict"] == "clear" and otherwise(self.ledger.right, self._right()):
            raise StoreError(
                f"'{save_to}' is the state of another model's evaluation: with the same weights, "
                "it had other images right. Delete it to begin anew, or choose another file."
            )

    def verdict(self, threat: Threat) -> Verdict:
        """What was found, with what two passes and attacks without gradients say of it."""
        by = copies(self.model, self.data, self.attacks, self.fast)
        verdict = self.ledger.verdict(threat, [attack.name for attack in self.attacks], by)
        again = self._repeats()
        changed = otherwise(self.ledger.right, self._right()) if again["verdict"] == "clear" else 0
        self.repeats_itself = not changed
        return replace(
            verdict,
            samples=self.samples,
            repeats=drifted(changed, len(self.data)) if changed else again,
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

    def all(self) -> None:
        """Every attack that is left to run, on the rows not yet broken."""
        keys = random.row_keys(len(self.data), self.seed, "evaluate")
        share = _shares(self.attacks)
        for i, attack in enumerate(self.attacks):
            for done in self._stage(i, attack, "", self.ledger.rows_to_attack(i), keys):
                self.progress(sum(share[:i]) + share[i] * done)
            if _gives_up(attack):
                self._check_up(i, attack.without_giving_up(), keys)
        # A row missed by one attack is as good as one missed by another: the bound counts on it.
        if any(self.ledger.count_broken_in_check(i) for i in range(len(self.attacks))):
            for i, attack in enumerate(self.attacks):
                if _gives_up(attack):
                    self._finish(i, attack.without_giving_up(), keys)
        self.progress(1.0)

    def _check_up(self, i: int, thorough: AbstractAttack, keys: Tensor) -> None:
        """Gives a random sample of the rows given up the whole budget; if one is broken, all."""
        share, keys_of_check = share_checked(len(self.data)), random.fold(keys, "check", i)
        chosen = self.ledger.check(i, lambda rows: _some(rows, keys_of_check, share))
        left = sorted(set(chosen) & set(self.ledger.given_up_rows(i)))
        for _ in self._stage(i, thorough, "checked", left, keys):
            pass
        if self.ledger.count_broken_in_check(i):
            self._finish(i, thorough, keys)

    def _finish(self, i: int, thorough: AbstractAttack, keys: Tensor) -> None:
        """Gives all rows that an attack gave up, and that are not broken, the whole budget."""
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
        """Runs an attack on rows, batch by batch; yields the share that is done."""
        size = self.batch_size
        if not attack.requirements.gradients:
            size *= WITHOUT_GRADIENTS
        elif _gives_up(attack) and self.model.device.type == "cpu":
            size *= GIVING_UP
        several = processes.count()
        size = min(size, max(-(-len(rows) // several), 1))
        batches = torch.tensor(rows, dtype=torch.int64).split(size) if rows else ()
        for first in range(0, len(batches), several):
            own = first + processes.rank()
            found = None
            if own < len(batches):
                index = batches[own]
                found = self._batch(i, attack, index, keys[index])
            for told in _at_once(processes.all_gather(found)):
                self.ledger.add(i, told, stage=stage)
            yield min((first + several) / len(batches), 1.0)

    def _batch(self, i: int, attack: AbstractAttack, index: Tensor, keys: Tensor) -> BatchResult:
        began, device = time.perf_counter(), self.model.device
        x, y = self.data.pixels(index).to(device), self.data.labels[index].to(device)
        keys = random.fold(keys, "attack", i).to(device)
        votes = max(self.samples, attack.votes)
        found = attack(self.model, x, y, keys=keys, fast=self.fast, votes=votes)
        gave_up = found.gave_up & _gives_up(attack)  # others stop where nothing is left to gain
        return BatchResult(
            index.tolist(),
            success=found.success.tolist(),
            within_rounding=found.within_rounding.tolist(),
            non_finite=found.non_finite.tolist(),
            gave_up=gave_up.tolist(),
            seconds=time.perf_counter() - began,
            forwards=found.forwards,
            without_gradient=int(found.without_gradient.sum()),
            non_finite_points=found.non_finite_points,
        )


def _at_once(told: Sequence[BatchResult | None]) -> list[BatchResult]:
    """What the processes found in the time of the slowest of them."""
    found = [part for part in told if part is not None]
    seconds = max(part.seconds for part in found) / len(found)
    return [part._replace(seconds=seconds) for part in found]


def _gives_up(attack: AbstractAttack) -> bool:
    """Whether it leaves rows before its budget is spent."""
    return attack.without_giving_up() != attack


def _some(rows: list[int], keys: Tensor, share: float) -> list[int]:
    """A share of the rows, by their keys."""
    return sorted(rows, key=lambda row: int(keys[row]))[: math.ceil(share * len(rows))]


def _shares(attacks: Sequence[AbstractAttack]) -> list[float]:
    """What part of the whole each attack is, if no image is broken to the end."""
    passes = [attack.passes for attack in attacks]
    return [p / sum(passes) for p in passes]

"""The state of an evaluation, row by row, kept on disk while it runs."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, NamedTuple

import torch

from notbugs.core import processes
from notbugs.core.digests import verify_digest, with_digest
from notbugs.core.errors import StoreError
from notbugs.core.pace import Pace
from notbugs.core.schema import fit
from notbugs.core.strict_json import parse_json
from notbugs.data.download import cache_folder
from notbugs.data.writing import write_json
from notbugs.engine import Threat
from notbugs.judge.verdict import AttackRecord, Verdict


class BatchResult(NamedTuple):
    """An attack's results on a batch of rows, one entry per row, and their cost.

    `without_gradient` counts the rows without gradients; `within_rounding`, `non_finite` and
    `non_finite_points` are those of `AttackResult`.
    """

    rows: list[int]
    success: list[bool]
    gave_up: list[bool]
    seconds: float
    forwards: int
    without_gradient: int
    within_rounding: list[bool]
    non_finite: list[bool]
    non_finite_points: int


SAVE_SECONDS = 0.1
"""The least time between two writes of the state."""
REMEDY = "Delete it to start again, or choose another file."


def state_file(identity: str) -> Path:
    """The file in the cache for the state of the evaluation of that identity."""
    return cache_folder() / "evaluations" / f"{identity[:32]}.json"


@dataclass
class Ledger:
    """Which rows were right when clean, which attack broke each, and the cost.

    For each attack (and stage): `seen` lists the rows that it has run on, for resuming;
    `given_up` those it gave up on, `checked` the sample of these attacked with the whole
    budget, `broken_in_check` those broken then. `within_rounding` and `non_finite` list the
    rows with such a result under some attack; later attacks still run on them. `attacked`
    counts the pairs of a row and an attack, `without_gradient` those without gradients.
    `diagnosis`: the masking diagnosis, once it was made.
    """

    identity: str = ""
    seconds: list[float] = field(default_factory=list[float])
    without_gradient: int = 0
    attacked: int = 0
    forwards: int = 0
    right: list[bool] = field(default_factory=list[bool])
    broken_by: list[int] = field(default_factory=list[int])
    seen: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    given_up: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    checked: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    broken_in_check: dict[str, list[int]] = field(default_factory=dict[str, list[int]])
    within_rounding: list[int] = field(default_factory=list[int])
    non_finite: list[int] = field(default_factory=list[int])
    non_finite_points: int = 0
    diagnosis: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    path: Path | None = field(default=None, init=False)
    """The file it is saved to; in the first process only."""
    _pace: Pace = field(default_factory=Pace, init=False)
    _is_saved: bool = field(default=True, init=False)

    @classmethod
    def opened(
        cls, path: Path | None, identify: Callable[[], str], attacks: int, images: int
    ) -> "Ledger":
        """A new ledger, or the one at `path`; the first process saves it there.

        **Raises** StoreError where the file is damaged or holds another evaluation.
        """
        ledger = processes.from_first(lambda: cls._opened(path, identify, attacks, images))
        ledger.path = path if processes.is_first() else None
        return ledger

    @classmethod
    def _opened(
        cls, path: Path | None, identify: Callable[[], str], attacks: int, images: int
    ) -> "Ledger":
        if path is None:
            return cls(seconds=[0.0] * attacks)
        identity = identify()
        if not path.exists():
            return cls(identity, [0.0] * attacks)
        try:
            content = verify_digest(parse_json(path.read_bytes()))
            if content.get("identity") != identity:
                raise StoreError(
                    f"'{path}' is the state of another evaluation (other weights, data, threat, "
                    f"attacks or seed), or of another version of notbugs. {REMEDY}"
                )
            missing = sorted({f.name for f in fields(cls) if f.init} - set(content))
            if missing:
                raise ValueError(f"It lacks {', '.join(missing)}.")
            ledger = fit(cls, content)
        except (OSError, ValueError) as error:
            raise StoreError(
                f"'{path}' is not the saved state of an evaluation, or is damaged ({error}). "
                f"{REMEDY}"
            ) from error
        ledger._check(path, attacks, images)
        return ledger

    def _check(self, path: Path, attacks: int, images: int) -> None:
        """Refuses values that an evaluation with so many attacks cannot have.

        **Raises** StoreError.
        """
        rows = range(len(self.right))
        by_stage = (self.seen, self.given_up, self.checked, self.broken_in_check)
        lists = [self.within_rounding, self.non_finite]
        lists += [rows_listed for stages in by_stage for rows_listed in stages.values()]
        counts = (self.without_gradient, self.attacked, self.forwards, self.non_finite_points)
        is_valid = (
            len(self.seconds) == attacks
            and len(self.right) in (0, images)
            and len(self.broken_by) == len(self.right)
            and all(-1 <= broken < attacks for broken in self.broken_by)
            and all(row in rows for rows_listed in lists for row in rows_listed)
            and min(*counts, *self.seconds) >= 0
        )
        if not is_valid:
            raise StoreError(
                f"'{path}' is damaged: its rows and attacks are not those of this evaluation. "
                f"{REMEDY}"
            )

    def begin(self, right: list[bool], passes: int = 1) -> None:
        """Records which clean images are classified correctly, found in `passes` passes."""
        self.right, self.broken_by = right, [-1] * len(right)
        self.forwards += len(right) * passes
        self._is_saved = False
        self.flush()

    def rows_to_attack(self, attack: int, stage: str = "") -> list[int]:
        """The unbroken rows that this stage of the attack has not run on."""
        seen = set(self.seen.get(f"{attack}{stage}", ()))
        pairs = zip(self.right, self.broken_by, strict=True)
        return [i for i, (r, b) in enumerate(pairs) if r and b < 0 and i not in seen]

    def check(self, attack: int, choose: Callable[[list[int]], list[int]]) -> list[int]:
        """The sample of given-up rows to check, chosen when the attack's first stage is over."""
        name = str(attack)
        if name not in self.checked:
            self.checked[name] = choose(self.given_up_rows(attack))
        return self.checked[name]

    def given_up_rows(self, attack: int) -> list[int]:
        """The rows that this attack gave up on, not yet broken and not yet checked."""
        unbroken = set(self.rows_to_attack(attack, "checked"))
        return [row for row in self.given_up.get(str(attack), ()) if row in unbroken]

    def count_broken_in_check(self, attack: int) -> int:
        """How many rows of the attack's checked sample were broken in the check."""
        checked = set(self.checked.get(str(attack), ()))
        return len(checked & set(self.broken_in_check.get(str(attack), ())))

    def add(self, attack: int, result: "BatchResult", *, stage: str = "") -> None:
        """Adds the results of an attack on a batch of rows.

        Those of a check, of rows counted before, do not count for `attacked`,
        `without_gradient` and `given_up`.
        """
        rows, success = result.rows, result.success
        for row, broken in zip(rows, success, strict=True):
            if broken:
                self.broken_by[row] = attack
        self.seen.setdefault(f"{attack}{stage}", []).extend(rows)
        self.seconds[attack] += result.seconds
        self.forwards += result.forwards
        self.within_rounding += _where(rows, result.within_rounding)
        self.non_finite += _where(rows, result.non_finite)
        self.non_finite_points += result.non_finite_points
        if not stage:
            self.attacked += len(rows)
            self.without_gradient += result.without_gradient
            self.given_up.setdefault(str(attack), []).extend(_where(rows, result.gave_up))
        else:
            self.broken_in_check.setdefault(str(attack), []).extend(_where(rows, success))
        self._save()

    def diagnosed(self, diagnose: Callable[[], Sequence[Any]]) -> None:
        """Adds the masking diagnosis, where it is not there yet."""
        if not self.diagnosis:
            self.diagnosis = [dict(check) for check in processes.from_first(diagnose)]
            self._save()

    def close(self, *, keep: bool) -> None:
        """Removes the file, unless it is to be kept: the evaluation is complete."""
        self.flush()
        if self.path is not None and not keep:
            self.path.unlink(missing_ok=True)

    def _save(self) -> None:
        """Saves, unless writing would then take more than a twentieth of the time."""
        self._is_saved = False
        if self._pace.due(SAVE_SECONDS):
            self.flush()

    def flush(self) -> None:
        """Saves what is not saved yet."""
        if self.path is None or self._is_saved:
            return
        began = time.perf_counter()
        content = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        write_json(self.path, with_digest(content), indent=None)
        self._is_saved = True
        self._pace.written(began)

    def verdict(self, threat: Threat, names: Sequence[str], copies: Sequence[str]) -> Verdict:
        """The ledger as a verdict; `names` and `copies` are those of the attacks."""
        right, broken_by = torch.tensor(self.right), torch.tensor(self.broken_by)
        records = tuple(
            AttackRecord(
                name,
                self.broken_by.count(i),
                self.seconds[i],
                len(self.given_up.get(str(i), ())),
                len(self.checked.get(str(i), ())),
                self.count_broken_in_check(i),
                copies[i],
            )
            for i, name in enumerate(names)
        )
        unbroken = right & (broken_by < 0)
        within_rounding, non_finite = (
            _mask(rows, len(right)) for rows in (self.within_rounding, self.non_finite)
        )
        return Verdict(
            threat=threat,
            right=right,
            robust=unbroken & ~(within_rounding | non_finite),
            within_rounding=unbroken & within_rounding & ~non_finite,
            non_finite=unbroken & non_finite,
            non_finite_points=self.non_finite_points,
            broken_by=broken_by,
            attacks=records,
            seconds=sum(self.seconds),
            forwards=self.forwards,
            zero_gradients=100 * (self.without_gradient / max(1, self.attacked)),
        )


def _where(rows: list[int], flags: list[bool]) -> list[int]:
    return [row for row, flag in zip(rows, flags, strict=True) if flag]


def _mask(rows: list[int], n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=torch.bool).index_fill(
        0, torch.tensor(rows, dtype=torch.int64), True
    )

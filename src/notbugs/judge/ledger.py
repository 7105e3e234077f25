"""The state of an evaluation, row by row, kept on disk while it runs."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import NamedTuple

import torch

from notbugs.core import processes
from notbugs.core.digests import verify_digest, with_digest
from notbugs.core.errors import StoreError
from notbugs.core.schema import fit
from notbugs.core.strict_json import parse_json
from notbugs.data.writing import write_json
from notbugs.engine import Threat
from notbugs.judge.verdict import AttackRecord, Verdict


class BatchResult(NamedTuple):
    """What an attack did to some rows: one entry a row, and what that cost.

    `without_gradient` counts the rows without gradients; `within_rounding`, `non_finite` and
    `non_finite_points` are what `AttackResult` says.
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


REMEDY = "Delete it to begin anew, or choose another file."


@dataclass
class Ledger:
    """Which rows were right, which attack broke which, and what that cost.

    `seen` lists the rows that each stage of an attack was shown, so that an evaluation goes
    on where it stopped; `given_up` those it gave up, `checked` the sample of them that gets the
    whole budget; `broken_in_check` lists those that it broke. `within_rounding` and
    `non_finite` list the rows that some attack left so; they go on to the next.
    `attacked` counts the pairs of a row and an attack, and `without_gradient` those of them without
    gradients.
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
    path: Path | None = field(default=None, init=False)
    """The file that keeps it, in the first process."""

    @classmethod
    def opened(cls, path: Path | None, identify: Callable[[], str], attacks: int) -> "Ledger":
        """A fresh ledger, or the one at `path`; that of the first process is kept there.

        **Raises** StoreError where that is damaged or of another evaluation.
        """
        ledger = processes.from_first(lambda: cls._opened(path, identify, attacks))
        ledger.path = path if processes.is_first() else None
        return ledger

    @classmethod
    def _opened(cls, path: Path | None, identify: Callable[[], str], attacks: int) -> "Ledger":
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
            ledger = fit(cls, content)
        except (OSError, ValueError) as error:
            raise StoreError(
                f"'{path}' is not the saved state of an evaluation, or is damaged ({error}). "
                f"{REMEDY}"
            ) from error
        ledger._check(path, attacks)
        return ledger

    def _check(self, path: Path, attacks: int) -> None:
        """Refuses numbers that no evaluation of so many attacks leaves.

        **Raises** StoreError.
        """
        rows = range(len(self.right))
        by_stage = (self.seen, self.given_up, self.checked, self.broken_in_check)
        lists = [self.within_rounding, self.non_finite]
        lists += [listed for each in by_stage for listed in each.values()]
        counts = (self.without_gradient, self.attacked, self.forwards, self.non_finite_points)
        sound = (
            len(self.seconds) == attacks
            and len(self.broken_by) == len(self.right)
            and all(-1 <= broken < attacks for broken in self.broken_by)
            and all(row in rows for listed in lists for row in listed)
            and min(*counts, *self.seconds) >= 0
        )
        if not sound:
            raise StoreError(
                f"'{path}' is damaged: its rows and attacks are not those of this evaluation. "
                f"{REMEDY}"
            )

    def begin(self, right: list[bool], passes: int = 1) -> None:
        """Notes which images are classified correctly as they are, seen in so many passes."""
        self.right, self.broken_by = right, [-1] * len(right)
        self.forwards += len(right) * passes
        self._save()

    def rows_to_attack(self, attack: int, stage: str = "") -> list[int]:
        """The rows not yet broken and that this stage of the attack has not seen."""
        seen = set(self.seen.get(f"{attack}{stage}", ()))
        pairs = zip(self.right, self.broken_by, strict=True)
        return [i for i, (r, b) in enumerate(pairs) if r and b < 0 and i not in seen]

    def check(self, attack: int, choose: Callable[[list[int]], list[int]]) -> list[int]:
        """The rows given up on which this attack is checked, once its first stage is over."""
        name = str(attack)
        if name not in self.checked:
            self.checked[name] = choose(self.given_up_rows(attack))
        return self.checked[name]

    def given_up_rows(self, attack: int) -> list[int]:
        """The rows that this attack gave up, not yet broken and not yet checked."""
        unbroken = set(self.rows_to_attack(attack, "checked"))
        return [row for row in self.given_up.get(str(attack), ()) if row in unbroken]

    def count_broken_in_check(self, attack: int) -> int:
        """How many of the rows on which this attack was checked it broke."""
        checked = set(self.checked.get(str(attack), ()))
        return len(checked & set(self.broken_in_check.get(str(attack), ())))

    def add(self, attack: int, found: "BatchResult", *, stage: str = "") -> None:
        """Enters what an attack did to some rows.

        A check shows no row for the first time: it counts neither for `without_gradient` nor as
        given up.
        """
        rows, success = found.rows, found.success
        for row, broken in zip(rows, success, strict=True):
            if broken:
                self.broken_by[row] = attack
        self.seen.setdefault(f"{attack}{stage}", []).extend(rows)
        self.seconds[attack] += found.seconds
        self.forwards += found.forwards
        self.within_rounding += _where(rows, found.within_rounding)
        self.non_finite += _where(rows, found.non_finite)
        self.non_finite_points += found.non_finite_points
        if not stage:
            self.attacked += len(rows)
            self.without_gradient += found.without_gradient
            self.given_up.setdefault(str(attack), []).extend(_where(rows, found.gave_up))
        else:
            self.broken_in_check.setdefault(str(attack), []).extend(_where(rows, success))
        self._save()

    def close(self) -> None:
        """Removes the file: the evaluation is complete."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)

    def _save(self) -> None:
        if self.path is None:
            return
        content = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        write_json(self.path, with_digest(content), indent=None)

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
        within, odd = (_mask(r, len(right)) for r in (self.within_rounding, self.non_finite))
        return Verdict(
            threat=threat,
            right=right,
            robust=unbroken & ~(within | odd),
            within_rounding=unbroken & within & ~odd,
            non_finite=unbroken & odd,
            non_finite_points=self.non_finite_points,
            broken_by=broken_by,
            attacks=records,
            seconds=sum(self.seconds),
            forwards=self.forwards,
            zero_gradients=100 * (self.without_gradient / max(1, self.attacked)),
        )


def _where(rows: list[int], says: list[bool]) -> list[int]:
    return [row for row, yes in zip(rows, says, strict=True) if yes]


def _mask(rows: list[int], n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=torch.bool).index_fill(
        0, torch.tensor(rows, dtype=torch.int64), True
    )

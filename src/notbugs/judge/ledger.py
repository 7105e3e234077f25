"""The books of an evaluation, row by row, kept on disk while it runs."""

import hashlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import NamedTuple, cast
from uuid import uuid4

import numpy as np
import torch
from torch import nn

from notbugs.attacks import AbstractAttack
from notbugs.core import processes
from notbugs.core.digests import tensor_bytes, verify_digest, with_digest
from notbugs.core.errors import StoreError
from notbugs.core.global_rng import fork_global_rng
from notbugs.core.schema import fit
from notbugs.core.strict_json import parse_json
from notbugs.data import ImageData
from notbugs.data.writing import write_json
from notbugs.engine import Threat
from notbugs.judge.verdict import AttackRecord, Verdict
from notbugs.models import Classifier, Fast, frozen
from notbugs.models.decision import predicted, spread_of
from notbugs.models.folded_copy import GLANCE, copy_to_attack


def identity(
    model: Classifier,
    data: ImageData,
    threat: Threat,
    attacks: Sequence[AbstractAttack],
    seed: int,
    samples: int = 1,
    fast: Fast = "auto",
) -> str:
    """A digest of all that an evaluation's result depends on.

    Of the model that is its weights, its modules as they print, and what it says of the first
    images: a setting that is no tensor, or an edited `forward`, makes another model of it.
    """
    votes = "" if samples == 1 else f" by {samples} passes"
    by = copies(model, data, attacks, fast)
    digest = hashlib.sha256(f"7{data.digest}{threat}{seed}{votes}{by}".encode())
    digest.update(_manner(model, data).encode())
    for attack in attacks:
        digest.update(described(attack).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def _manner(model: Classifier, data: ImageData) -> str:
    """How a model prints, and what it says of the first images, up to rounding."""
    x = data.pixels(slice(0, GLANCE)).to(model.device)
    with frozen(model), torch.no_grad(), fork_global_rng(x.device, "identity"):
        said = model.logits(x)
    top = said.topk(2, dim=1).values
    figures = (spread_of(said), top[:, 0], top[:, 0] - top[:, 1])
    told = ",".join(f"{float(figure.mean()):.3g}" for figure in figures)
    return f"{model.body!r}{predicted(said).tolist()}{told}"


def copies(
    model: Classifier, data: ImageData, attacks: Sequence[AbstractAttack], fast: Fast
) -> tuple[str, ...]:
    """What each attack works on: "own", the model itself, or the precision of its faster copy.

    As it is for the first images; a batch on which the copy disagrees is attacked without it.
    """
    if not fast:
        return ("own",) * len(attacks)
    x = data.pixels(slice(0, GLANCE)).to(model.device)
    with frozen(model), torch.no_grad():
        made = [
            copy_to_attack(model, x, a.passes, fast=fast, low=a.demands.low_precision)
            for a in attacks
        ]
    return tuple("own" if copy is None else copy.precision for copy in made)


def described(part: object, *, within: tuple[int, ...] = ()) -> str:
    """A text that is the same in every process: functions by name and code, tensors by content.

    What cannot be described so has a text that no other has, and no evaluation is gone on with.
    """
    if id(part) in within:
        return "itself"
    tell = partial(described, within=(*within, id(part)))
    told = _told(part, tell)
    if told is None:
        held = getattr(part, "__dict__", None)
        told = str(uuid4()) if held is None else tell(held)
    kind = type(part)
    return f"{kind.__module__}.{kind.__qualname__}({told})"


def _told(part: object, tell: Callable[[object], str]) -> str | None:
    """What a thing holds, or None where that is not known."""
    if isinstance(part, (bool, int, float, complex, str, bytes, type(None), torch.dtype)):
        return repr(part)
    if isinstance(part, (torch.Tensor, np.ndarray)):
        tensor = torch.as_tensor(part)
        return f"{tuple(tensor.shape)}:{hashlib.sha256(tensor_bytes(tensor)).hexdigest()}"
    if isinstance(part, nn.Module):
        return f"{part!r}{tell(dict(part.state_dict()))}"
    if isinstance(part, partial):
        return tell([part.func, part.args, part.keywords])
    if isinstance(part, MethodType):
        return tell([part.__func__, part.__self__])
    if isinstance(part, FunctionType):
        name = f"{part.__module__}.{part.__qualname__}"
        ours = name.startswith("notbugs.") and "<" not in name  # known by its name
        return name if ours else name + _does(part, tell)
    if isinstance(part, (type, BuiltinFunctionType)):
        return f"{part.__module__}.{part.__qualname__}"
    if is_dataclass(part):
        return ", ".join(f"{f.name}={tell(getattr(part, f.name))}" for f in fields(part))
    if isinstance(part, Mapping):
        pairs = cast("Mapping[object, object]", part).items()
        return ", ".join(f"{tell(key)}: {tell(value)}" for key, value in pairs)
    if isinstance(part, (tuple, list)):
        return ", ".join(map(tell, cast("Sequence[object]", part)))
    if isinstance(part, (set, frozenset)):
        return ", ".join(sorted(map(tell, cast("Set[object]", part))))
    return None


def _does(function: FunctionType, tell: Callable[[object], str]) -> str:
    """What a function does, which its name does not say: every lambda has the same."""
    cells: list[object] = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not filled yet
            cells.append(None)
    held = [cells, function.__defaults__, function.__kwdefaults__]
    whole = f"{_code(function.__code__, tell)}{tell(held)}"
    return f":{hashlib.sha256(whole.encode()).hexdigest()[:16]}"


def _code(code: CodeType, tell: Callable[[object], str]) -> str:
    inner = [_code(c, tell) if isinstance(c, CodeType) else tell(c) for c in code.co_consts]
    return f"{code.co_code.hex()}{code.co_names}{inner}"


class Found(NamedTuple):
    """What an attack did to some rows: one entry a row, and what that cost.

    `flat` counts the rows without gradients; `within_rounding`, `non_finite` and
    `non_finite_points` are what `AttackResult` says.
    """

    rows: list[int]
    success: list[bool]
    gave_up: list[bool]
    seconds: float
    forwards: int
    flat: int
    within_rounding: list[bool]
    non_finite: list[bool]
    non_finite_points: int


REMEDY = "Delete it to begin anew, or choose another file."


@dataclass(frozen=True)
class Kept:
    """A ledger as its file holds it; `identity` says which evaluation's it is."""

    identity: str
    seconds: list[float]
    flat: int
    attacked: int
    forwards: int
    right: list[bool]
    broken_by: list[int]
    seen: dict[str, list[int]]
    given_up: dict[str, list[int]]
    checked: dict[str, list[int]]
    broken_in_check: dict[str, list[int]]
    within_rounding: list[int]
    non_finite: list[int]
    non_finite_points: int

    def check(self, path: Path, attacks: int) -> None:
        """Refuses numbers that no evaluation of so many attacks leaves.

        **Raises** StoreError.
        """
        rows = range(len(self.right))
        by_stage = (self.seen, self.given_up, self.checked, self.broken_in_check)
        lists = [self.within_rounding, self.non_finite]
        lists += [found for each in by_stage for found in each.values()]
        counts = (self.flat, self.attacked, self.forwards, self.non_finite_points)
        sound = (
            len(self.seconds) == attacks
            and len(self.broken_by) == len(self.right)
            and all(-1 <= broken < attacks for broken in self.broken_by)
            and all(row in rows for found in lists for row in found)
            and min(*counts, *self.seconds) >= 0
        )
        if not sound:
            raise StoreError(
                f"'{path}' is damaged: its rows and attacks are not those of this evaluation. "
                f"{REMEDY}"
            )


def _read(path: Path) -> Kept:
    """What a state's file holds.

    **Raises** StoreError.
    """
    try:
        return fit(Kept, verify_digest(parse_json(path.read_bytes())))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"'{path}' is not the saved state of an evaluation, or is damaged ({error}). {REMEDY}"
        ) from error


@dataclass
class Ledger:
    """Which rows were right, which attack broke which, and what that cost.

    `seen` lists the rows that each stage of an attack was shown, so that an evaluation goes
    on where it stopped; `given_up` those it gave up, `checked` the sample of them that gets the
    whole budget; `broken_in_check` lists those that it broke. `within_rounding` and
    `non_finite` list the rows that some attack left so; they go on to the next.
    `attacked` counts the pairs of a row and an attack, and `flat` those of them without
    gradients.
    """

    seconds: list[float]
    flat: int = 0
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
    _path: Path | None = None
    _identity: str = ""

    @classmethod
    def opened(cls, path: Path | None, identify: Callable[[], str], attacks: int) -> "Ledger":
        """A fresh ledger, or the one at `path`; that of the first process is kept there.

        **Raises** StoreError where that is damaged or of another evaluation.
        """
        found = processes.from_first(lambda: cls._opened(path, identify, attacks))
        if not processes.is_first():
            found._path = None
        return found

    @classmethod
    def _opened(cls, path: Path | None, identify: Callable[[], str], attacks: int) -> "Ledger":
        fresh = cls([0.0] * attacks)
        if path is None:
            return fresh
        fresh._path, fresh._identity = path, identify()
        if not path.exists():
            return fresh
        kept = _read(path)
        if kept.identity != fresh._identity:
            raise StoreError(
                f"'{path}' is the state of another evaluation (other weights, data, threat, "
                f"attacks or seed). {REMEDY}"
            )
        kept.check(path, attacks)
        found = cls(**{f.name: getattr(kept, f.name) for f in fields(kept) if f.name != "identity"})
        found._path, found._identity = path, fresh._identity
        return found

    def begin(self, right: list[bool], passes: int = 1) -> None:
        """Notes which images are classified correctly as they are, seen in so many passes."""
        self.right, self.broken_by = right, [-1] * len(right)
        self.forwards += len(right) * passes
        self._save()

    def to_attack(self, attack: int, stage: str = "") -> list[int]:
        """The rows not yet broken and that this stage of the attack has not seen."""
        seen = set(self.seen.get(f"{attack}{stage}", ()))
        pairs = zip(self.right, self.broken_by, strict=True)
        return [i for i, (r, b) in enumerate(pairs) if r and b < 0 and i not in seen]

    def check(self, attack: int, choose: Callable[[list[int]], list[int]]) -> list[int]:
        """The rows given up on which this attack is checked, once its first stage is over."""
        name = str(attack)
        if name not in self.checked:
            self.checked[name] = choose(self.left_by(attack))
        return self.checked[name]

    def left_by(self, attack: int) -> list[int]:
        """The rows that this attack gave up, not yet broken and not yet checked."""
        unbroken = set(self.to_attack(attack, "checked"))
        return [row for row in self.given_up.get(str(attack), ()) if row in unbroken]

    def count_broken_in_check(self, attack: int) -> int:
        """How many of the rows on which this attack was checked it broke."""
        checked = set(self.checked.get(str(attack), ()))
        return len(checked & set(self.broken_in_check.get(str(attack), ())))

    def note(self, attack: int, found: "Found", *, stage: str = "") -> None:
        """Enters what an attack did to some rows.

        A check shows no row for the first time: it counts neither for `flat` nor as given up.
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
            self.flat += found.flat
            self.given_up.setdefault(str(attack), []).extend(_where(rows, found.gave_up))
        else:
            self.broken_in_check.setdefault(str(attack), []).extend(_where(rows, success))
        self._save()

    def close(self) -> None:
        """Removes the file: the evaluation is complete."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def _save(self) -> None:
        if self._path is None:
            return
        kept = {k: v for k, v in asdict(self).items() if not k.startswith("_")}
        whole = with_digest({"identity": self._identity, **kept})
        write_json(self._path, whole, indent=None)

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
            zero_gradients=100 * (self.flat / max(1, self.attacked)),
        )


def _where(rows: list[int], says: list[bool]) -> list[int]:
    return [row for row, yes in zip(rows, says, strict=True) if yes]


def _mask(rows: list[int], n: int) -> torch.Tensor:
    return torch.zeros(n, dtype=torch.bool).index_fill(
        0, torch.tensor(rows, dtype=torch.int64), True
    )

"""What an evaluation's result depends on, as a digest: a saved one is resumed by its like alone."""

import hashlib
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import fields, is_dataclass
from functools import partial
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType
from typing import cast
from uuid import uuid4

import numpy as np
import torch
from torch import nn

from notbugs.attacks import AbstractAttack
from notbugs.core.digests import tensor_bytes
from notbugs.core.global_rng import fork_global_rng
from notbugs.data import ImageData
from notbugs.engine import Threat
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
    digest = hashlib.sha256(f"8{data.digest}{threat}{seed}{votes}{by}".encode())
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
            copy_to_attack(model, x, a.passes, fast=fast, low=a.requirements.low_precision)
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

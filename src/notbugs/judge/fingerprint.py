"""A digest of all that an evaluation's result depends on, checked when one is resumed."""

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

    The model enters by its weights, its printed modules and its logits of the first images,
    which also change with settings that are not tensors and with the code of `forward`.
    """
    votes = "" if samples == 1 else f" by {samples} passes"
    copy_names = copies(model, data, attacks, fast)
    digest = hashlib.sha256(f"9{data.digest}{threat}{seed}{votes}{copy_names}".encode())
    digest.update(_behaviour(model, data).encode())
    for attack in attacks:
        digest.update(described(attack).encode())
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor_bytes(tensor))
    return digest.hexdigest()


def _behaviour(model: Classifier, data: ImageData) -> str:
    """The printed model, and figures of its logits of the first images, up to rounding."""
    x = data.pixels(slice(0, GLANCE)).to(model.device)
    with frozen(model), torch.no_grad(), fork_global_rng(x.device, "identity"):
        logits = model.logits(x)
    top = logits.topk(2, dim=1).values
    figures = (spread_of(logits), top[:, 0], top[:, 0] - top[:, 1])
    text = ",".join(f"{float(figure.mean()):.3g}" for figure in figures)
    return f"{model.body!r}{predicted(logits).tolist()}{text}"


def copies(
    model: Classifier, data: ImageData, attacks: Sequence[AbstractAttack], fast: Fast
) -> tuple[str, ...]:
    """What each attack runs on: "own", the model itself, or the precision of its faster copy.

    Decided on the first images; a batch on which the copy disagrees is attacked without it.
    """
    if not fast:
        return ("own",) * len(attacks)
    x = data.pixels(slice(0, GLANCE)).to(model.device)
    with frozen(model), torch.no_grad():
        folded_copies = [
            copy_to_attack(model, x, a.passes, fast=fast, low=a.requirements.low_precision)
            for a in attacks
        ]
    return tuple("own" if copy is None else copy.precision for copy in folded_copies)


def described(part: object, *, parents: tuple[int, ...] = ()) -> str:
    """A text that is the same in every process: functions by name and code, tensors by content.

    For an object that cannot be described the text is random, so no evaluation is resumed.
    """
    if id(part) in parents:
        return "itself"
    describe = partial(described, parents=(*parents, id(part)))
    content = _content(part, describe)
    if content is None:
        attributes = getattr(part, "__dict__", None)
        content = str(uuid4()) if attributes is None else describe(attributes)
    kind = type(part)
    return f"{kind.__module__}.{kind.__qualname__}({content})"


def _content(part: object, describe: Callable[[object], str]) -> str | None:
    """The content of an object of a known type as text, else None."""
    if isinstance(part, (bool, int, float, complex, str, bytes, type(None), torch.dtype)):
        return repr(part)
    if isinstance(part, (torch.Tensor, np.ndarray)):
        tensor = torch.as_tensor(part)
        return f"{tuple(tensor.shape)}:{hashlib.sha256(tensor_bytes(tensor)).hexdigest()}"
    if isinstance(part, nn.Module):
        return f"{part!r}{describe(dict(part.state_dict()))}"
    if isinstance(part, partial):
        return describe([part.func, part.args, part.keywords])
    if isinstance(part, MethodType):
        return describe([part.__func__, part.__self__])
    if isinstance(part, FunctionType):
        name = f"{part.__module__}.{part.__qualname__}"
        ours = name.startswith("notbugs.") and "<" not in name  # known by its name
        return name if ours else name + _code_digest(part, describe)
    if isinstance(part, (type, BuiltinFunctionType)):
        return f"{part.__module__}.{part.__qualname__}"
    if is_dataclass(part):
        return ", ".join(f"{f.name}={describe(getattr(part, f.name))}" for f in fields(part))
    if isinstance(part, Mapping):
        pairs = cast("Mapping[object, object]", part).items()
        return ", ".join(f"{describe(key)}: {describe(value)}" for key, value in pairs)
    if isinstance(part, (tuple, list)):
        return ", ".join(map(describe, cast("Sequence[object]", part)))
    if isinstance(part, (set, frozenset)):
        return ", ".join(sorted(map(describe, cast("Set[object]", part))))
    return None


def _code_digest(function: FunctionType, describe: Callable[[object], str]) -> str:
    """A digest of a function's code and captured values; all lambdas have the same name."""
    cells: list[object] = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # not filled yet
            cells.append(None)
    values = [cells, function.__defaults__, function.__kwdefaults__]
    text = f"{_code(function.__code__, describe)}{describe(values)}"
    return f":{hashlib.sha256(text.encode()).hexdigest()[:16]}"


def _code(code: CodeType, describe: Callable[[object], str]) -> str:
    inner = [_code(c, describe) if isinstance(c, CodeType) else describe(c) for c in code.co_consts]
    return f"{code.co_code.hex()}{code.co_names}{inner}"

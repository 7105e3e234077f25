"""A cheaper stand-in for a model under attack, taken only where it agrees and pays.

Folding batch norms into convolutions, channels-last memory and bf16 arithmetic make a
gradient 1.2 to 3 times cheaper and hardly change it. A stand-in only proposes: whoever
uses one confirms each success on the model itself.
"""

import copy
import json
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from notbugs.core.types import Images, Logits
from notbugs.models.choices import recall, remember
from notbugs.models.classifier import Classifier
from notbugs.models.folding import folded
from notbugs.models.outputs import logits_in

WORTHWHILE = 2e10
"""Floating-point operations for `ROWS` images below which none is looked for (a second)."""
ROWS = 64
"""Images of the measurement."""
GLANCE = 16
"""Images on which a stand-in that was taken before is compared with the model again."""
GAIN = 0.9
"""A stand-in must take less than this share of the model's own time."""
TOLERANCE = {"float32": 1e-3, "bf16": 0.05}
"""Largest difference of logits, as a share of their spread, at which a stand-in agrees."""

LogitsOf = Callable[[Images], Logits]


@dataclass
class _Made:
    """What was found out about a model: its state then, the choice, and the stand-in."""

    state: tuple[object, ...]
    precision: str | None
    logits: LogitsOf | None


_KNOWN: "weakref.WeakKeyDictionary[nn.Module, dict[bool, _Made]]" = weakref.WeakKeyDictionary()
_FLOPS: dict[str, float] = {}


def faster(
    model: Classifier, x: Images, passes: int, *, low: bool = True, said: Logits | None = None
) -> LogitsOf | None:
    """Logits by a cheaper copy of `model`, or None where the model itself does best.

    - `x` [n, c, h, w]: images the job is about; some of them serve to measure and compare
    - `passes`: forward-and-backward passes the job takes for each image
    - `low`: allow bf16, where the processor computes with it
    - `said` [n, k]: the model's logits of `x`, where they are known already

    The choice among the copies is made by timing them once for each kind of model, batch
    size, machine and torch version, and kept on disk, so that a machine repeats itself.
    A copy whose logits do not agree with the model's on `x` is never used, so neither a
    random model nor one whose weights have changed since gets one.
    """
    if model.mean.dtype != torch.float32 or model.training:
        return None
    if work(model, x[:1]) * 3 * passes * ROWS < WORTHWHILE:
        return None
    known = _KNOWN.setdefault(model, {})
    made, state = known.get(low), _state(model)
    if made is None or made.state != state:
        precision = _chosen(model, x, low)
        stand_in = None if precision is None else copy_of(model, precision)
        made = known[low] = _Made(state, precision, stand_in)
    if made.precision is None or made.logits is None:
        return None
    said = model.logits(x[:GLANCE]).detach() if said is None else said[:GLANCE]
    return made.logits if agrees(said, made.logits, x[:GLANCE], made.precision) else None


def copy_of(model: Classifier, precision: str) -> LogitsOf:
    """The logits of a copy with folded norms, channels last, in "float32" or "bf16"."""
    body, _ = folded(copy.deepcopy(model.body).eval())
    body.requires_grad_(False)
    body.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    body.to(dtype)
    mean, std = model.mean.detach().clone(), model.std.detach().clone()

    def logits(x: Images) -> Logits:
        images = ((x - mean) / std).to(dtype).contiguous(memory_format=torch.channels_last)
        return logits_in(body(images)).float()

    return logits


def lined_up_as_known(model: Classifier) -> LogitsOf:
    """The model's own logits, in channels-last memory where a stand-in was found for it."""
    found = [made.precision for made in _KNOWN.get(model, {}).values()]
    return channels_last(model.logits) if any(found) else model.logits


def channels_last(logits: LogitsOf) -> LogitsOf:
    """The same logits, computed in channels-last memory, in which convolutions are faster."""

    def lined_up(x: Images) -> Logits:
        return logits(x.contiguous(memory_format=torch.channels_last))

    return lined_up


def agrees(said: Logits, logits: LogitsOf, x: Images, precision: str) -> bool:
    """Whether the stand-in's logits are what the model `said`, up to its precision."""
    with torch.no_grad():
        spread = said.std(dim=1).mean().clamp(min=1e-12)
        worst = (said - logits(x)).abs().amax(dim=1).mean() / spread
    return bool(worst <= TOLERANCE[precision])  # False for NaN


def work(model: Classifier, x: Images) -> float:
    """Floating-point operations of a forward pass for one image, counted once a structure."""
    name = structure(model)
    if name not in _FLOPS:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.logits(x[:1])
        _FLOPS[name] = float(counter.get_total_flops())
    return _FLOPS[name]


def structure(model: Classifier) -> str:
    """What the cost of a model depends on: its modules and the shapes of its weights."""
    parts = [f"{name}:{tuple(p.shape)}" for name, p in model.named_parameters()]
    kinds = sorted({type(m).__name__ for m in model.modules()})
    return f"{model.shape}{kinds}{parts}"


def _chosen(model: Classifier, x: Images, low: bool) -> str | None:
    """The best kind of copy, timed or remembered; None: the model itself."""
    question = [
        structure(model),
        low,
        str(x.device) if x.device.type == "cpu" else torch.cuda.get_device_name(x.device),
        torch.get_num_threads(),
        torch.__version__,
    ]
    known = recall(json.dumps(question))
    if known is not None:
        return None if known == "none" else known
    best = _timed(model, _enough(x), low)
    remember(json.dumps(question), "none" if best is None else best)
    return best


def _timed(model: Classifier, x: Images, low: bool) -> str | None:
    found: dict[str | None, float] = {None: GAIN * _seconds(model.logits, x)}
    said = model.logits(x).detach()
    for precision in ("float32", "bf16") if low and has_bf16(x.device) else ("float32",):
        try:
            logits = copy_of(model, precision)
            if agrees(said, logits, x, precision):
                found[precision] = _seconds(logits, x)
        except (RuntimeError, TypeError, NotImplementedError):
            continue  # a module that cannot be copied, or works in float32 alone
    return min(found, key=lambda name: found[name])


def _enough(x: Images) -> Tensor:
    """`ROWS` images, repeated where there are fewer: the choice is not the batch's."""
    return x.repeat(-(-ROWS // len(x)), 1, 1, 1)[:ROWS]


def _seconds(logits: LogitsOf, x: Images) -> float:
    """The least of three timings of a forward and backward pass, after one to warm up."""
    times: list[float] = []
    for _ in range(4):
        _wait(x.device)
        began = time.perf_counter()
        with torch.enable_grad():
            theta = x.detach().clone().requires_grad_()
            total = logits(theta).sum()
            if total.requires_grad:
                torch.autograd.grad(total, theta)
        _wait(x.device)
        times.append(time.perf_counter() - began)
    return min(times[1:])


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def has_bf16(device: torch.device) -> bool:
    """Whether bf16 arithmetic is done by the hardware there."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # pyright: ignore


def _state(model: nn.Module) -> tuple[object, ...]:
    """Changes when a weight is replaced or written to; `.data` writes escape, `agrees` not."""
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    return tuple((id(t), t._version) for t in tensors)

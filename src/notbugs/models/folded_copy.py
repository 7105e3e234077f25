"""A cheaper copy of a model in eval mode: folded batch norms, channels-last memory, bf16.

It makes a gradient 1.2 to 3 times cheaper and hardly changes it. A copy only proposes: attacks
confirm each success on the model itself, and training compares copy and model in every epoch.
Which copy is taken follows from model, job and processor alone, so that a run repeats itself
to the last number.
"""

import copy
import weakref
from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from notbugs.core.errors import bad_type, unknown_name
from notbugs.core.types import Images, Logits
from notbugs.models.classifier import Classifier
from notbugs.models.decision import spread_of
from notbugs.models.fast import compiled
from notbugs.models.folding import fold_into, folded
from notbugs.models.frozen import frozen
from notbugs.models.outputs import logits_in

WORTHWHILE = 2e10
"""Floating-point operations for `ROWS` images below which no copy is made (a second)."""
ROWS = 64
"""Images by which the size of a job is judged."""
GLANCE = 16
"""Images on which a copy is compared with the model."""
TOLERANCE = {"float32": 1e-3, "bf16": 0.05}
"""Largest difference of logits, as a share of their spread, at which a copy agrees."""
GRADIENT_TOLERANCE = 0.05
"""Largest difference of the gradients by the images, as a share of their size, in float32."""
CHOICES = ("auto", "float32", "bf16")
REFUSED = (RuntimeError, TypeError, NotImplementedError)
"""What a module raises that cannot be copied, or that works in float32 alone."""

LogitsOf = Callable[[Images], Logits]
Fast: TypeAlias = bool | str | None
"""Which copy attacks work on.

- "auto" (or True): bf16 where the processor computes in it, else float32, where the job is
  long enough to gain by it and the copy agrees with the model
- "float32": never lower; "bf16": bf16 also where the processor only emulates it
- None (or False): the model itself
"""


class FoldedCopy:
    """The logits of a model as it was when the copy was made or refreshed."""

    def __init__(self, model: Classifier, precision: str, compile_mode: str | None = None) -> None:
        """Copies the model's body, in "float32" or "bf16"; `folds` names what was folded."""
        body, self.folds = folded(copy.deepcopy(model.body).eval())
        body.requires_grad_(False)
        body.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.precision = precision
        self.dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        self.body: nn.Module = body.to(self.dtype)
        self.run = compiled(self.body, compile_mode)
        self.in_float32: FoldedCopy | None = None
        """The same in float32, by which a copy in bf16 is compared with a model that moves on."""
        self.mean, self.std = model.mean.detach().clone(), model.std.detach().clone()

    def __call__(self, x: Images) -> Logits:
        """Logits [n, k], float32, of images [n, c, h, w] in [0, 1]."""
        return self._logits(self.run, x)

    def uncompiled(self, x: Images) -> Logits:
        """The same without compiled code."""
        return self._logits(self.body, x)

    def _logits(self, run: Callable[[Tensor], Tensor], x: Images) -> Logits:
        images = ((x - self.mean) / self.std).to(self.dtype)
        return logits_in(run(images.contiguous(memory_format=torch.channels_last))).float()

    @torch.no_grad()
    def refresh(self, model: Classifier) -> None:
        """Takes over the model's weights as they are now."""
        inside = model.body.get_submodule
        for conv, norm in self.folds.items():
            fold_into(self.body.get_submodule(conv), inside(conv), inside(norm))
        mine, theirs = (m.state_dict(keep_vars=True) for m in (self.body, model.body))
        for name in self._unfolded():
            mine[name].copy_(theirs[name])

    def agrees(self, logits: Logits, x: Images) -> bool:
        """Whether its logits of `x` are those of the model, up to its precision."""
        try:
            return agree(logits, self.uncompiled, x, self.precision)
        except REFUSED:
            return False

    def follows(self, model: Classifier, x: Images) -> bool:
        """Whether, once refreshed, it has the model's logits and gradients of `x`, in float32."""
        if self.in_float32 is not None:
            return self.in_float32.follows(model, x)
        if not self._unfolded() <= set(model.body.state_dict(keep_vars=True)):
            return False
        self.refresh(model)
        try:
            with frozen(model):
                logits, grad = _differentiated(model, x)
            _, own = _differentiated(self.uncompiled, x)
        except REFUSED:  # without a gradient, or of other shapes than those traced
            return False
        near = float((own - grad).norm()) <= GRADIENT_TOLERANCE * float(grad.norm())
        return near and self.agrees(logits, x)

    def _unfolded(self) -> set[str]:
        """The tensors that are copied as they are."""
        made = {f"{conv}.{name}" for conv in self.folds for name in ("weight", "bias")}
        return set(self.body.state_dict(keep_vars=True)) - made


def copy_to_craft_by(
    model: Classifier, precision: str, x: Images, compile_mode: str | None = None
) -> FoldedCopy | None:
    """A copy for training that is refreshed after each step; None where none pays or agrees.

    It does not pay without a batch norm that can be folded. Whether it follows the model is
    tried in float32 on the images `x` [n, c, h, w], on a copy of the model whose norms have
    random statistics, as those of a new model hide mistakes.
    """
    own = {f"body.{name}" for name in model.body.state_dict()} | {"mean", "std"}
    if model.mean.dtype != torch.float32 or set(model.state_dict()) != own:
        return None  # a subclass may learn what is not in its body
    try:
        trial = _with_random_norms(copy.deepcopy(model))
    except REFUSED:
        return None
    tried = FoldedCopy(trial, "float32")
    if not tried.folds or not tried.follows(trial, x):
        return None
    found = FoldedCopy(model, precision, compile_mode)
    if precision != "float32":
        found.in_float32 = FoldedCopy(model, "float32")
        try:
            _, grad = _differentiated(found.uncompiled, x)
        except REFUSED:
            return None
        if not bool(grad.isfinite().all()):
            return None
    return found


_Copies: TypeAlias = dict[str, tuple[tuple[object, ...], FoldedCopy | None]]
"""The copies of a model by precision, each with the model's state then."""
_KNOWN: "weakref.WeakKeyDictionary[nn.Module, _Copies]" = weakref.WeakKeyDictionary()
_FLOPS: "weakref.WeakKeyDictionary[nn.Module, float]" = weakref.WeakKeyDictionary()


def copy_to_attack(
    model: Classifier,
    x: Images,
    passes: int,
    *,
    fast: Fast = "auto",
    low: bool = True,
    logits: Logits | None = None,
) -> FoldedCopy | None:
    """A cheaper copy of `model` for a job, or None where the model itself does the work.

    - `x` [n, c, h, w]: images the job is about; some of them serve to compare
    - `passes`: forward-and-backward passes the job takes for each image
    - `low`: allow bf16
    - `logits` [n, k]: the model's logits of `x`, where they are known already

    The first of `precisions` that can be made and agrees with the model on `x`: no copy that
    does not is ever used, so neither a random model nor one whose weights have changed since
    gets one.
    """
    wanted = precisions(model, x, passes, fast=fast, low=low)
    if not wanted:
        return None
    logits = model.logits(x[:GLANCE]).detach() if logits is None else logits[:GLANCE]
    for precision in wanted:
        found = _known_copy(model, precision)
        if found is not None and found.agrees(logits, x[:GLANCE]):
            return found
    return None


def precisions(
    model: Classifier, x: Images, passes: int, *, fast: Fast = "auto", low: bool = True
) -> tuple[str, ...]:
    """What a copy of the model is tried in for a job, the best first; empty: it gets none.

    "auto" is bf16 where the processor computes with it, and float32 where there are
    convolutions, which gain by folded norms and by channels-last memory (1.1 to 1.6 times on
    images of 8 to 32 pixels). Short jobs get none.
    """
    check_fast(fast)
    if not fast or model.mean.dtype != torch.float32 or model.training:
        return ()
    if fast in ("float32", "bf16"):
        return ("bf16", "float32") if fast == "bf16" and low else ("float32",)
    if work(model, x[:1]) * 3 * passes * ROWS < WORTHWHILE:
        return ()
    convolves = any(isinstance(m, nn.Conv2d) for m in model.modules())
    return ("bf16",) * (low and has_bf16(x.device)) + ("float32",) * convolves


def check_fast(fast: Fast) -> None:
    """Refuses an unknown choice of copy."""
    if isinstance(fast, str):
        if fast not in CHOICES:
            raise unknown_name("fast", fast, CHOICES)
    elif fast is not None and not isinstance(fast, bool):  # pyright: ignore
        raise bad_type("fast", f"one of {', '.join(CHOICES)}, or None", fast)


def _known_copy(model: Classifier, precision: str) -> FoldedCopy | None:
    """The copy made before of the model in this state, or a new one; None where none can be."""
    known, state = _KNOWN.setdefault(model, {}), _state(model)
    if precision not in known or known[precision][0] != state:
        try:
            known[precision] = state, FoldedCopy(model, precision)
        except REFUSED:
            known[precision] = state, None
    return known[precision][1]


def channels_last(logits: LogitsOf) -> LogitsOf:
    """The same logits, computed in channels-last memory, in which convolutions are faster."""

    def in_channels_last(x: Images) -> Logits:
        return logits(x.contiguous(memory_format=torch.channels_last))

    return in_channels_last


@torch.no_grad()
def agree(logits: Logits, other: LogitsOf, x: Images, precision: str) -> bool:
    """Whether another function's logits of `x` are these, up to the precision."""
    spread = spread_of(logits).mean().clamp(min=1e-12)
    worst = (logits - other(x)).abs().amax(dim=1).mean() / spread
    return bool(worst <= TOLERANCE[precision])  # False for NaN


def work(model: Classifier, x: Images) -> float:
    """Floating-point operations of a forward pass for one image, counted once a model."""
    if model not in _FLOPS:
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            model.logits(x[:1])
        _FLOPS[model] = float(counter.get_total_flops())
    return _FLOPS[model]


def has_bf16(device: torch.device) -> bool:
    """Whether the hardware there multiplies in bf16 itself, which is what makes it faster."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    found = (torch.cpu._is_avx512_bf16_supported, torch.cpu._is_amx_tile_supported)  # pyright: ignore
    return any(bool(known()) for known in found)


def _state(model: nn.Module) -> tuple[object, ...]:
    """Changes when a weight is replaced or written to; `.data` writes escape, `agrees` not."""
    tensors: list[Tensor] = [*model.parameters(), *model.buffers()]
    return tuple((id(t), t._version) for t in tensors)


@torch.no_grad()
def _with_random_norms(model: Classifier) -> Classifier:
    """The model with random statistics, scales and shifts in its batch norms."""
    draws = torch.Generator().manual_seed(0)

    def drawn(like: Tensor, low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(like.shape, generator=draws).to(like)

    for norm in model.modules():
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        wanted = (
            (norm.running_mean, -0.3, 0.3),
            (norm.running_var, 0.5, 2.0),
            (norm.weight, 0.5, 1.5),
            (norm.bias, -0.3, 0.3),
        )
        for tensor, low, high in wanted:
            if tensor is not None:  # pyright: ignore[reportUnnecessaryComparison]
                tensor.copy_(drawn(tensor, low, high))
    return model


def _differentiated(logits: LogitsOf, x: Images) -> tuple[Logits, Images]:
    """Logits [n, k] and the gradient of half of their squares' sum by the images."""
    theta = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        found = logits(theta)
        (grad,) = torch.autograd.grad(found.square().sum() / 2, theta)
    return found.detach(), grad

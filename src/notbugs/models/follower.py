"""A cheaper copy of a model in eval mode that follows the model's weights while it learns."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from notbugs.core.types import Images, Logits
from notbugs.models.classifier import Classifier
from notbugs.models.fast import compiled
from notbugs.models.folding import folded
from notbugs.models.frozen import frozen
from notbugs.models.outputs import logits_in
from notbugs.models.standin import agrees

TOLERANCE = 0.05
"""Largest difference of the gradients by the images, as a share of their size, in float32."""


class Follower:
    """The logits of a model in eval mode, without its batch norms and in channels-last memory.

    Crafting takes most of adversarial training, and takes it in eval mode, where a batch norm
    is an affine map that a convolution can do along the way. After an optimiser step say
    `weights_changed`; they are folded again when logits are next asked for.
    """

    def __init__(self, model: Classifier, precision: str) -> None:
        """Copies the model, in "float32" or "bf16"; without anything to fold `folds` is empty."""
        self.model, self.dtype = model, torch.bfloat16 if precision == "bf16" else torch.float32
        body, self.folds = folded(copy.deepcopy(model.body).eval())
        body.requires_grad_(False)
        body.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.body: nn.Module = body.to(self.dtype)
        self.run: Callable[[Tensor], Tensor] = self.body
        self.is_stale = True
        self.exact = self if self.dtype == torch.float32 else Follower(model, "float32")
        """The same in float32, by which it is tried."""

    @classmethod
    def of(
        cls, model: Classifier, precision: str, x: Images, mode: str | None = None
    ) -> "Follower | None":
        """A follower of the model, or None where it would not pay or not compute the same.

        It does not pay without a batch norm that can be folded. Whether it computes the same is
        tried in float32 on the images `x` [n, c, h, w], of which a few will do, on a copy of the
        model whose norms have random statistics, as those of a new model hide mistakes. A model
        that is random in itself, or works in float32 alone where bf16 is asked for, gets none.
        `mode` says how the copy is compiled (`notbugs.models.fast.compiled`); None: not at all.
        """
        if type(model).forward is not Classifier.forward or model.mean.dtype != torch.float32:
            return None
        try:
            trial = _unsettled(copy.deepcopy(model))
        except (RuntimeError, TypeError, NotImplementedError):
            return None  # a module that cannot be copied
        exact = cls(trial, "float32")
        if not exact.folds or not exact.holds(x):
            return None
        made = cls(model, precision)
        if precision != "float32" and not _runs(made, x):
            return None
        made.run = compiled(made.body, mode)
        return made

    def weights_changed(self) -> None:
        """Says that the model's weights are no longer those that were folded."""
        self.is_stale = True

    def holds(self, x: Images) -> bool:
        """Whether a float32 copy has the model's logits and gradients of `x` [n, c, h, w] now."""
        other = self.exact
        other.is_stale = True
        if not other._names_agree():
            return False
        try:
            with frozen(self.model):
                said, slope = _differentiated(self.model, x)
            _, theirs = _differentiated(other._plainly, x)
        except RuntimeError:  # without a gradient, or of other shapes than those traced
            return False
        near = float((theirs - slope).norm()) <= TOLERANCE * float(slope.norm())
        return near and agrees(said, other._plainly, x, "float32")

    def __call__(self, x: Images) -> Logits:
        """Logits [n, k], float32, of images [n, c, h, w] in [0, 1]."""
        return self._logits(self.run, x)

    def _plainly(self, x: Images) -> Logits:
        """The same without compiling."""
        return self._logits(self.body, x)

    def _logits(self, run: Callable[[Tensor], Tensor], x: Images) -> Logits:
        if self.is_stale:
            self._catch_up()
        images = self.model.normalise(x).to(self.dtype)
        return logits_in(run(images.contiguous(memory_format=torch.channels_last))).float()

    def _names_agree(self) -> bool:
        """Whether all that the copy holds has the model's own names."""
        return self._own() <= set(self.model.body.state_dict(keep_vars=True))

    def _own(self) -> set[str]:
        """The tensors that are copied as they are."""
        made = {f"{conv}.{name}" for conv in self.folds for name in ("weight", "bias")}
        return set(self.body.state_dict(keep_vars=True)) - made

    @torch.no_grad()
    def _catch_up(self) -> None:
        inside = self.model.body.get_submodule
        for conv, norm in self.folds.items():
            _fold_into(self.body.get_submodule(conv), inside(conv), inside(norm))
        mine, theirs = (m.state_dict(keep_vars=True) for m in (self.body, self.model.body))
        for name in self._own():
            mine[name].copy_(theirs[name])
        self.is_stale = False


def _fold_into(target: nn.Module, conv: nn.Module, norm: nn.Module) -> None:
    """Writes into the convolution `target` what `conv` and then `norm` do in eval mode."""
    assert isinstance(target, nn.Conv2d)
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    if norm.weight is not None:  # pyright: ignore[reportUnnecessaryComparison]
        scale = scale * norm.weight
    offset = -norm.running_mean if conv.bias is None else conv.bias - norm.running_mean
    bias: Tensor = offset * scale
    if norm.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
        bias = bias + norm.bias
    target.weight.copy_(conv.weight * scale[:, None, None, None])
    assert target.bias is not None
    target.bias.copy_(bias)


@torch.no_grad()
def _unsettled(model: Classifier) -> Classifier:
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


def _differentiated(logits: Callable[[Images], Logits], x: Images) -> tuple[Logits, Images]:
    """Logits [n, k] and the gradient of half of their squares' sum by the images."""
    theta = x.detach().clone().requires_grad_()
    with torch.enable_grad():
        said = logits(theta)
        (slope,) = torch.autograd.grad(said.square().sum() / 2, theta)
    return said.detach(), slope


def _runs(follower: Follower, x: Images) -> bool:
    """Whether it can be differentiated at all, in its precision."""
    try:
        return bool(_differentiated(follower, x)[1].isfinite().all())
    except (RuntimeError, TypeError, NotImplementedError):
        return False

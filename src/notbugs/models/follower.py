"""A cheaper copy of a model in eval mode that follows the model's weights while it learns."""

import copy

import torch
from torch import Tensor, nn

from notbugs.core.types import Images, Logits
from notbugs.models.classifier import Classifier
from notbugs.models.fast import compiled
from notbugs.models.folding import folded
from notbugs.models.frozen import frozen
from notbugs.models.standin import agrees


class Follower:
    """The logits of a model in eval mode, without its batch norms and in channels-last memory.

    Crafting takes most of adversarial training, and takes it in eval mode, where a batch norm
    is an affine map that a convolution can do along the way. After an optimiser step call
    `follow`; the weights are folded again when logits are next asked for.
    """

    def __init__(
        self, model: Classifier, precision: str = "float32", mode: str | None = None
    ) -> None:
        """Copies the model; `folds` is empty where there was nothing to fold.

        - `mode`: how the copy is compiled (`notbugs.models.fast.compiled`); None: not at all
        """
        self.model, self.dtype = model, torch.bfloat16 if precision == "bf16" else torch.float32
        body, self.folds = folded(copy.deepcopy(model.body).eval())
        body.requires_grad_(False)
        body.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.body: nn.Module = body.to(self.dtype)
        self.run = compiled(self.body, mode)
        self.is_stale = True

    @classmethod
    def of(
        cls, model: Classifier, precision: str, x: Images, mode: str | None = None
    ) -> "Follower | None":
        """A follower of the model, or None where it would not pay or not compute the same.

        It does not pay without a batch norm that can be folded. What it computes is compared,
        in float32, on the images `x` [n, c, h, w], of which a few will do; so a model that is
        random in itself gets none.
        """
        if type(model).forward is not Classifier.forward or model.mean.dtype != torch.float32:
            return None
        try:
            exact = cls(model)
            if not exact.folds:
                return None
            with frozen(model), torch.no_grad():
                same = agrees(model.logits(x), exact, x, "float32")
            made = cls(model, precision, mode)
        except (RuntimeError, TypeError, NotImplementedError, AttributeError, KeyError):
            return None  # a module that cannot be copied, or whose weights go by other names
        return made if same else None

    def follow(self) -> None:
        """Says that the model's weights have changed."""
        self.is_stale = True

    def __call__(self, x: Images) -> Logits:
        """Logits [n, k], float32, of images [n, c, h, w] in [0, 1]."""
        if self.is_stale:
            self._catch_up()
        images = self.model.normalise(x).to(self.dtype)
        return self.run(images.contiguous(memory_format=torch.channels_last)).float()

    @torch.no_grad()
    def _catch_up(self) -> None:
        theirs = dict(self.model.body.state_dict(keep_vars=True))
        for conv, norm in self.folds.items():
            inside = self.model.body.get_submodule
            _fold_into(self.body.get_submodule(conv), inside(conv), inside(norm))
        held = {f"{conv}.{name}" for conv in self.folds for name in ("weight", "bias")}
        for name, mine in self.body.state_dict(keep_vars=True).items():
            if name not in held:
                mine.copy_(theirs[name])
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

"""Style transfer: an image with the content of one and the style of another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor, nn

from notbugs.core import rows
from notbugs.core.errors import bad_value, check_positive
from notbugs.core.types import Images, Rows, RowTree
from notbugs.engine import AbstractObjective, Draw, Evaluation, Solution, Solver
from notbugs.models import Classifier, capture, frozen, prepared
from notbugs.representations.batches import solve
from notbugs.representations.inverted import lbfgs_inversion

ROWS = 64
"""Images that are read at once."""


@dataclass(frozen=True)
class StyleResult:
    """The result of a style transfer of n images.

    - `x` [n, c, h, w]: the images found
    - `style_error` [n]: how far their style is from the one asked for, as a share of how far the
      content image's is
    - `content_error` [n]: ||a(x) - a(content)|| / ||a(content)|| in the content layer
    - `solution`: as the solver returned it
    """

    x: Images
    style_error: Rows
    content_error: Rows
    solution: Solution


def gram(activations: Float[Tensor, "n ..."]) -> Float[Tensor, "n c c"]:
    """The products of channels, averaged over positions: A A^T / (h w) of each row.

    Of dense layers, [n, c], each unit is a channel with one position; of transformers, [n, tokens,
    c], tokens are the positions.

    **Source**: Gatys et al. 2015 (arXiv 1508.06576), equation 3, without the mean.
    """
    if activations.ndim == 3:
        activations = activations.transpose(1, 2)
    flat = activations[..., None].flatten(2)
    return flat @ flat.transpose(1, 2) / flat.shape[2]


def convolutions(model: Classifier) -> list[str]:
    """The convolutions of a model, whose outputs `style_transfer` reads by default."""
    return [name for name, layer in model.body.named_modules() if isinstance(layer, nn.Conv2d)]


@prepared("x")
def styles(
    model: Classifier, x: Images, layers: Sequence[str] | None = None
) -> dict[str, Float[Tensor, "n c c"]]:
    """The Gram matrices of images by layer (None: the convolutions).

    **Raises** ValueError for an unknown layer, one whose output has no channels, and a model
    without convolutions.
    """
    return _styles(model, x, _checked(model, layers))


def _styles(model: Classifier, x: Images, names: Sequence[str]) -> dict[str, Tensor]:
    """The Gram matrices: activations of a part of the images at a time, which are larger."""
    read = (_read_frozen(model, names, part) for part in x.split(ROWS))
    parts = [{name: gram(output) for name, output in outputs.items()} for outputs in read]
    return {name: torch.cat([part[name] for part in parts]) for name in names}


def style_distance(
    a: Mapping[str, Float[Tensor, "n c c"]], b: Mapping[str, Float[Tensor, "n c c"]]
) -> Rows:
    """How far styles lie apart, [n]: the root mean square over layers of ||A - B|| / ||B||."""
    return torch.linalg.vector_norm(_relative(a, b), dim=1) / len(b) ** 0.5


@prepared("content", "style")
def style_transfer(
    model: Classifier,
    content: Images,
    style: Images,
    *,
    layers: Sequence[str] | None = None,
    content_layer: str | None = None,
    weight: float = 1.0,
    solver: Solver | None = None,
    seed: int = 0,
    batch_size: int = 128,
) -> StyleResult:
    """Images in [0, 1] whose Gram matrices are those of `style`, with activations of `content`.

    Minimises the square root of

        ||a(x) - a(content)||^2 / ||a(content)||^2 + weight * mean over layers of
        ||G(x) - G(style)||^2 / ||G(style)||^2,

    from `content` on.

    - `content`, `style` [n, c, h, w]: a pair a row
    - `layers`: whose Gram matrices G are matched; None: the convolutions; `content_layer`: whose
      activations a are kept; None: the last of the layers
    - `solver`: by default `lbfgs_inversion()`

    **Raises** ValueError for batches of other shapes, a weight that is not positive, an unknown
    layer or one whose output has no channels, images whose activations are all zero, and, without
    `layers`, a model without convolutions.
    **Source**: Gatys et al. 2015 (arXiv 1508.06576), equations 1 to 7; Nakano 2019,
    "Adversarially robust neural style transfer" (Distill).
    **Differs from the source**: every term is relative to its target, so that the weight means the
    same for all models; it starts from the content, not from noise, and reads convolutions as they
    are, before batch norms and ReLUs, unless `layers` names those.
    """
    if content.shape != style.shape:
        raise bad_value("style", f"have the shape {tuple(content.shape)}", tuple(style.shape))
    check_positive(weight, "weight")
    names = _checked(model, layers)
    kept = names[-1] if content_layer is None else _checked(model, [content_layer])[0]
    objective = _Style(model, tuple(names), kept, weight)

    def context(index: Tensor) -> dict[str, Tensor]:
        goal = _styles(model, style[index], names)
        base = _read_frozen(model, [kept], content[index])[kept]
        for argument, name, of in (
            *(("style", n, g) for n, g in goal.items()),
            ("content", kept, base),
        ):
            if bool((of.flatten(1) == 0).all(dim=1).any()):
                raise bad_value(
                    argument, f"move layer '{name}' from zero in every row", "one that does not",
                    "Leave out black images, or name other layers.",
                )  # fmt: skip
        return {"content": base, **{f"style {name}": matrix for name, matrix in goal.items()}}

    solution = solve(
        model,
        objective,
        content,
        context,
        solver or lbfgs_inversion(),
        seed=seed,
        batch_size=batch_size,
    )
    moved: list[Tensor] = []
    for parts in zip(solution.x.split(ROWS), content.split(ROWS), strict=True):
        after, before = (_read_frozen(model, [kept], part) for part in parts)
        moved.append(torch.linalg.vector_norm(_relative(after, before), dim=1))
    left = style_error(model, content, style, solution.x, names)
    return StyleResult(solution.x, left, torch.cat(moved), solution)


@prepared("content", "style", "x")
def style_error(
    model: Classifier,
    content: Images,
    style: Images,
    x: Images,
    layers: Sequence[str] | None = None,
) -> Rows:
    """How far the style of x is from that of `style`, as a share of how far `content` is, [n].

    By the Gram matrices of a model's layers (None: the convolutions), which need not be the model
    that x was made with. 0 where content and style have the same.

    **Raises** ValueError for batches of other shapes, and as `styles`.
    """
    for name, images in (("style", style), ("x", x)):
        if images.shape != content.shape:
            raise bad_value(name, f"have the shape {tuple(content.shape)}", tuple(images.shape))
    names, shares = _checked(model, layers), list[Tensor]()
    for parts in zip(*(images.split(ROWS) for images in (content, style, x)), strict=True):
        first, goal, last = (_styles(model, part, names) for part in parts)
        before, after = (style_distance(of, goal) for of in (first, last))
        shares.append(torch.where(before > 0, after / before, 0.0))
    return torch.cat(shares)


@final
@dataclass(frozen=True)
class _Style(AbstractObjective):
    """The objective of `style_transfer`. Context: "content", and "style NAME" of every layer."""

    model: Classifier
    layers: tuple[str, ...]
    content_layer: str
    weight: float

    def __call__(self, x: Images, context: RowTree | None, draw: Draw) -> Evaluation:
        assert context is not None
        outputs = _read(self.model, [*self.layers, self.content_layer], x)
        made = {name: gram(outputs[name]) for name in self.layers}
        apart = _relative(made, {name: context[f"style {name}"] for name in self.layers})
        moved = _relative({"": outputs[self.content_layer]}, {"": context["content"]})
        both = torch.cat([moved, (self.weight / len(self.layers)) ** 0.5 * apart], dim=1)
        return Evaluation(torch.linalg.vector_norm(both, dim=1))


def _relative(a: Mapping[str, Tensor], b: Mapping[str, Tensor]) -> Float[Tensor, "n d"]:
    """(a - b) / ||b|| of each row and name, flattened, side by side."""
    parts: list[Tensor] = []
    for name, target in b.items():
        target = rows.flatten(target)
        size = torch.linalg.vector_norm(target, dim=1, keepdim=True).clamp(min=1e-12)
        parts.append((rows.flatten(a[name]) - target) / size)
    return torch.cat(parts, dim=1)


def _read(model: Classifier, names: Sequence[str], x: Images) -> dict[str, Tensor]:
    with capture(model.body, list(dict.fromkeys(names))) as outputs:
        model(x)
    return outputs


def _read_frozen(model: Classifier, names: Sequence[str], x: Images) -> dict[str, Tensor]:
    with frozen(model), torch.no_grad():
        return _read(model, names, x)


def _checked(model: Classifier, layers: Sequence[str] | None) -> list[str]:
    """The names of the layers, which must exist and have channels."""
    names = convolutions(model) if layers is None else list(layers)
    if not names:
        raise bad_value("layers", "name at least one layer", "none that is a convolution")
    outputs = _read_frozen(model, names, torch.zeros(1, *model.shape).to(model.mean))
    for name in names:
        output = outputs.get(name)
        if output is None or output.ndim < 2:
            what = "does not run" if output is None else f"of shape {tuple(output.shape)}"
            raise bad_value(
                "layers",
                "have outputs [n, c, ...]",
                f"'{name}', {what}",
                "See `layer_names(model.body)`.",
            )
    return names

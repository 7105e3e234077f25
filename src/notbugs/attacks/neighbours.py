"""Checks whether a model's logits of an image depend on the other images of its batch."""

from collections.abc import Generator, Iterable
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_value
from notbugs.core.global_rng import fork_global_rng
from notbugs.core.types import Images, Logits, Rows
from notbugs.models import Classifier
from notbugs.models.decision import CANNOT_WIN

ROWS = 2
"""Number of images that are checked."""
MOVED = 1e-3
"""Largest change of a lead that rounding may cause, as a share of a typical lead."""
ROUNDINGS = 16.0
"""Change of a lead that is always allowed, in roundings of the larger logit."""


def check_rows(model: Classifier, x: Images, logits: Logits) -> None:
    """Refuses a model whose logits of an image depend on its neighbours in the batch.

    Robustness of single images is undefined for such a model: an image broken in one batch may
    not be in another. The first images are evaluated again in a batch behind their negatives.
    If their logits are the same up to rounding, the model passes. Else they are evaluated
    behind their negatives and behind themselves, with the same seed of torch's generators: the
    model is refused if these differ but repeating a batch makes no difference. A randomised
    model, or one whose arithmetic depends on the batch size, passes: the masking diagnosis
    reports it.

    - `x` [n, c, h, w]: images, `logits` [n, k]: their logits in that batch
    - call it under `frozen(model)`

    **Raises** ValueError, which names the first module that mixes the images.
    """
    images = x[:ROWS]
    with torch.no_grad():
        behind_negatives = model.logits(_behind(1 - images, images))[len(images) :]
        if not moved(logits[: len(images)], behind_negatives):
            return
        first, repeated, behind_images = neighbourly(model, images)
        if moved(first, repeated) or not moved(first, behind_images):
            return
        mixing = _first_to_mix(model, images)
    raise bad_value(
        "model",
        "say the same of an image whatever other images are in its batch",
        _named(mixing),
        "An image cannot be judged by itself: let the layer use statistics that were fixed in "
        "training (track_running_stats=True, eval mode), not those of the batch.",
    )


def moved(logits: Logits, others: Logits) -> bool:
    """Whether the leads of the top classes differ by more than rounding."""
    return share_moved(*lead_change(logits, others)) > MOVED


def share_moved(change: Rows, lead: Rows) -> float:
    """The largest change of a lead, as a share of a typical lead (`lead_change`)."""
    return float(change.max()) / max(float(lead.mean()), 1e-30)


def lead_change(logits: Logits, others: Logits) -> tuple[Rows, Rows]:
    """(largest change of a lead of a row's top class over another, a typical such lead).

    Both [n]. The change is reduced by the rounding error of the two logits. The typical lead is
    the lower quartile over the classes that can win (`CANNOT_WIN`), so that neither classes
    masked by large negative logits nor an offset of all logits hide a change. Leads that are
    not finite count as unchanged.
    """
    top = logits.argmax(dim=1, keepdim=True)
    lead_before, lead_after = (z.gather(1, top) - z for z in (logits, others))
    size = torch.maximum(logits.abs(), logits.gather(1, top).abs())
    change = (lead_after - lead_before).abs() - size * (ROUNDINGS * torch.finfo(logits.dtype).eps)
    change = change.where(change.isfinite(), 0.0).clamp(min=0)
    rivals = (lead_before <= CANNOT_WIN).sum(dim=1, keepdim=True) - 2  # without the nearest
    typical = lead_before.sort(dim=1).values.gather(1, 1 + rivals.clamp(min=0) // 4)[:, 0]
    return change.amax(dim=1), typical.where(typical.isfinite(), 0.0).clamp(max=CANNOT_WIN)


def neighbourly(model: Classifier, x: Images) -> tuple[Logits, Logits, Logits]:
    """(logits of `x` behind the images' negatives, the same again, behind the images), [n, k].

    All in batches of 2n, with the same seed of torch's generators.
    """
    batches = (_behind(1 - x, x), _behind(1 - x, x), _behind(x, x))
    first, repeated, behind_images = (_seeded_logits(model, batch)[len(x) :] for batch in batches)
    return first, repeated, behind_images


def _behind(first: Tensor, last: Tensor) -> Tensor:
    return torch.cat([first, last])


def _seeded_logits(model: Classifier, x: Images) -> Logits:
    """The logits with a fixed seed of torch's generators, which are restored."""
    with fork_global_rng(x.device, "neighbours"):
        return model.logits(x)


Step = tuple[str, nn.Module, Tensor | None, Tensor | None]
"""(name, module, its input, its output), of the rows in question."""

Traced = Generator[list[Step], None, None]


def _first_to_mix(model: Classifier, x: Images) -> tuple[str, nn.Module] | None:
    """The first module whose input for `x` is the same in both batches, but not its output."""
    steps: list[list[Step]] = []
    for neighbours in (1 - x, x):
        with _traced(model.named_modules(), len(x)) as trace:
            _seeded_logits(model, _behind(neighbours, x))
        steps.append(trace)
    for (name, module, inputs, outputs), (_, _, other_inputs, other_outputs) in zip(
        *steps, strict=False
    ):
        if _same(inputs, other_inputs) and not _same(outputs, other_outputs):
            return name, module
    return None


def _same(a: Tensor | None, b: Tensor | None) -> bool:
    if a is None or b is None or a.shape != b.shape:
        return a is b
    # The same arithmetic on the same numbers: only the neighbours can make a difference.
    return torch.allclose(a, b, rtol=1e-5, atol=0.0, equal_nan=True)


@contextmanager
def _traced(
    modules: Iterable[tuple[str, nn.Module]], rows: int
) -> Generator[list[Step], None, None]:
    """A list of the modules' inputs and outputs for the last rows, in the order they finish."""
    steps: list[Step] = []
    pending: list[Tensor | None] = []

    def last(value: object) -> Tensor | None:
        value = value[0] if isinstance(value, tuple) and value else value
        if not isinstance(value, Tensor) or not value.is_floating_point() or not value.ndim:
            return None
        return value[-rows:].clone()  # a later layer may operate in place

    def before(module: nn.Module, inputs: object) -> None:
        pending.append(last(inputs))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name, module in modules:

        def after(module: nn.Module, inputs: object, output: object, name: str = name) -> None:
            steps.append((name, module, pending.pop(), last(output)))

        handles += [
            module.register_forward_pre_hook(before),
            module.register_forward_hook(after),
        ]
    try:
        yield steps
    finally:
        for handle in handles:
            handle.remove()


def _named(mixing: tuple[str, nn.Module] | None) -> str:
    if mixing is None:
        return "logits that change with the neighbours"
    name, module = mixing
    kind = f"{type(module).__name__} `{name}`"
    if getattr(module, "track_running_stats", True):
        return f"logits that change with the neighbours, first in {kind}"
    return f"{kind}, which has track_running_stats=False"

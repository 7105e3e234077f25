"""Whether what a model says of an image depends on the other images of its batch."""

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
"""Images that are looked at again, beside others."""
MOVED = 1e-3
"""Largest change of a lead, as a share of a typical one, that rounding alone may cause."""
ROUNDINGS = 16.0
"""Roundings of the larger logit by which a lead may change in any case."""


def check_rows(model: Classifier, x: Images, said: Logits) -> None:
    """Refuses a model whose logits of an image depend on its neighbours in the batch.

    Such a model cannot be judged image by image: what is broken in one batch stands in
    another, and an attack may work on neighbours alone. The first images are seen once more,
    behind their negatives. Where their logits are what they were, up to rounding, that is
    all. Else they are seen behind their negatives and behind themselves, both times with the
    same draws of torch's generators: the model is refused where that makes a difference, and
    the same batch seen twice does not. A model that is random in itself, or whose arithmetic
    depends on the size of a batch, is let through: the masking diagnosis says so.

    - `x` [n, c, h, w]: images, `said` [n, k]: their logits in that batch
    - call it under `frozen(model)`

    **Raises** ValueError, which names the first module that mixes the images.
    """
    some = x[:ROWS]
    with torch.no_grad():
        beside = model.logits(_behind(1 - some, some))[len(some) :]
        if not moved(said[: len(some)], beside):
            return
        once, again, other = neighbourly(model, some)
        if moved(once, again) or not moved(once, other):
            return
        found = _first_to_mix(model, some)
    raise bad_value(
        "model",
        "say the same of an image whatever other images are in its batch",
        _named(found),
        "An image cannot be judged by itself: let the layer use statistics that were fixed in "
        "training (track_running_stats=True, eval mode), not those of the batch.",
    )


def moved(said: Logits, again: Logits) -> bool:
    """Whether the leads of the first classes differ by more than rounding explains."""
    return share_moved(*lead_change(said, again)) > MOVED


def share_moved(change: Rows, lead: Rows) -> float:
    """The largest change of a lead, as a share of a typical lead (`lead_change`)."""
    return float(change.max()) / max(float(lead.mean()), 1e-30)


def lead_change(said: Logits, again: Logits) -> tuple[Rows, Rows]:
    """(largest change of a lead of a row's first class over another, a typical such lead).

    Both [n]. What rounding of the two logits explains is taken off the change. The typical lead
    is the lower quartile over the classes that can win (`CANNOT_WIN`), so that classes masked by
    large negative logits do not hide a change, however many, nor does a number added to all
    logits. Leads that are not finite count as unchanged.
    """
    first = said.argmax(dim=1, keepdim=True)
    before, after = (z.gather(1, first) - z for z in (said, again))
    size = torch.maximum(said.abs(), said.gather(1, first).abs())
    change = (after - before).abs() - size * (ROUNDINGS * torch.finfo(said.dtype).eps)
    change = change.where(change.isfinite(), 0.0).clamp(min=0)
    rivals = (before <= CANNOT_WIN).sum(dim=1, keepdim=True) - 2  # but the nearest
    lead = before.sort(dim=1).values.gather(1, 1 + rivals.clamp(min=0) // 4)[:, 0]
    return change.amax(dim=1), lead.where(lead.isfinite(), 0.0).clamp(max=CANNOT_WIN)


def neighbourly(model: Classifier, x: Images) -> tuple[Logits, Logits, Logits]:
    """(logits of `x` behind the images' negatives, the same again, behind the images), [n, k].

    All in batches of 2n, by the same draws of torch's generators.
    """
    batches = (_behind(1 - x, x), _behind(1 - x, x), _behind(x, x))
    once, again, other = (_seen(model, batch)[len(x) :] for batch in batches)
    return once, again, other


def _behind(first: Tensor, last: Tensor) -> Tensor:
    return torch.cat([first, last])


def _seen(model: Classifier, x: Images) -> Logits:
    """The logits with draws of their own, the same each time."""
    with fork_global_rng(x.device, "neighbours"):
        return model.logits(x)


Step = tuple[str, nn.Module, Tensor | None, Tensor | None]
"""(name, module, what it took, what it gave), of the rows in question."""


Traced = Generator[list[Step], None, None]


def _first_to_mix(model: Classifier, x: Images) -> tuple[str, nn.Module] | None:
    """The innermost module that is the first to take the same of `x` and to give other."""
    steps: list[list[Step]] = []
    for before in (1 - x, x):
        with _traced(model.named_modules(), len(x)) as found:
            _seen(model, _behind(before, x))
        steps.append(found)
    for (name, module, took, gave), (_, _, took_again, gave_again) in zip(*steps, strict=False):
        if _same(took, took_again) and not _same(gave, gave_again):
            return name, module
    return None


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one.shape != other.shape:
        return one is other
    # The same arithmetic on the same numbers: nothing but the neighbours tells them apart.
    return torch.allclose(one, other, rtol=1e-5, atol=0.0, equal_nan=True)


@contextmanager
def _traced(
    modules: Iterable[tuple[str, nn.Module]], rows: int
) -> Generator[list[Step], None, None]:
    """Lists what modules took and gave of the last rows, in the order in which they end."""
    steps: list[Step] = []
    taken: list[Tensor | None] = []

    def last(value: object) -> Tensor | None:
        value = value[0] if isinstance(value, tuple) and value else value
        if not isinstance(value, Tensor) or not value.is_floating_point() or not value.ndim:
            return None
        return value[-rows:].clone()  # a later layer may work in place

    def before(module: nn.Module, inputs: object) -> None:
        taken.append(last(inputs))

    handles: list[torch.utils.hooks.RemovableHandle] = []
    for name, module in modules:

        def after(module: nn.Module, inputs: object, output: object, name: str = name) -> None:
            steps.append((name, module, taken.pop(), last(output)))

        handles += [
            module.register_forward_pre_hook(before),
            module.register_forward_hook(after),
        ]
    try:
        yield steps
    finally:
        for handle in handles:
            handle.remove()


def _named(found: tuple[str, nn.Module] | None) -> str:
    if found is None:
        return "logits that change with the neighbours"
    name, module = found
    kind = f"{type(module).__name__} `{name}`"
    if getattr(module, "track_running_stats", True):
        return f"logits that change with the neighbours, first in {kind}"
    return f"{kind}, which has track_running_stats=False"

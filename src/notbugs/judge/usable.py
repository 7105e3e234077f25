"""Whether a model can be evaluated image by image, and which attacks work on it."""

from collections.abc import Sequence

from notbugs.attacks import AbstractAttack
from notbugs.attacks.neighbours import check_rows
from notbugs.data import ImageData
from notbugs.models import Classifier, frozen
from notbugs.models.predictions import clean_logits
from notbugs.models.validation import check_gradients, why_no_gradient

TRIED = 16
"""Images that a model is tested on."""


def has_gradients(model: Classifier, data: ImageData) -> bool:
    """Whether the logits of the first image can be differentiated by it."""
    with frozen(model):
        return why_no_gradient(model.logits, data.pixels(slice(0, 1)).to(model.device)) is None


def usable(
    model: Classifier, data: ImageData, attacks: Sequence[AbstractAttack]
) -> tuple[list[AbstractAttack], tuple[str, ...]]:
    """(the attacks that work on this model, the names of those that need missing gradients).

    **Raises** ValueError for a model whose logits of an image depend on its neighbours
    (`neighbours.check_rows`), for logits that are not finite or of another shape, and where
    the model has no gradients and every attack needs them.
    """
    x = data.pixels(slice(0, TRIED)).to(model.device)
    with frozen(model):
        check_rows(model, x, clean_logits(model, x))
        if has_gradients(model, data):
            return list(attacks), ()
        runnable = [attack for attack in attacks if not attack.requirements.gradients]
        if not runnable:
            check_gradients(model, x[:1], attacks[0].name)
    return runnable, tuple(attack.name for attack in attacks if attack.requirements.gradients)

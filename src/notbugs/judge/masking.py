"""The masking diagnosis: is a model robust, or are its gradients of no use to attacks?"""

import torch
from torch import Tensor

from notbugs.core import random
from notbugs.core.errors import bad_value, check_count
from notbugs.data import ImageData
from notbugs.engine import Threat
from notbugs.judge.accuracy import predictions
from notbugs.judge.measurements import Measurements, joined, measure, repeated
from notbugs.judge.signs import Check, repeatable, verdicts
from notbugs.models import Classifier, check_fits, frozen, prepared


@prepared()
def diagnose(
    model: Classifier,
    data: ImageData,
    threat: Threat,
    *,
    seed: int = 0,
    count: int = 100,
    batch_size: int = 50,
    surrogate: Classifier | None = None,
    samples: int = 1,
) -> list[Check]:
    """One entry for each sign that the model hides its gradients instead of being robust.

    "suspicious" says that attacks by gradient overstate the robustness: the number is an
    upper bound; adapt an attack to the model. "clear" is no proof. The checks and their
    thresholds are the functions of `notbugs.judge.signs`.

    - `seed`: chooses the images and the attacks' randomness
    - `count`: images looked at, of those that the model classifies correctly; about 250
      forward and 150 backward passes each, and 500 forward passes more for those that stand
      under the attacks with gradients; eight times that for a model random in itself
    - `surrogate`: another model of the same data, whose adversarial examples are tried
      on this one, together with Square, as the attack without gradients
    - `samples`: passes by which the evaluation judged a random model, for the record

    The checks by the names of the published indicators of attack failure:

    ==========================  =========================================================
    unavailable gradients       zero gradients; saturated logits
    unstable predictions        two passes agree; loss rises with steps; one step against
                                many. *Missing*: the loss in a small ball around the image
    silent success              cannot happen: every attack keeps its best point on the way
    incomplete optimization     *missing*: whether the loss still climbs at the last step
    transfer failure            black box against white box, with `surrogate`; without one
                                a search by queries stands in
    unconstrained attack        accuracy at a very large eps
    failure
    ==========================  =========================================================

    Rows alone and in batches, and gradients within a pass, have no counterpart there.

    **Source**: Athalye et al. 2018 (arXiv 1802.00420), section 3.1; Carlini et al. 2019
    (arXiv 1902.06705), section 5; the indicators are of Pintor et al. 2022 (arXiv 2106.09947).
    The thresholds are ours.

    **Raises** ValueError for data that does not fit, a threat without gradient steps (L0),
    and a model that classifies no image correctly.
    """
    check_count(count, "count")
    check_count(batch_size, "batch_size")
    if surrogate is not None:
        check_fits(surrogate, data)
    chosen = _chosen(model, data, seed, count)
    keys = random.row_keys(len(data), seed, "diagnose")
    parts: list[Measurements] = []
    with frozen(model), frozen(model if surrogate is None else surrogate):
        for index in chosen.split(batch_size):
            x, y = data.pixels(index).to(model.device), data.labels[index].to(model.device)
            on = keys[index].to(model.device)
            parts.append(measure(model, x, y, threat, on, surrogate))
    return verdicts(joined(parts), samples)


def repeats(model: Classifier, data: ImageData, *, count: int = 50, samples: int = 1) -> Check:
    """Whether two passes of the first `count` images agree: one entry of the diagnosis alone."""
    x = data.pixels(slice(0, count)).to(model.device)
    with frozen(model):
        lead, shift, flipped = repeated(model, x)
    return repeatable(lead, shift, flipped, samples)


def _chosen(model: Classifier, data: ImageData, seed: int, count: int) -> Tensor:
    """At most `count` rows that the model classifies correctly, at random."""
    right = (predictions(model, data) == data.labels.cpu()).nonzero()[:, 0]
    if not len(right):
        raise bad_value(
            "model",
            "classify at least one image correctly",
            f"none of {len(data)} right",
            "Robustness says nothing of it; check labels and normalisation.",
        )
    order = torch.randperm(len(right), generator=random.generator(seed, "diagnose"))
    return right[order[:count]].sort().values

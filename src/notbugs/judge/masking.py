"""The masking diagnosis: is a model robust, or are its gradients useless to attacks?"""

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
    """Checks for gradient masking: one entry for each sign of it.

    "suspicious": gradient attacks may overstate the robustness, so the robust accuracy is an
    upper bound; design an adaptive attack. "clear" is no proof of the opposite. The checks and
    their thresholds are the functions of `notbugs.judge.signs`.

    - `seed`: of the choice of images and of the attacks
    - `count`: number of correctly classified images to use; about 250 forward and 150
      backward passes each, and 500 forward passes more for those not broken by gradient
      attacks; eight times as many for a randomised model
    - `surrogate`: another model of the same data, whose adversarial examples are transferred
      to this one, as a second black-box attack beside Square
    - `samples`: passes per decision in the evaluation of a randomised model, for the report

    The checks by the names of the published indicators of attack failure:

    ==========================  =========================================================
    unavailable gradients       zero gradients; saturated logits
    unstable predictions        two passes agree; loss rises with steps; one step against
                                many. *Missing*: the loss in a small ball around the image
    silent success              cannot happen: every attack returns its best iterate
    incomplete optimization     *missing*: whether the loss still rises at the last step
    transfer failure            black box against white box, with `surrogate`; without one
                                by a query attack alone
    unconstrained attack        accuracy at a very large eps
    failure
    ==========================  =========================================================

    The checks "rows alone and in batches" and "gradients within a pass" are not among them.

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
    rows = _correct_rows(model, data, seed, count)
    keys = random.row_keys(len(data), seed, "diagnose")
    parts: list[Measurements] = []
    with frozen(model), frozen(model if surrogate is None else surrogate):
        for index in rows.split(batch_size):
            x, y = data.pixels(index).to(model.device), data.labels[index].to(model.device)
            batch_keys = keys[index].to(model.device)
            parts.append(measure(model, x, y, threat, batch_keys, surrogate))
    return verdicts(joined(parts), samples)


def repeats(model: Classifier, data: ImageData, *, count: int = 50, samples: int = 1) -> Check:
    """The check "two passes agree" alone, on the first `count` images."""
    x = data.pixels(slice(0, count)).to(model.device)
    with frozen(model):
        lead, shift, flipped = repeated(model, x)
    return repeatable(lead, shift, flipped, samples)


def _correct_rows(model: Classifier, data: ImageData, seed: int, count: int) -> Tensor:
    """A random sample of at most `count` rows that the model classifies correctly."""
    right = (predictions(model, data) == data.labels.cpu()).nonzero()[:, 0]
    if not len(right):
        raise bad_value(
            "model",
            "classify at least one image correctly",
            f"none of {len(data)} right",
            "Its robustness is meaningless; check labels and normalisation.",
        )
    order = torch.randperm(len(right), generator=random.generator(seed, "diagnose"))
    return right[order[:count]].sort().values

"""How a model does on natural adversarial examples, of which it knows more classes than they are.

As on ImageNet-A: 200 of the 1,000 classes of ImageNet.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from notbugs.analysis.calibration import aurra, max_softmax, rms_calibration_error
from notbugs.core import processes
from notbugs.core.errors import bad_value, check_count, check_labels
from notbugs.core.types import Images, Rows
from notbugs.data import ImageData
from notbugs.models import Classifier, frozen, prepared
from notbugs.models.decision import predicted
from notbugs.models.predictions import clean_logits


@dataclass(frozen=True)
class Natural:
    """A model's measures on a set of some of its classes, all in percent.

    - `among`: images that are right among the logits of the set's classes; `all`: among all
    - `calibration`, `aurra`: of the largest probability among the set's classes
    """

    among: float
    all: float
    calibration: float
    aurra: float


@prepared()
def natural(
    model: Classifier,
    data: ImageData,
    *,
    classes: tuple[int, ...] | None = None,
    batch_size: int = 64,
) -> Natural:
    """The measures of Hendrycks et al. on images of some of a model's classes.

    - `data`: labels are the model's, as `load_synset_folder` gives them
    - `classes`: those of the set; None: all that `data` has images of

    **Raises** ValueError for labels that the model does not have, and images of other classes.
    **Source**: Hendrycks et al. 2019 (arXiv 1907.07174), section 4.
    """
    check_labels(data.labels, rows=len(data), classes=model.classes, argument="labels")
    check_count(batch_size, "batch_size")
    present = data.labels.unique()
    of = present if classes is None else torch.tensor(sorted(set(classes)))
    if not bool(((of >= 0) & (of < model.classes)).all()):
        raise bad_value("classes", f"lie in 0..{model.classes - 1}", f"{of.min()} to {of.max()}")
    if not bool(torch.isin(present, of).all()):
        strange = int(present[~torch.isin(present, of)][0])
        raise bad_value("classes", "hold all classes of the images", f"none of number {strange}")
    logits = _logits(model, data, batch_size)
    among = logits[:, of]
    right = of[predicted(among).clamp(min=0)] == data.labels
    right &= predicted(among) >= 0  # a tie is no answer
    sure = max_softmax(among)
    return Natural(
        among=100 * float(right.double().mean()),
        all=100 * float((predicted(logits) == data.labels).double().mean()),
        calibration=rms_calibration_error(sure, right),
        aurra=aurra(sure, right),
    )


@prepared("images")
def confidence(model: Classifier, images: Images, *, batch_size: int = 64) -> Rows:
    """The largest softmax probability of each image, [n], on the CPU: a score of inliers.

    With `detection_aupr`, of images of no class of the model against others.

    - `images` [n, c, h, w] in [0, 1]

    **Source**: Hendrycks & Gimpel 2017 (arXiv 1610.02136).
    """
    check_count(batch_size, "batch_size")
    with frozen(model):
        parts = [clean_logits(model, x.to(model.device)) for x in images.split(batch_size)]
    return max_softmax(torch.cat(parts)).cpu()


def _logits(model: Classifier, data: ImageData, batch_size: int) -> Tensor:
    """The logits of all images, [n, k], on the CPU."""

    def compute(index: Tensor) -> tuple[Tensor]:
        return (clean_logits(model, data.pixels(index).to(model.device)).cpu(),)

    with frozen(model):
        return processes.in_batches(len(data), batch_size, compute)[0]

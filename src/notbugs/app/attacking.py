"""One image attacked: what changes, and what every model says before and after."""

from collections.abc import Mapping
from dataclasses import dataclass

from notbugs.attacks.named import METHODS as ALL_METHODS
from notbugs.attacks.named import attack
from notbugs.core.errors import bad_value, unknown_name
from notbugs.core.types import Images, Logits
from notbugs.engine import Threat
from notbugs.models import Classifier, frozen
from notbugs.models.decision import predicted
from notbugs.models.predictions import clean_logits

METHODS = ("fgsm", "pgd", "mim", "apgd", "deepfool", "fmn", "ddn")
"""Those that answer within a second on one image."""
NORMS = ("linf", "l2")
MOST_EPS: Mapping[str, float] = {"linf": 0.5, "l2": 3.0}
"""The right end of the slider; in L2 of 64 pixel values."""


@dataclass(frozen=True, eq=False)
class Attacked:
    """An image and the adversarial one made of it.

    - `x`, `x_adv` [1, c, h, w]; `before`, `after`: the logits [1, k] of each model
    - `success`: verified on the attacked model; `distance`: in the norm of the threat
    - `label`: the class that was to be left
    """

    x: Images
    x_adv: Images
    before: Mapping[str, Logits]
    after: Mapping[str, Logits]
    success: bool
    distance: float
    label: int


def attacked(
    models: Mapping[str, Classifier],
    source: str,
    x: Images,
    label: int | None,
    method: str,
    norm: str,
    eps: float,
    target: int | None = None,
) -> Attacked:
    """One image [1, c, h, w] attacked on the model `source`, and asked of all.

    - `label`: its true class; None: the class that the source gives it
    - `method`: one of `METHODS`; one that looks for the nearest success may need more than eps,
      which is then no success
    - `eps`: in pixel units of [0, 1]; 0 leaves the image as it is
    - `target`: the class to reach; None: any other

    **Raises** ValueError for an unknown model or method, a norm that the method does not have, a
    negative radius, and a target that is the label.
    """
    for kind, name, known in (("model", source, models), ("method", method, METHODS)):
        if name not in known:
            raise unknown_name(kind, name, known)
    supported = ALL_METHODS[method].norms
    if norm not in supported:
        remedy = "Choose another norm or method."
        raise bad_value("norm", f"be one of {method}'s: {', '.join(supported)}", norm, remedy)
    model = models[source]
    before = said(models, x)
    label = int(before[source].argmax()) if label is None else label
    if not eps > 0:
        if eps != 0:
            raise bad_value("eps", "be 0 or a radius", eps)
        wrong = int(predicted(before[source])) not in (label, -1)
        return Attacked(x, x, before, before, wrong and target is None, 0.0, label)
    threat = Threat.parse(f"{norm}:{float(eps)!r}")
    y = before[source].new_tensor([label]).long()
    targets = None if target is None else y.new_tensor([target])
    result = attack(model, x, y, method, threat, targets=targets)
    return Attacked(
        x,
        result.x_adv,
        before,
        said(models, result.x_adv),
        bool(result.success[0]),
        float(result.distance[0]),
        label,
    )


def said(models: Mapping[str, Classifier], x: Images) -> dict[str, Logits]:
    """The logits [n, k] of images by each model."""
    logits: dict[str, Logits] = {}
    for name, model in models.items():
        with frozen(model):
            logits[name] = clean_logits(model, x.to(model.device)).cpu()
    return logits

"""Which wrong label each image gets: the targets of D_rand, D_det and D_other."""

from itertools import count

import torch

from notbugs.core import random
from notbugs.core.errors import bad_value, check_labels, unknown_name
from notbugs.core.types import Labels

TARGET_KINDS = ("rand", "det", "other", "cycle")


def choose_targets(kind: str, labels: Labels, classes: int, *, seed: int) -> Labels:
    """A target class for every row, [n].

    - "rand": uniform over all classes, the true one included (D_rand)
    - "det": the next class, (y + 1) mod classes (D_det)
    - "other": uniform over the classes that are not the true one (D_other)
    - "cycle": as "det", but the classes in an order that the seed draws, another than that of
      "det" (unless there are two classes, which have one order)

    **Source**: Ilyas et al. 2019 (arXiv 1905.02175), section 3.2, for "rand" and "det".
    Because "rand" allows t = y, about 1 / classes of its labels are true; "other" closes
    that leak.

    >>> choose_targets("det", torch.tensor([0, 9]), 10, seed=0).tolist()
    [1, 0]
    """
    if kind not in TARGET_KINDS:
        raise unknown_name("target kind", kind, TARGET_KINDS)
    if classes < 2:
        raise bad_value("classes", "be at least 2", classes, "One class has no other to aim at.")
    check_labels(labels, rows=len(labels), classes=classes, argument="labels")
    keys = random.row_keys(len(labels), seed, "targets", kind, device=labels.device)
    if kind == "rand":
        return random.integers(keys, classes)
    if kind == "cycle":
        draws = (random.cycle(classes, seed, "cycle", *range(i)) for i in count())
        usual = (torch.arange(classes) + 1) % classes
        order = next(c for c in draws if classes == 2 or not torch.equal(c, usual))
        return order.to(labels.device)[labels]
    shift = torch.ones_like(labels) if kind == "det" else 1 + random.integers(keys, classes - 1)
    return (labels + shift) % classes

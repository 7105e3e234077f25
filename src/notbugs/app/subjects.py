"""What the explorer looks at: models beside each other, and their images."""

import hashlib
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from queue import LifoQueue

from notbugs.core.errors import bad_value, check_count
from notbugs.data import ImageData, load_source
from notbugs.experiments.config import config_for
from notbugs.experiments.experiment import Work
from notbugs.experiments.shared import Data, Trained, digest_of
from notbugs.judge.fingerprint import described
from notbugs.models import Classifier
from notbugs.store import Observer, SilentObserver, Store, run_stages

MOST = 3
"""Models that stand beside each other on a screen."""


@dataclass(frozen=True, eq=False)
class Subjects:
    """Models by name, and the images that they were trained on and those they did not see.

    **Raises** ValueError where there is no model, more than three, or one of other images.
    """

    models: Mapping[str, Classifier]
    train: ImageData
    test: ImageData

    def __post_init__(self) -> None:
        if not 1 <= len(self.models) <= MOST:
            raise bad_value("models", f"be 1 to {MOST}", len(self.models), "Name fewer.")
        for name, model in self.models.items():
            if (model.shape, model.classes) != (self.test.shape, self.test.classes):
                wanted = f"take images {self.test.shape} of {self.test.classes} classes, all alike"
                got = f"'{name}', of {model.shape} and {model.classes}"
                raise bad_value("models", wanted, got, "Compare models of one dataset.")
            model.eval().requires_grad_(False)

    @property
    def first(self) -> str:
        """The name of the first model."""
        return next(iter(self.models))

    @property
    def digest(self) -> str:
        """That of all weights and images, in hex."""
        parts = [f"{name}:{described(model)}" for name, model in self.models.items()]
        text = "\n".join([*parts, self.train.digest, self.test.digest])
        return hashlib.sha256(text.encode()).hexdigest()

    def copy(self) -> "Subjects":
        """The same with models of its own."""
        return replace(self, models={n: deepcopy(m) for n, m in self.models.items()})


class Pool:
    """Copies of the subjects, each lent to one request at a time.

    Calls of one model in two threads would mix what hooks read of its layers.
    """

    def __init__(self, subjects: Subjects, copies: int) -> None:
        """Makes the copies."""
        check_count(copies, "copies")
        self._free: LifoQueue[Subjects] = LifoQueue()
        for _ in range(copies):
            self._free.put(subjects.copy())

    @contextmanager
    def lent(self) -> Generator[Subjects, None, None]:
        """A copy that is this block's alone; waits for one."""
        subjects = self._free.get()
        try:
            yield subjects
        finally:
            self._free.put(subjects)


def digits_subjects(
    store: Store, *, workers: int = 0, observer: Observer | None = None
) -> Subjects:
    """A standard and a robust CNN of the digits, trained unless the store holds them.

    They are those of `notbugs reproduce ilyas2019` with its seed 0, so that a store is shared.
    """
    config = config_for("digits", "laptop")
    config = replace(config, digest=digest_of(load_source("digits")))
    data = Data.of(config, 0)
    recipes = {"standard": config.standard, "robust": config.robust}
    stages = {name: Trained(data, config.net, recipe, name) for name, recipe in recipes.items()}
    run_stages(list(stages.values()), store, workers=workers, observer=observer or SilentObserver())
    work = Work(store.root, store)
    parts = data.splits(work)
    return Subjects({name: work.load(s) for name, s in stages.items()}, parts.train, parts.test)

"""Stages that ask which changes one sees, and choose the largest radius that nobody sees."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from notbugs.core.schema import read_json_file
from notbugs.core.types import Images, Labels
from notbugs.data import ImageData
from notbugs.data.writing import write_json
from notbugs.engine import Threat
from notbugs.experiments.constructed import Constructed, Pushes
from notbugs.experiments.experiment import DAMAGED, Measurement, Stage, Work
from notbugs.experiments.numbers import Columns, mean
from notbugs.experiments.page import Column
from notbugs.experiments.readouts import embedded, read
from notbugs.experiments.shared import Trained
from notbugs.features import Observer, nearest_image, nearest_in, nearest_mean, observed, turned
from notbugs.models import Classifier
from notbugs.models.decision import predicted

LIMIT = 5.0
"""Percent of images on which an observer may see a changed class where the change is unseen."""
MOST, MOST_LEARNT = 2000, 10_000
"""Images of a set that observers look at, and that a probe learns from."""
CHOSEN = "headline.json"
COLUMNS = {
    "seen_nearest": Column(
        "Seen: pixels",
        "images whose nearest training image in pixels has the set's label",
        unit="%",
    ),
    "seen_lpips": Column(
        "Seen: LPIPS", "the same by the LPIPS of a net that was trained apart", unit="%"
    ),
    "seen_robust": Column(
        "Seen: robust net", "images that an adversarially trained net gives the label", unit="%"
    ),
    "seen_mean": Column(
        "Seen: class means", "images whose nearest class mean, blurred, has the label", unit="%"
    ),
    "seen_any": Column("Seen by any", "images that at least one of them gives the label", unit="%"),
    "robust_probe": Column(
        "Robust probe",
        "true labels of test images by a linear classifier that learnt the set from the robust "
        "net's embedding alone",
        unit="%",
    ),
}
"""The columns of the measurements here."""


@dataclass(frozen=True)
class Observers:
    """Who looks at changed images; none of them is the model that the changes were made on.

    - `apart`: a standard model of other initial weights, for LPIPS
    - `robust`: an adversarially trained model; `blur`: of class means, in pixels; None: without
    """

    apart: Trained
    robust: Trained
    blur: float | None = None

    def of(self, work: Work) -> Mapping[str, Observer]:
        """The observers by their columns, who know the training images."""
        train, robust = self.robust.data.train(work), work.load(self.robust)

        @torch.no_grad()
        def judged(x: Images, rows: Tensor | None = None) -> Labels:
            return predicted(robust.logits(x.to(robust.device))).cpu()

        observers: dict[str, Observer] = {
            "seen_nearest": nearest_image(train),
            "seen_lpips": nearest_in(work.load(self.apart), train),
            "seen_robust": judged,
        }
        if self.blur is not None:
            observers["seen_mean"] = nearest_mean(train, blur=self.blur)
        return observers


@dataclass(frozen=True)
class Seen(Measurement):
    """In how many images of a set each observer sees its label and not the true class.

    And what robust features give away of the true classes, though no image shows its label: test
    accuracy of a linear classifier on the robust model's embedding that learnt from the set.

    **Source**: for the latter, Goh 2019, "Robust feature leakage" (Distill).
    """

    on: Constructed
    observers: Observers

    @property
    def label(self) -> str:
        return self.on.label.replace("build ", "look at ", 1)

    def measure(self, work: Work) -> Columns:
        data = work.load(self.on)
        some, observers = data.select(slice(0, MOST)), self.observers.of(work)
        masks = {name: turned(who, some) for name, who in observers.items()}
        robust = self.observers.robust
        test = robust.data.splits(work).test
        probe = _probed(work.load(robust), data.select(slice(0, MOST_LEARNT)), test)
        return {**_shares(masks), "robust_probe": probe}


@dataclass(frozen=True)
class HeldOut(Measurement):
    """In how many held-out training images, changed as in D_other, each observer sees the label.

    An image counts where the observer gives the set's label to it and not to the original.
    """

    source: Trained
    threat: Threat
    pushes: Pushes
    observers: Observers

    @property
    def label(self) -> str:
        return f"look at changes of {self.threat} · seed {self.source.data.seed}"

    def measure(self, work: Work) -> Columns:
        data = self.source.data
        val = data.splits(work).val
        made = self.pushes.pushed(
            work.load(self.source), val, "other", self.threat, data.seed, work, at_chance=True
        )
        originals = val.select(made.columns["source_rows"])
        masks = {
            name: (observed(who, made) == made.labels) & (observed(who, originals) != made.labels)
            for name, who in self.observers.of(work).items()
        }
        return _shares(masks)


def _shares(masks: Mapping[str, Tensor]) -> Columns:
    """Percent of images, from who sees which: by observer, and by any."""
    union = torch.stack(list(masks.values())).any(dim=0)
    return {name: 100 * float(m.float().mean()) for name, m in {**masks, "seen_any": union}.items()}


def _probed(model: Classifier, data: ImageData, test: ImageData) -> float:
    """Test accuracy of a linear classifier on a model's embedding, learnt from a set; percent."""
    learnt, tested = embedded(model, data), embedded(model, test)
    return read(learnt, data.labels, tested, test.labels)


@dataclass(frozen=True)
class Headline(Stage[float]):
    """The largest radius at which every observer sees at most `LIMIT` percent: `largest_unseen`.

    Where there is none, the smallest, with a notice.

    - `looks`: for each radius, the measurements of all seeds
    """

    looks: tuple[tuple[float, tuple[HeldOut, ...]], ...]

    def make(self, work: Work) -> None:
        shares = {eps: [work.load(look) for look in looks] for eps, looks in self.looks}
        chosen = largest_unseen(shares)
        if chosen is None:
            chosen = min(shares)
            work.notice(
                f"At every radius of `eps_grid` some observer sees more than {LIMIT:g} % of the "
                f"changes. The smallest, {chosen:g}, is taken; add smaller ones."
            )
        write_json(work.folder / CHOSEN, chosen)

    def load(self, folder: Path, work: Work) -> float:
        return read_json_file(float, folder / CHOSEN, remedy=DAMAGED)


def largest_unseen(shares: Mapping[float, Sequence[Columns]]) -> float | None:
    """The largest radius at which each observer's mean over seeds is at most `LIMIT` percent.

    - `shares`: of each radius, the columns of each seed
    """

    def unseen(looks: Sequence[Columns]) -> bool:
        observers = [name for name in looks[0] if name != "seen_any"]
        return all(mean([look[name] or 0.0 for look in looks]) <= LIMIT for name in observers)

    return max((eps for eps, looks in shares.items() if unseen(looks)), default=None)

"""Stages of natural adversarial examples: images that a fixed net has wrong, and who else does."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from notbugs.analysis import (
    aurra,
    detection_aupr,
    max_softmax,
    neighbours,
    rms_calibration_error,
)
from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.errors import DataError
from notbugs.core.types import Images, Labels, Mask
from notbugs.data import ImageData, Splits
from notbugs.data.planted import pointed_to
from notbugs.experiments.data_views import each_part
from notbugs.experiments.experiment import (
    Illustration,
    Measurement,
    Measurements,
    Pictures,
    Work,
)
from notbugs.experiments.first_order import logits_of, named_by
from notbugs.experiments.numbers import Columns, Tables
from notbugs.experiments.shared import Data, Trained
from notbugs.models.decision import predicted

SETS = ("candidates", "random", "filtered")
SHOWN = 12


@dataclass(frozen=True)
class Candidates(Data):
    """A few training images, and all others as candidates, without the last classes.

    The test part holds the candidates: the training images that are left, and the test images.

    - `few`: training images; `held_out`: classes that no net sees, the last ones
    - `changed`: the share of candidates whose label is that of another class
    """

    few: int = 200
    held_out: int = 2
    changed: float = 0.0

    def splits(self, work: Work) -> Splits:
        parts = each_part(super().splits(work), self._known)
        kept = self.few
        if kept >= len(parts.train):
            message = f"{len(parts.train)} training images leave no candidates beside {kept}."
            raise DataError(f"{message} Lower `few`.")
        rest, test = parts.train.select(slice(kept, None)), parts.test
        images, labels = (
            torch.cat([rest.images, test.images]),
            torch.cat([rest.labels, test.labels]),
        )
        keys = random.row_keys(len(labels), self.seed, "changed labels")
        told = pointed_to(labels, keys, classes=test.classes, agreement=1 - self.changed)
        candidates = replace(test, images=images, labels=told, columns={"true_labels": labels})
        return Splits(parts.train.select(slice(0, kept)), parts.val, candidates)

    def outliers(self, work: Work) -> Images:
        """All images of the classes that no net sees."""
        parts = super().splits(work)
        return torch.cat([self._unknown(part) for part in (parts.train, parts.test)])

    def _known(self, data: ImageData) -> ImageData:
        names = data.class_names[: data.classes - self.held_out]
        return replace(data.select(data.labels < len(names)), class_names=names)

    def _unknown(self, data: ImageData) -> Images:
        return data.pixels(data.labels >= data.classes - self.held_out)


def wrong(model: Trained, work: Work, candidates: ImageData | None = None) -> Mask:
    """Which candidates a net has wrong, [n]: adversarial filtration.

    **Raises** DataError where it has none wrong.
    """
    candidates = model.data.splits(work).test if candidates is None else candidates
    found = named_by(work.load(model), candidates.pixels()) != candidates.labels
    if not bool(found.any()):
        raise DataError(f"The {model.role} net has no candidate wrong: train it on fewer images.")
    return found


def alike(chosen: Mask, labels: Labels, seed: int) -> Mask:
    """As many images of each class as are chosen, drawn from all of the class, [n]."""
    drawn = torch.zeros_like(chosen)
    order = torch.randperm(len(labels), generator=random.generator(seed, "alike"))
    for label in labels[chosen].unique():
        of_class = order[labels[order] == label]
        drawn[of_class[: int((chosen & (labels == label)).sum())]] = True
    return drawn


@dataclass(frozen=True)
class Voters:
    """A vote of the nearest training images, as a judge that is no net."""

    data: Candidates
    k: int

    def names(self, work: Work) -> Labels:
        """The classes of all candidates, [n]."""
        parts = self.data.splits(work)
        known, test = parts.train, parts.test
        return neighbours(
            test.pixels(), known.pixels(), known.labels, classes=test.classes, k=self.k
        )


@dataclass(frozen=True)
class Transfer(Measurement):
    """How many candidates a judge has right that each of several nets has wrong.

    "clean": of all candidates; "random": of as many of the same classes as the first net has
    wrong; "on_NAME": of those that the net of that name has wrong.
    """

    judge: Trained | Voters
    filters: tuple[tuple[str, Trained], ...]

    def measure(self, work: Work) -> Columns:
        candidates = self.judge.data.splits(work).test
        if isinstance(self.judge, Voters):
            said = self.judge.names(work)
        else:
            said = named_by(work.load(self.judge), candidates.pixels())
        right = said == candidates.labels
        sets = {f"on_{name}": wrong(model, work) for name, model in self.filters}
        sets = {"random": alike(next(iter(sets.values())), candidates.labels, self._seed), **sets}
        return {"clean": percent(right), **{name: percent(right[of]) for name, of in sets.items()}}

    @property
    def _seed(self) -> int:
        return self.judge.data.seed


@dataclass(frozen=True)
class LabelNoise(Measurement):
    """How many of the filtered images have a label that may be wrong.

    Suspected are images that the net and a vote of the nearest images, of those not filtered, both
    take for the same other class. A hard image may be suspected as well. Where some labels were
    changed, "found" is the share of these among the filtered that is suspected, and "false" that of
    the others.

    - `data`: the candidates, of which some labels may be changed; the net is trained without
    """

    model: Trained
    data: Candidates
    k: int

    def measure(self, work: Work) -> Columns:
        parts, net = self.data.splits(work), work.load(self.model)
        candidates = parts.test
        filtered = wrong(self.model, work, candidates)
        x = candidates.pixels()
        row = {"filtered": float(filtered.sum()), "share": percent(filtered)}
        named = named_by(net, x)

        def suspected(of: Mask) -> Tensor:
            known = torch.cat([parts.train.pixels(), x[~of]])
            labels = torch.cat([parts.train.labels, candidates.labels[~of]])
            votes = neighbours(x[of], known, labels, classes=candidates.classes, k=self.k)
            return (votes != candidates.labels[of]) & (votes == named[of])

        doubted = suspected(filtered)
        drawn = suspected(alike(filtered, candidates.labels, self.data.seed))
        row |= {"suspected": percent(doubted), "suspected_random": percent(drawn)}
        changed = candidates.labels != candidates.columns["true_labels"]
        if bool(changed.any()):
            among = changed[filtered]
            row |= {
                "kept": percent(filtered[changed]),
                "changed": percent(among),
                "found": percent(doubted[among]),
                "false": percent(doubted[~among]),
            }
        return row


@dataclass(frozen=True)
class Confidence(Measurements):
    """A judge's confidence on all candidates, random ones, and those that a net has wrong."""

    name: str
    judge: Trained
    source: Trained

    def measure(self, work: Work) -> Tables:
        candidates, net = self.judge.data.splits(work).test, work.load(self.judge)
        filtered = wrong(self.source, work)
        drawn = alike(filtered, candidates.labels, self.judge.data.seed)
        logits = logits_of(net, candidates.pixels().to(net.device)).cpu()
        sure, right = max_softmax(logits), predicted(logits) == candidates.labels
        rows = dict[str, Columns]()
        for name, of in zip(SETS, (torch.ones_like(drawn), drawn, filtered), strict=True):
            rows[f"{self.name}, {name}"] = {
                "right": percent(right[of]),
                "confidence": 100 * float(sure[of].mean()),
                "calibration": rms_calibration_error(sure[of], right[of]),
                "aurra": aurra(sure[of], right[of]),
            }
        return {"confidence": rows}


@dataclass(frozen=True)
class Outliers(Measurement):
    """How well a judge's confidence tells outliers from as many candidates: AUPR, in percent.

    Outliers are the images of held-out classes of which a net is surest ("aupr_hard"), as many
    drawn among all of them ("aupr_random"), and uniform noise ("aupr_noise").

    - `share`: of the images of held-out classes that is kept
    """

    judge: Trained
    source: Trained
    share: float

    def measure(self, work: Work) -> Columns:
        data = self.judge.data
        assert isinstance(data, Candidates)
        unknown, candidates = data.outliers(work), data.splits(work).test.pixels()
        count = max(1, round(self.share * len(unknown)))
        hard = self._sure(self.source, unknown, work).topk(count).indices
        order = self._order(len(unknown), "outliers")
        keys = random.row_keys(count, data.seed, "noise images")
        inside = candidates[self._order(len(candidates), "inliers")[:count]]
        inliers = -self._sure(self.judge, inside, work)
        noise = random.uniform(keys, unknown.shape[1:])
        sets = {"random": unknown[order[:count]], "hard": unknown[hard], "noise": noise}
        return {
            "outliers": float(count),
            **{
                f"aupr_{name}": detection_aupr(-self._sure(self.judge, x, work), inliers)
                for name, x in sets.items()
            },
            "chance": 100 * count / (count + len(inside)),
        }

    def _sure(self, model: Trained, x: Images, work: Work) -> Tensor:
        net = work.load(model)
        return max_softmax(logits_of(net, x.to(net.device))).cpu()

    def _order(self, n: int, name: str) -> Tensor:
        return torch.randperm(n, generator=random.generator(self.judge.data.seed, name))


@dataclass(frozen=True)
class FilteredPictures(Illustration):
    """The filtered images of which a net is surest, with the classes that it names."""

    model: Trained

    def draw(self, work: Work) -> Pictures:
        candidates, net = self.model.data.splits(work).test, work.load(self.model)
        some = candidates.select(wrong(self.model, work))
        logits = logits_of(net, some.pixels().to(net.device)).cpu()
        first = max_softmax(logits).topk(min(SHOWN, len(some))).indices
        return {
            "filtered.images": some.pixels(first),
            "filtered.labels": predicted(logits[first]),
            "filtered.true_labels": some.labels[first],
        }

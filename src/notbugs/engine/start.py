"""The first points of a solve."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import final

from notbugs.core import random
from notbugs.core.errors import bad_value
from notbugs.core.types import Images, Keys
from notbugs.engine.sets import AbstractSet


class AbstractStart(ABC):
    """Chooses the first point of each row; the solver projects it onto its set."""

    @abstractmethod
    def __call__(self, center: Images, within: AbstractSet, keys: Keys) -> Images:
        """First points [n, ...]."""


@final
@dataclass(frozen=True)
class AtCenter(AbstractStart):
    """The centre itself."""

    def __call__(self, center: Images, within: AbstractSet, keys: Keys) -> Images:
        return center


@final
@dataclass(frozen=True)
class UniformIn(AbstractStart):
    """A random point of the set: uniform in the ball, then clamped to the box."""

    def __call__(self, center: Images, within: AbstractSet, keys: Keys) -> Images:
        return within.sample(center, random.fold(keys, "start"))


@final
@dataclass(frozen=True, eq=False)
class FromImages(AbstractStart):
    """Given images, one per row: other images, noise images, or an earlier result."""

    images: Images

    def __call__(self, center: Images, within: AbstractSet, keys: Keys) -> Images:
        if self.images.shape != center.shape:
            raise bad_value(
                "images", f"have the centre's shape {tuple(center.shape)}", tuple(self.images.shape)
            )
        return self.images.to(center)

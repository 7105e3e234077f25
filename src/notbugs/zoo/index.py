"""The models at hand: those that ship with the package, and those in the user's folder."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from notbugs.core.errors import unknown_name
from notbugs.data.download import cache_folder
from notbugs.models.weights import MODEL
from notbugs.zoo.card import CARD, NAME, Card, check_name, read_card

SHIPPED = Path(__file__).parent / "models"
"""The folder of the models that ship with the package."""
COLUMNS = ("name", "dataset", "architecture", "clean %", "robust %", "threat", "KB")
"""The head of a table of models."""


@dataclass(frozen=True)
class Entry:
    """A model of the zoo: the folder with its weights and its card."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name, which is the model's."""
        return self.folder.name

    @property
    def weights(self) -> Path:
        """The file of its weights."""
        return self.folder / MODEL

    @cached_property
    def card(self) -> Card:
        """Its card; **raises** DataError where that is missing or damaged."""
        return read_card(self.folder)

    @property
    def row(self) -> tuple[str, ...]:
        """Its row in a table (`COLUMNS`); **raises** as `card` does."""
        card = self.card
        return (
            self.name,
            card.trained_on.dataset,
            card.architecture,
            card.model_info.clean_acc,
            card.robust,
            card.threat,
            f"{card.bytes / 1000:.0f}",
        )


def zoo_folder() -> Path:
    """The user's folder of models: NOTBUGS_ZOO, else `zoo` in the cache."""
    named = os.environ.get("NOTBUGS_ZOO")
    return Path(named).expanduser() if named else cache_folder() / "zoo"


def entries() -> Mapping[str, Entry]:
    """All models by name; of two of one name, that which ships with the package."""
    models = dict[str, Entry]()
    for root in (SHIPPED, zoo_folder()):
        for folder in sorted(root.iterdir()) if root.is_dir() else ():
            if NAME.fullmatch(folder.name) and (folder / CARD).is_file():
                models.setdefault(folder.name, Entry(folder))
    return models


def find(name: str) -> Entry:
    """The model of that name.

    **Raises** ValueError where there is none; the nearest name is suggested.
    """
    check_name(name)
    known = entries()
    if name not in known:
        raise unknown_name("model of the zoo", name, known)
    return known[name]

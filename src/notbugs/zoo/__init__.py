"""Models with cards: what each is, how it was made, and how robust it was found to be."""

from notbugs.zoo.adding import About, add
from notbugs.zoo.addresses import is_address, load_model, weights_at
from notbugs.zoo.card import Card, ModelInfo, TrainedOn, page_of, read_card
from notbugs.zoo.evaluation import Evaluation, written
from notbugs.zoo.hub import FolderHub, Hub, fetch, push
from notbugs.zoo.index import Entry, entries, find, zoo_folder
from notbugs.zoo.verifying import Check, verify

__all__ = [
    "About",
    "Card",
    "Check",
    "Entry",
    "Evaluation",
    "FolderHub",
    "Hub",
    "ModelInfo",
    "TrainedOn",
    "add",
    "entries",
    "fetch",
    "find",
    "is_address",
    "load_model",
    "page_of",
    "push",
    "read_card",
    "verify",
    "weights_at",
    "written",
    "zoo_folder",
]

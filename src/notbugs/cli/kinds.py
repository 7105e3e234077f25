"""How notbugs recognises the kinds of files it wrote, so that a command replaces only those."""

import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from notbugs.core.errors import DataError
from notbugs.core.schema import read_json_file
from notbugs.core.strict_json import SchemaError, parse_json
from notbugs.data import files, safefile
from notbugs.data.pictures import SOFTWARE
from notbugs.models import weights
from notbugs.training import checkpoint

IMAGES = "notbugs.images"
"""The metadata key of a safetensors file with images that `notbugs look` made."""
EPOCH = frozenset(("epoch", "loss", "lr"))
WATCHED = frozenset(("val_clean", "val_robust", "guard_robust"))


@dataclass(frozen=True)
class Kind:
    """A kind of file: its name for messages, and a check that an existing file is of that kind.

    A `folder` is written atomically and never replaced.
    """

    words: str
    is_ours: Callable[[Path], bool]
    folder: bool = False


def _tensors(key: str) -> Callable[[Path], bool]:
    def is_ours(path: Path) -> bool:
        try:
            return key in safefile.read_header(path)
        except DataError:
            return False

    return is_ours


def _json(path: Path) -> Any:
    try:
        return parse_json(path.read_bytes())
    except (OSError, SchemaError):
        return None


def _is_recipe(path: Path) -> bool:
    try:
        read_json_file(files.SetSummary, path, remedy="")
    except DataError:
        return False
    return True


def _is_picture(path: Path) -> bool:
    try:
        with Image.open(path, formats=["PNG"]) as picture:
            return picture.info.get("Software") == SOFTWARE
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return False


def _is_metrics(path: Path) -> bool:
    try:
        rows = [parse_json(line) for line in path.read_bytes().splitlines()]
    except (OSError, SchemaError):
        return False
    return all(isinstance(row, dict) and EPOCH <= set(row) <= EPOCH | WATCHED for row in rows)  # pyright: ignore


def _is_archive(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return {"images.npy", "labels.npy", "about.npy"} <= set(archive.namelist())
    except (OSError, ValueError, zipfile.BadZipFile):
        return False


def _numbers(all_of: str, any_of: str = "") -> Callable[[Path], bool]:
    """A check for JSON with all keys in `all_of` and at least one in `any_of`."""
    needed, others = set(all_of.split()), set(any_of.split())

    def is_ours(path: Path) -> bool:
        content = _json(path)
        if not isinstance(content, dict):
            return False
        keys = set(content)  # pyright: ignore
        return needed <= keys and (not others or bool(others & keys))

    return is_ours


ATTACKED = Kind(
    "numbers of `notbugs attack`",
    _numbers("attack threat n attack_success_rate already_wrong mean_distance target"),
)
EVALUATED = Kind(
    "numbers of `notbugs evaluate`",
    _numbers("threat n clean_accuracy robust_accuracy ci95 attacks masking forwards_per_image"),
)
LOOK_NUMBERS = Kind(
    "numbers of `notbugs look`",
    _numbers("layer images", "inversion interpolation visualisation manipulation"),
)
USEFULNESS = Kind("numbers of `notbugs features`", _numbers("threat bound features"))
PHOTOGRAPHED = Kind(
    "numbers of `notbugs photo read`", _numbers("sheet photographs clean adversarial")
)
SET = Kind("a set", _tensors(files.KEY))
RECIPE = Kind("a set's recipe", _is_recipe)
ARCHIVE = Kind("a set in NumPy's format", _is_archive)
FOUND = Kind("images that were found", _tensors(IMAGES))
WEIGHTS = Kind("weights", _tensors(weights.KEY))
CHECKPOINT = Kind("a checkpoint", _tensors(checkpoint.KEY))
PICTURE = Kind("a picture", _is_picture)
METRICS = Kind("a training's metrics", _is_metrics)
FOLDER = Kind("a folder", lambda path: path.is_dir() and not any(path.iterdir()), folder=True)
RUN = Kind("a run", lambda path: True, folder=True)
"""The folder of a run; `claim_folder` checks its content."""

"""What weights record about the images they were trained on, and those images."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

from notbugs.core import processes
from notbugs.core.errors import DataError
from notbugs.core.schema import fit
from notbugs.core.strict_json import SchemaError
from notbugs.data import Source, Splits, load_source, split
from notbugs.data.files import SUFFIX


class Split(TypedDict, total=False):
    """How a dataset was split for a training."""

    seed: int
    train_size: int | None
    test_size: int | None


class Origin(TypedDict, total=False):
    """What weights record about the images they were trained on."""

    dataset: str | None
    split: Split | None


def origin_of(metadata: Mapping[str, Any]) -> Origin:
    """What weights record about the images they were trained on.

    **Raises** DataError where that is invalid.
    """
    try:
        return fit(Origin, dict(metadata))
    except SchemaError as error:
        raise DataError(
            f"What the weights say of their dataset is damaged: {error}. Train them again, or "
            "save them again with `notbugs.models.save`."
        ) from error


def splits_for(metadata: Mapping[str, Any], data: str | None, data_dir: Path | None) -> Splits:
    """The split a model was trained on, or that of the dataset the user names.

    **Raises** DataError when the weights do not record a dataset and none is named.
    """
    return split_as(source_for(metadata, data, data_dir), metadata, data)


def source_for(metadata: Mapping[str, Any], data: str | None, data_dir: Path | None) -> Source:
    """The dataset that the user names, or that the weights record; raises as `splits_for` does."""
    name = data or origin_of(metadata).get("dataset")
    if name is None:
        raise DataError("The weights do not say which dataset they belong to. Pass --data NAME.")
    return loaded(name, data_dir)


def split_as(source: Source, metadata: Mapping[str, Any], data: str | None) -> Splits:
    """The dataset split as for the training, where it is the one that the weights record."""
    origin = origin_of(metadata)
    recorded: Split = origin.get("split") or {}
    same = data is None or _is_same(data, origin.get("dataset"))
    return split(
        source,
        seed=recorded.get("seed", 0),
        train_size=recorded.get("train_size") if same else None,
        test_size=recorded.get("test_size") if same else None,
    )


def _is_same(data: str, recorded: str | None) -> bool:
    """Whether two names are of one dataset; those of files may be written in two ways."""
    files = (data, recorded or "")
    if all(file.endswith(SUFFIX) for file in files):
        return Path(files[0]).resolve() == Path(files[1]).resolve()
    return data == recorded


def loaded(name: str, data_dir: Path | None) -> Source:
    """A dataset by name; in a distributed run the first process downloads what is missing."""
    return processes.after_first(lambda: load_source(name, data_dir))

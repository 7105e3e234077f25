"""The files of a run's output folder: which are its own, and copies from the store."""

import os
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch

import notbugs
from notbugs.core.errors import DataError, StoreError
from notbugs.core.schema import read_json_file
from notbugs.data.writing import write_errors, write_file, write_json
from notbugs.experiments.experiment import PICTURES
from notbugs.store import AnyStage, Store

FILE_LIST = "notbugs-files.json"
"""The file that lists the files a run has written."""
RESULTS = "results.json"


def versions() -> dict[str, str]:
    """Versions and machine that the numbers were computed with."""
    return {
        "notbugs": notbugs.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": version("numpy"),
        "machine": platform.machine(),
        "cores": str(os.cpu_count()),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }


def check_files(out: Path, wanted: Sequence[str]) -> None:
    """Refuses to overwrite a file in `out` that no run has listed.

    **Raises** StoreError.
    """
    listed = _files_of_earlier_run(out)
    for path in (out / name for name in wanted):
        if os.path.lexists(path) and path not in listed:
            raise StoreError(
                f"'{path}' was not written by this run, but has the name of one of its files. "
                "Move it elsewhere, or choose another folder with --out."
            )


def replace_files(out: Path, wanted: Sequence[str]) -> None:
    """Removes the files of an earlier run in `out` that are not `wanted`, and lists `wanted`.

    **Raises** StoreError where `out` holds a file of a wanted name that no run has listed.
    """
    check_files(out, wanted)
    out.mkdir(parents=True, exist_ok=True)
    for old in set(_files_of_earlier_run(out)) - {out / name for name in wanted}:
        old.unlink(missing_ok=True)
    write_json(out / FILE_LIST, sorted(wanted))


def _files_of_earlier_run(out: Path) -> list[Path]:
    """The files that an earlier run listed, restricted to names that a run can write."""
    try:
        file_names = read_json_file(list[str], out / FILE_LIST, remedy="")
    except DataError:
        return []
    places = [out / name for name in file_names]
    allowed = {out / "models", out / "datasets", out / "priors"}
    ours = [p for p in places if p.parent in allowed and p.suffix == ".safetensors"]
    return ours + [out / name for name in (RESULTS, PICTURES)]  # every run's


def copy_from_store(store: Store, stage: AnyStage, name: str, target: Path) -> None:
    """Copies a file of a stage's result to `target`, unless the copy exists.

    **Raises** StoreError where `target` cannot be written.
    """
    source = store.get(stage.kind, stage.key).path / name
    if _is_copy(target, source):
        return
    with source.open("rb") as content:
        write_file(target, lambda file: shutil.copyfileobj(content, file))
    with write_errors(target):
        shutil.copystat(source, target)  # `_is_copy` compares the time


def _is_copy(target: Path, source: Path) -> bool:
    """Whether `target` is a separate file with the size and time of `source`."""
    if not target.is_file() or target.samefile(source):  # a link would change with the other
        return False
    copy, original = target.stat(), source.stat()
    return (copy.st_size, copy.st_mtime_ns) == (original.st_size, original.st_mtime_ns)

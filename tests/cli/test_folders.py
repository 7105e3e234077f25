"""The folder of a run: whose it is, also after somebody deleted it."""

import shutil
from pathlib import Path

import pytest

from notbugs.cli.common import claim_folder, restore_marker
from notbugs.core.errors import StoreError
from notbugs.store import Store

RUN, OTHER = {"experiment": "a"}, {"experiment": "b"}


def test_a_folder_deleted_under_a_run_is_known_afterwards(tmp_path: Path) -> None:
    out = tmp_path / "out"
    claim_folder(out, RUN)
    shutil.rmtree(out)
    (out / "models").mkdir(parents=True)  # what the run leaves at its end
    (out / "models" / "a.safetensors").touch()
    restore_marker(out, RUN)
    claim_folder(out, RUN)
    with pytest.raises(StoreError, match="holds another run"):
        claim_folder(out, OTHER)


def test_a_marker_that_is_there_is_left_alone(tmp_path: Path) -> None:
    claim_folder(tmp_path / "out", RUN)
    restore_marker(tmp_path / "out", OTHER)
    claim_folder(tmp_path / "out", RUN)


def test_a_folder_with_nothing_but_a_store_in_it_can_be_claimed(tmp_path: Path) -> None:
    """The run was killed after its folder had been deleted: only unfinished work lies there."""
    out = tmp_path / "out"
    with Store(out / "store").working("model", "key"):
        pass
    claim_folder(out, RUN)
    shutil.rmtree(out)
    (out / "store" / "partial" / "model").mkdir(parents=True)
    claim_folder(out, RUN)


def test_a_foreign_folder_is_refused_and_cannot_be_marked_where_it_cannot_be_made(
    tmp_path: Path,
) -> None:
    (tmp_path / "out" / "store").mkdir(parents=True)
    (tmp_path / "out" / "store" / "thesis.txt").touch()
    with pytest.raises(StoreError, match="not empty and not a run of notbugs"):
        claim_folder(tmp_path / "out", RUN)
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"Cannot write to .*--out"):
        restore_marker(tmp_path / "file" / "out", RUN)

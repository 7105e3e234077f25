"""What the shared safetensors helper says, for weights and for data."""

import errno
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from notbugs.core.errors import DataError, StoreError
from notbugs.data import safefile
from notbugs.data.safefile import read_header, read_tensors, write_tensors

READERS = (read_header, read_tensors)


@pytest.fixture
def path(tmp_path: Path):
    return tmp_path / "x.safetensors"


def test_round_trip(path) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    write_tensors(path, {"a": whole.T, "b": whole, "c": whole[:1]}, {"note": "hello"})
    tensors, metadata = read_tensors(path)
    assert torch.equal(tensors["a"], whole.T)
    assert torch.equal(tensors["b"], whole)
    assert torch.equal(tensors["c"], whole[:1])
    assert metadata == read_header(path) == {"note": "hello"}


def test_the_same_content_gives_the_same_bytes(path) -> None:
    entries = {str(i): "é" * i for i in range(8)}
    tensors = {"b": torch.zeros(3), "a": torch.ones(0), "c": torch.zeros((), dtype=torch.int64)}
    write_tensors(path, tensors, entries)
    first = path.read_bytes()
    write_tensors(path, tensors, dict(reversed(entries.items())))
    assert path.read_bytes() == first
    assert read_header(path) == read_tensors(path)[1] == entries
    assert load_file(path).keys() == tensors.keys()


def test_what_was_changed_after_it_was_written_is_refused(path) -> None:
    write_tensors(path, {"a": torch.zeros(64)}, {"note": "hello"})
    content = path.read_bytes()
    for place in (content.index(b"hello"), len(content) - 1):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(DataError, match=r"x.safetensors' is damaged: its digest .*make it"):
            read_tensors(path)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("what", ["weights", "data"])
def test_a_missing_file_is_called_what_it_should_hold(path, reader, what) -> None:
    with pytest.raises(DataError, match=rf"No {what} file '.*x.safetensors'. Check the path"):
        reader(path, what=what)


@pytest.mark.parametrize(
    ("what", "remedy"),
    [("weights", r"--model net\.py:make.*notbugs convert"), ("data", r"import_torch_lists")],
)
def test_the_remedy_for_a_pickle_fits_what_was_wanted(path, what, remedy) -> None:
    torch.save([torch.zeros(2)], path)
    with pytest.raises(DataError, match=rf"it is a pickle .*never unpickles.*{remedy}"):
        read_tensors(path, what=what)


def test_import_npz_is_no_remedy_for_weights(path) -> None:
    with path.open("wb") as file:
        np.savez(file, images=np.zeros(2))
    with pytest.raises(DataError, match=r"it is an .npz file, not safetensors.$"):
        read_tensors(path)
    with pytest.raises(DataError, match=r"it is an .npz file, .* Read it with import_npz.$"):
        read_tensors(path, what="data")


def test_a_zip_with_a_broken_directory_is_still_a_data_error(path) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", b"x" * 50)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"PK\x01\x02", b"PK\xff\xff"))
    assert zipfile.is_zipfile(path)
    with pytest.raises(zipfile.BadZipFile):
        zipfile.ZipFile(path)
    with pytest.raises(DataError, match=r"Cannot read '.*x.safetensors': it is"):
        read_tensors(path, what="data")


def test_a_full_disk_names_the_bytes_and_keeps_the_old_file(
    path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tensors(path, {"a": torch.zeros(1)}, {})
    before = path.read_bytes()

    def full(_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("notbugs.data.writing.os.fsync", full)
    match = r"Cannot write '.*': the disk is full \([\d,]+ bytes needed\)\. Free some space"
    with pytest.raises(StoreError, match=match):
        write_tensors(path, {"a": torch.ones(9)}, {})
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]


def test_a_file_replaced_while_it_is_read_is_read_again(
    path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the old file's header and the new one's tensors nothing is made."""
    real, replaced = safefile.safe_open, []

    def replacing(name, framework):
        file = real(name, framework=framework)  # the old file
        if not replaced:
            replaced.append(name)
            write_tensors(path, {"a": torch.ones(3)}, {"k": "new"})
        return file

    write_tensors(path, {"a": torch.zeros(2)}, {"k": "old"})
    monkeypatch.setattr(safefile, "safe_open", replacing)
    tensors, metadata = read_tensors(path)
    assert (tensors["a"].tolist(), metadata) == ([1.0] * 3, {"k": "new"})
    assert replaced == [path]

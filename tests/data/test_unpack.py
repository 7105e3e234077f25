"""Archives with bad intentions, or with damage that only shows while unpacking."""

import gzip
import io
import tarfile
from pathlib import Path

import numpy as np
import pytest

from notbugs.core.errors import DataError
from notbugs.data.download import cache_folder, unpack

NOISE = np.random.default_rng(0).bytes(50_000)


def tarred(path: Path, files: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def test_members_that_lead_outside_are_refused(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "x.tar.gz", {"../evil": b"x"})
    with pytest.raises(DataError, match="is truncated or corrupt"):
        unpack(archive, ["../evil"], tmp_path / "out")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "x.tar.gz"]
    assert list((tmp_path / "out").iterdir()) == []


def test_a_wrong_gzip_checksum_is_not_blamed_on_the_disk(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "x.tar.gz", {"top/a": NOISE, "top/b": NOISE})
    plain = gzip.decompress(archive.read_bytes())
    # The stream ends, with a wrong checksum, in the middle of the second member.
    first = bytearray(gzip.compress(plain[:70_000]))
    first[-8] ^= 255
    archive.write_bytes(bytes(first) + gzip.compress(plain[70_000:]))
    with pytest.raises(DataError, match=r"x\.tar\.gz' is truncated or corrupt. Delete it"):
        unpack(archive, ["top/a", "top/b"], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_what_was_unpacked_replaces_older_files(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a").write_bytes(b"old")
    (tmp_path / "out" / "other").write_bytes(b"kept")
    unpack(tarred(tmp_path / "x.tar.gz", {"top/a": b"new"}), ["top/a"], tmp_path / "out")
    files = {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()}
    assert files == {"a": b"new", "other": b"kept"}


def test_the_cache_has_our_name_unless_a_variable_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("NOTBUGS_CACHE", str(tmp_path / "here"))
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("NOTBUGS_CACHE")
    assert cache_folder().name == "notbugs"

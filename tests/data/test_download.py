import hashlib
import io
import logging
import tarfile
from pathlib import Path

import pytest

from notbugs.core.errors import DataError, DownloadError, StoreError
from notbugs.data import fetch
from notbugs.data.download import unpack

CONTENT = bytes(range(256)) * 300
MD5 = "md5:" + hashlib.md5(CONTENT).hexdigest()


@pytest.fixture(autouse=True)
def _served_content(server) -> None:
    server.content = CONTENT


@pytest.mark.parametrize("where", ["good", "unsized"])
@pytest.mark.parametrize("progress", [True, False])
def test_a_good_file(
    server, tmp_path: Path, where, progress, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "new" / "folder"
    path = fetch([f"{server.at}/{where}/set.gz"], checksum=MD5, folder=folder, progress=progress)
    assert path == folder / "set.gz"
    assert path.read_bytes() == CONTENT
    assert [p.name for p in folder.iterdir()] == ["set.gz"]
    shown = capsys.readouterr()
    assert ("set.gz" in shown.out) == progress
    assert shown.err == ""


def test_sha256_checksums(server, tmp_path: Path) -> None:
    checksum = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
    path = fetch([f"{server.at}/set.gz"], checksum=checksum, folder=tmp_path, progress=False)
    assert path.read_bytes() == CONTENT


def test_a_file_that_is_there_is_not_downloaded_again(server, tmp_path: Path) -> None:
    for _ in range(2):
        fetch([f"{server.at}/set.gz"], checksum=MD5, folder=tmp_path, progress=False)
    assert server.asked == ["/set.gz"]


def test_a_damaged_file_is_downloaded_again(server, tmp_path: Path) -> None:
    (tmp_path / "set.gz").write_bytes(CONTENT[:100])
    path = fetch([f"{server.at}/set.gz"], checksum=MD5, folder=tmp_path, progress=False)
    assert path.read_bytes() == CONTENT


def test_the_second_mirror_takes_over(server, closed_port_url, tmp_path: Path) -> None:
    mirrors = [
        f"{server.at}/gone",
        closed_port_url,
        f"{server.at}/wrong",
        f"{server.at}/cut",
        server.at,
    ]
    urls = [f"{mirror}/set.gz" for mirror in mirrors]
    path = fetch(urls, checksum=MD5, folder=tmp_path, progress=False)
    assert path.read_bytes() == CONTENT
    assert server.asked == ["/gone/set.gz", "/wrong/set.gz", "/cut/set.gz", "/set.gz"]
    assert [p.name for p in tmp_path.iterdir()] == ["set.gz"]


def test_when_all_fail_each_mirror_and_the_remedy_are_named(
    server, closed_port_url, tmp_path: Path
) -> None:
    urls = [f"{server.at}/gone/set.gz", f"{closed_port_url}/set.gz", f"{server.at}/wrong/set.gz"]
    with pytest.raises(DownloadError) as caught:
        fetch(urls, checksum=MD5, folder=tmp_path / "raw", progress=False)
    said = str(caught.value)
    assert said.startswith(f"Could not download set.gz ({urls[0]}: HTTP 404 Not Found; {urls[1]}: ")
    assert "refused" in said
    assert f"; {urls[2]}: what arrived does not have the checksum {MD5}). Get 'set.gz'" in said
    assert f"another way and put it into '{tmp_path / 'raw'}'" in said
    assert "NOTBUGS_DATA" in said
    assert not any((tmp_path / "raw").iterdir())


def test_a_file_cut_short_is_not_kept(server, tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"cut/set.gz: "):
        fetch([f"{server.at}/cut/set.gz"], checksum=MD5, folder=tmp_path, progress=False)
    assert list(tmp_path.iterdir()) == []


def test_an_address_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(DownloadError, match=r"nowhere/set.gz: Invalid URL"):
        fetch(["nowhere/set.gz"], checksum=MD5, folder=tmp_path, progress=False)


def test_no_address(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`urls` must name at least one address"):
        fetch([], checksum=MD5, folder=tmp_path)


def test_a_folder_that_cannot_be_made(server, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Cannot write '.*set.gz'.*Choose another folder"):
        fetch([f"{server.at}/set.gz"], checksum=MD5, folder=tmp_path / "file", progress=False)


def test_a_full_disk_is_not_the_mirrors_fault(
    server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    def full(source, target) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(shutil, "move", full)
    urls = [f"{server.at}/set.gz", f"{server.at}/again/set.gz"]
    with pytest.raises(StoreError, match=r"Cannot write '.*set.gz': the disk is full"):
        fetch(urls, checksum=MD5, folder=tmp_path, progress=False)
    assert server.asked == ["/set.gz"]
    assert list(tmp_path.iterdir()) == []


def test_the_logger_of_pooch_is_left_as_it_was(server, tmp_path: Path) -> None:
    import pooch

    before = pooch.get_logger().level
    fetch([f"{server.at}/set.gz"], checksum=MD5, folder=tmp_path, progress=False)
    assert pooch.get_logger().level == before != logging.WARNING


def archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            if content is None:
                info.type, info.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                info.size = len(content)
            tar.addfile(info, None if content is None else io.BytesIO(content))
    return path


def test_only_the_named_members_are_unpacked(tmp_path: Path) -> None:
    members = {"top/a.bin": b"a", "top/b.bin": b"b", "../evil": b"x", "top/readme": b"r"}
    path = archive(tmp_path / "x.tar.gz", members)
    unpack(path, ["top/a.bin", "top/b.bin"], tmp_path / "out")
    assert {p.name: p.read_bytes() for p in (tmp_path / "out").iterdir()} == {
        "a.bin": b"a",
        "b.bin": b"b",
    }
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out", "x.tar.gz"]


@pytest.mark.parametrize(
    ("members", "match"),
    [
        ({"top/a.bin": b"a"}, r"is not the expected archive: .*top/b.bin"),
        ({"top/a.bin": b"a", "top/b.bin": None}, r"holds links where files are expected"),
    ],
)
def test_other_archives(tmp_path: Path, members, match) -> None:
    path = archive(tmp_path / "x.tar.gz", members)
    with pytest.raises(DataError, match=match):
        unpack(path, ["top/a.bin", "top/b.bin"], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"no archive", "half"])
def test_damaged_archives(tmp_path: Path, content) -> None:
    path = archive(tmp_path / "x.tar.gz", {"top/a.bin": bytes(5000) + CONTENT})
    path.write_bytes(path.read_bytes()[:400] if content == "half" else content)
    with pytest.raises(DataError, match=r"is truncated or corrupt. Delete it and try again"):
        unpack(path, ["top/a.bin"], tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []

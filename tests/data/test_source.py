"""Titles and notes of sources, and where files are looked for."""

from pathlib import Path

import pytest
import torch

from notbugs.core.errors import DataError
from notbugs.data import SOURCES, Source, load_source
from notbugs.data.sources.source import published, read_note, with_file


def test_known_names_are_listed() -> None:
    sets = ("digits", "mnist", "fashion-mnist", "cifar10", "cifar100", "planted", "photographs")
    assert (*sets, "folder:PATH") == SOURCES


def test_digits_are_the_same_each_time() -> None:
    first, second = load_source("digits").train, load_source("digits").train
    assert first.digest == second.digest


def test_sets_without_files_need_no_folder(tmp_path: Path) -> None:
    missing = tmp_path / "never made"
    assert len(load_source("digits", missing, download=False).train) == 1797
    assert not missing.exists()


def test_the_argument_comes_before_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTBUGS_DATA", str(tmp_path / "environment"))
    with pytest.raises(DataError, match=r"No mnist in '.*argument'"):
        load_source("mnist", tmp_path / "argument", download=False)


@pytest.mark.parametrize(
    ("name", "note", "title"),
    [
        ("cifar10", "", "CIFAR-10"),
        ("cifar10", "CIFAR-10 (JPEG)", "CIFAR-10 (JPEG)"),
        ("fashion-mnist", "", "Fashion-MNIST"),
        ("folder:some/where/birds", "", "birds"),
        ("folder:some/where/birds", "My birds", "My birds"),
    ],
)
def test_the_title_is_the_note_if_there_is_one(name: str, note: str, title: str) -> None:
    assert Source(name, load_source("digits").train, None, note).title == title


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("CIFAR-10 (JPEG): re-encoded, quality 75\nsecond line", "CIFAR-10 (JPEG)"),
        ("\n\n  Shuffled MNIST  \nmore", "Shuffled MNIST"),
        ("", ""),
        ("x" * 200, "x" * 80),
        (None, ""),
    ],
)
def test_a_note_is_the_first_words(text: str | None, note: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "PROVENANCE.txt").write_text(text)
    assert read_note(tmp_path) == note


def test_an_unreadable_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"Cannot read '.*absent.bin': No such file"):
        with_file(tmp_path / "absent.bin", len)


def test_parts_that_do_not_fit_together_are_refused() -> None:
    images, labels = torch.zeros(3, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(DataError, match=r"'mnist' are damaged or do not belong together \(a, b\)"):
        published(images, labels, ["0"], name="mnist", part="train", files={"a": "", "b": ""})

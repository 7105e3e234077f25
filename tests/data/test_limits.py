"""Small inputs that claim to be large, and tensors whose values cannot be read."""

import gzip
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from notbugs.cli import main
from notbugs.core import limits
from notbugs.core.errors import DataError, check_images, check_labels
from notbugs.data import ImageData, import_npz, import_torch_lists, load, save
from notbugs.data.sources import idx
from published import encoded

IMAGES, LABELS = torch.rand(4, 1, 5, 5), torch.arange(4) % 2
SPARSE = IMAGES.to_sparse()
NESTED = [torch.rand(1, 5, 5), torch.rand(1, 5, 6)]
NOT_DENSE: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "sparse": lambda t: t.to_sparse(),
    "meta": lambda t: t.to("meta"),
}
EXPECTED = {"sparse": r"must be a dense tensor.*\.to_dense\(\)", "meta": r"hold values.*'meta'"}


def small(**changes: Any) -> ImageData:
    return ImageData(
        **{"images": IMAGES, "labels": LABELS, "class_names": ("a", "b"), "name": "x"} | changes
    )


@pytest.mark.parametrize("kind", NOT_DENSE)
@pytest.mark.parametrize("part", ["images", "labels", "columns"])
def test_tensors_without_values_are_refused(kind: str, part: str) -> None:
    bad = NOT_DENSE[kind]
    changes = {
        "images": {"images": bad(IMAGES)},
        "labels": {"labels": bad(LABELS)},
        "columns": {"columns": {"c": bad(LABELS)}},
    }[part]
    with pytest.raises((TypeError, ValueError), match=f"{part}.*{EXPECTED[kind]}"):
        small(**changes)


@pytest.mark.parametrize("kind", NOT_DENSE)
def test_attacks_name_them_too(kind: str) -> None:
    with pytest.raises((TypeError, ValueError), match=EXPECTED[kind]):
        check_images(NOT_DENSE[kind](IMAGES))
    with pytest.raises((TypeError, ValueError), match=EXPECTED[kind]):
        check_labels(NOT_DENSE[kind](LABELS), rows=4, classes=2)


@pytest.mark.parametrize(
    ("images", "said"),
    [
        (IMAGES.to(torch.complex64), r"complex64; use \.float"),
        (IMAGES.to(torch.float8_e4m3fn), r"float8_e4m3fn; use \.float"),
        (IMAGES > 0.5, r"torch.bool; divide"),
    ],
)
def test_images_of_a_dtype_that_is_not_computed_with(images: torch.Tensor, said: str) -> None:
    with pytest.raises(TypeError, match=said):
        check_images(images)


@pytest.mark.parametrize("kind", NOT_DENSE)
@pytest.mark.parametrize("form", ["tensor", "list"])
def test_lists_of_them_are_refused(kind: str, form: str, tmp_path: Path) -> None:
    bad = NOT_DENSE[kind]
    for images, labels in ((bad(IMAGES), LABELS), (IMAGES, bad(LABELS))):
        pair = [images, labels] if form == "tensor" else [[images], [labels]]
        for name, content in zip("xy", pair, strict=True):
            torch.save(content, tmp_path / name)
        with pytest.raises(DataError, match=f"does not hold a tensor.*{EXPECTED[kind]}"):
            import_torch_lists(tmp_path / "x", tmp_path / "y")


@pytest.mark.parametrize("content", [[], NESTED, ["a"], [10**30], {}, [None]])
def test_lists_of_other_things_are_refused(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x")
    torch.save(LABELS, tmp_path / "y")
    with pytest.raises(DataError, match="x' does not hold a tensor or a list of tensors"):
        import_torch_lists(tmp_path / "x", tmp_path / "y")


@pytest.mark.parametrize("label", [limits.CLASSES, 10**9, 10**15])
def test_a_label_does_not_make_classes_without_end(label: int, tmp_path: Path) -> None:
    labels = torch.tensor([0, 1, 0, label])
    np.savez(tmp_path / "x.npz", images=IMAGES.numpy(), labels=labels.numpy())
    said = rf"`labels` must lie below 100,000, the most classes; got {label:,}"
    with pytest.raises(DataError, match=said):
        import_npz(tmp_path / "x.npz")
    torch.save(IMAGES, tmp_path / "x")
    torch.save(labels, tmp_path / "y")
    with pytest.raises(DataError, match=said):
        import_torch_lists(tmp_path / "x", tmp_path / "y")


@pytest.mark.parametrize("labels", [[0, 1, np.inf, 0], [0, 1, np.nan, 0], [0j, 1, 0, 1], [-5] * 4])
def test_labels_that_are_no_classes(labels: Any, tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", images=IMAGES.numpy(), labels=np.array(labels))
    with pytest.raises(DataError, match="does not hold a valid set: `labels` must"):
        import_npz(tmp_path / "x.npz")


def test_class_names_have_a_number_and_a_length(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"at most 100,000; got 1,000,000"):
        small(class_names=tuple(map(str, range(1_000_000))))
    with pytest.raises(ValueError, match=r"at most 1,000 characters each; got 5,000 in 'ccc"):
        small(class_names=("a", "c" * 5_000))
    with pytest.raises(ValueError, match=r"be all different; got 'a' twice"):
        small(class_names=("b", "a", "a"))
    names = (*map(str, range(limits.CLASSES - 1)), "n" * limits.NAME)
    save(small(class_names=names), tmp_path / "many.safetensors")
    assert load(tmp_path / "many.safetensors").class_names == names


def test_many_classes_are_shown_in_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save(small(class_names=tuple(map(str, range(5_000)))), tmp_path / "many.safetensors")
    main(["data", "show", str(tmp_path / "many.safetensors")])
    said = capsys.readouterr().out
    assert "4,900 more" in " ".join(said.replace("│", "").split())
    assert len(said) < 20_000


@pytest.mark.parametrize("header", ["honest", "lying"])
def test_a_packed_npz_is_not_unpacked_beyond_memory(
    header: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.npz"
    if header == "honest":
        np.savez_compressed(
            path, images=np.zeros((4, 1000, 1000), np.uint8), labels=np.zeros(4, int)
        )
        monkeypatch.setattr(limits, "_memory", lambda: 10**6)
    else:
        with zipfile.ZipFile(path, "w") as archive:
            start = b"{'descr': '|u1', 'fortran_order': False, 'shape': (1000000000000000,), }"
            start = start.ljust(117) + b"\n"
            head = b"\x93NUMPY\x01\x00" + len(start).to_bytes(2, "little") + start
            archive.writestr("images.npy", head + bytes(100))
    with pytest.raises(DataError, match=r"x.npz' is not a sound .npz archive"):
        import_npz(path)


def test_a_packed_idx_is_unpacked_as_far_as_its_header_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.gz"
    raw = encoded(np.zeros((2, 3, 3), np.uint8))
    assert idx._parsed(path, gzip.compress(raw), idx.IMAGES).shape == (2, 3, 3)
    asked = list[int]()
    read = gzip.GzipFile.read

    def watched(file: gzip.GzipFile, size: int = -1) -> bytes:
        asked.append(size)
        return read(file, size)

    monkeypatch.setattr(gzip.GzipFile, "read", watched)
    with pytest.raises(DataError, match=r"announces 18 bytes, 19 follow at least"):
        idx._parsed(path, gzip.compress(raw + bytes(10**6)), idx.IMAGES)
    assert asked == [16, 19]
    huge = raw[:4] + b"\xff" * 12
    with pytest.raises(DataError, match=r"x.gz' announces .* bytes: .* GB are needed"):
        idx._parsed(path, gzip.compress(huge), idx.IMAGES)


def test_a_batch_that_is_no_batch_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--batch-size", str(10**12), "--out", str(tmp_path / "x")])
    assert "`batch_size` must not exceed the number of images" in capsys.readouterr().err

import csv
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from notbugs.core.errors import DataError, StoreError
from notbugs.data import (
    ImageData,
    export_folder,
    export_npz,
    import_npz,
    import_torch_lists,
    load_source,
)


def make(channels=1, dtype=torch.float32, names=("zero", "one"), n=6) -> ImageData:
    noise = torch.rand(n, channels, 5, 7, generator=torch.Generator().manual_seed(2))
    images = noise if dtype == torch.float32 else (noise * 255).to(dtype)
    columns = {"distance": torch.arange(n) / 2}
    labels = torch.arange(n) % len(names)
    return ImageData(images, labels, names, "toy", {"recipe": "test"}, columns)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_npz_round_trip(tmp_path: Path, dtype) -> None:
    data = make(3, dtype)
    export_npz(data, tmp_path / "toy.npz")
    again = import_npz(tmp_path / "toy.npz")
    assert again.digest == data.digest
    assert (again.name, again.provenance) == (data.name, data.provenance)
    assert torch.equal(again.columns["distance"], data.columns["distance"])
    assert [p.name for p in tmp_path.iterdir()] == ["toy.npz"]


def test_npz_of_others_without_channels_and_names(tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((4, 5, 7))
    np.savez(tmp_path / "x.npz", images=images, labels=np.array([0, 1, 2, 1], np.uint8))
    data = import_npz(tmp_path / "x.npz")
    assert (data.shape, data.class_names, data.name) == ((1, 5, 7), ("0", "1", "2"), "x")
    assert torch.equal(data.images[:, 0], torch.from_numpy(images).float())
    assert data.labels.dtype == torch.int64


@pytest.mark.parametrize("channels", [1, 3])
def test_npz_of_generated_images_with_the_channels_last(tmp_path: Path, channels) -> None:
    images = np.random.default_rng(0).integers(0, 256, (4, 5, 7, channels), dtype=np.uint8)
    np.savez(tmp_path / "1m.npz", image=images, label=np.array([0, 1, 2, 1]))
    data = import_npz(tmp_path / "1m.npz", class_names=["a", "b", "c", "d"])
    assert (data.shape, data.class_names, data.name) == ((channels, 5, 7), (*"abcd",), "1m")
    assert data.images.dtype == torch.uint8
    assert data.images.is_contiguous()
    assert torch.equal(data.images, torch.from_numpy(images).permute(0, 3, 1, 2))
    assert data.labels.tolist() == [0, 1, 2, 1]
    np.savez(tmp_path / "first.npz", image=images.transpose(0, 3, 1, 2), label=np.zeros(4, int))
    assert import_npz(tmp_path / "first.npz").shape == (channels, 5, 7)


@pytest.mark.parametrize(
    ("arrays", "match"),
    [
        ({"image": np.zeros((2, 5, 5, 1))}, "lacks labels; it holds images"),
        ({"images": np.zeros((2, 5, 5))}, "lacks labels; it holds images"),
        ({"x": np.zeros(2)}, "lacks images and labels; it holds x"),
        ({"images": np.zeros((2, 9, 9, 3)), "labels": [0, 1]}, "channels seem to come last"),
        ({"images": np.full((2, 5, 5), 9.0), "labels": [0, 1]}, "does not hold a valid set: `imag"),
        ({"images": np.zeros((2, 5, 5)), "labels": [0.5, 1]}, "`labels` must be an integer tensor"),
        ({"images": np.zeros((2, 5, 5)), "labels": [0, 1, 1]}, r"`labels` must have shape \(2,\)"),
        ({"images": np.zeros((2, 5, 5)), "labels": ["a", "b"]}, "does not hold a valid set"),
        ({"images": np.array([None, {}]), "labels": [0, 1]}, "Pickled objects are never read"),
    ],
)
def test_bad_npz(tmp_path: Path, arrays, match) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(DataError, match=match):
        import_npz(tmp_path / "x.npz")


def test_missing_and_truncated_npz(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No data file"):
        import_npz(tmp_path / "x.npz")
    export_npz(make(), tmp_path / "x.npz")
    whole = (tmp_path / "x.npz").read_bytes()
    for content in (whole[:300], b"", b"PK\x03\x04", np.zeros(3).tobytes()):
        (tmp_path / "x.npz").write_bytes(content)
        with pytest.raises(DataError, match=r"is not a sound .npz archive"):
            import_npz(tmp_path / "x.npz")


def test_a_bare_array_is_not_an_archive(tmp_path: Path) -> None:
    with (tmp_path / "x.npz").open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(DataError, match=r"is not a sound .npz archive"):
        import_npz(tmp_path / "x.npz")


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_folder_round_trip_of_bytes(tmp_path: Path, channels) -> None:
    data = make(channels, torch.uint8)
    done = export_folder(data, tmp_path / "out")
    assert (done.images, done.pixels, done.changed, done.largest) == (6, data.images.numel(), 0, 0)
    again = load_source(f"folder:{tmp_path / 'out'}").train
    assert set(again.class_names) == {"0-zero", "1-one"}
    order = torch.argsort(data.labels, stable=True)
    assert torch.equal(again.images, data.images[order])
    assert torch.equal(again.labels, data.labels[order])


def test_folder_rounds_and_says_so(tmp_path: Path) -> None:
    images = torch.tensor([0.0, 0.6 / 255, 1.4 / 255, 1.0]).reshape(2, 1, 1, 2)
    data = ImageData(images, torch.tensor([0, 1]), ("a", "b"), "toy")
    done = export_folder(data, tmp_path / "out")
    pixels = [np.array(Image.open(tmp_path / "out" / f)) for f in ("a/0.png", "b/1.png")]
    assert np.stack(pixels).flatten().tolist() == [0, 1, 1, 255]
    assert (done.changed, done.pixels) == (2, 4)
    assert done.largest == pytest.approx(0.4 / 255)


def test_folder_labels_and_names(tmp_path: Path) -> None:
    names = ("T-shirt/top", "Bag", "..")
    export_folder(make(names=names), tmp_path / "out")
    folders = sorted(p.name for p in (tmp_path / "out").iterdir() if p.is_dir())
    assert folders == ["0-T-shirt_top", "1-Bag", "2-_"]
    with (tmp_path / "out" / "labels.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert rows[:2] == [
        ["file", "label", "class", "distance"],
        ["0-T-shirt_top/0.png", "0", "T-shirt/top", "0"],
    ]
    assert len(rows) == 7
    assert all((tmp_path / "out" / row[0]).is_file() for row in rows[1:])


def test_sorted_names_are_kept(tmp_path: Path) -> None:
    export_folder(make(names=("cat", "dog")), tmp_path / "out")
    assert load_source(f"folder:{tmp_path / 'out'}").train.class_names == ("cat", "dog")


def test_folder_that_is_not_empty(tmp_path: Path) -> None:
    (tmp_path / "note").write_text("mine")
    with pytest.raises(StoreError, match=r"already there and not empty. Choose another folder"):
        export_folder(make(), tmp_path)
    with pytest.raises(StoreError, match=r"already there"):
        export_folder(make(), tmp_path / "note")
    assert [p.name for p in tmp_path.iterdir()] == ["note"]


def test_folder_on_a_full_disk_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pathlib import Path

    def full(self, content) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StoreError, match=r"Cannot write '.*out': the disk is full"):
        export_folder(make(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_folder_of_two_channels(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"1, 3 or 4 channels; got 2. Use export_npz"):
        export_folder(make(2), tmp_path / "out")


IMAGES = torch.rand(6, 3, 4, 4, generator=torch.Generator().manual_seed(3))
LABELS = torch.tensor([0, 1, 2, 2, 1, 0])


@pytest.mark.parametrize(
    "images",
    [IMAGES, list(IMAGES), list(IMAGES.split(4)), tuple(IMAGES.double())],
    ids=["stacked", "list", "batches", "double"],
)
@pytest.mark.parametrize(
    "labels",
    [LABELS, LABELS.tolist(), list(LABELS), list(LABELS.int().split(2))],
    ids=["stacked", "numbers", "scalars", "batches"],
)
def test_torch_lists(tmp_path: Path, images, labels) -> None:
    torch.save(images, tmp_path / "CIFAR_ims")
    torch.save(labels, tmp_path / "CIFAR_lab")
    data = import_torch_lists(tmp_path / "CIFAR_ims", tmp_path / "CIFAR_lab", name="D_R")
    assert torch.equal(data.images, IMAGES)
    assert torch.equal(data.labels, LABELS)
    assert (data.class_names, data.name) == (("0", "1", "2"), "D_R")
    assert data.provenance["files"] == ["CIFAR_ims", "CIFAR_lab"]


def test_torch_lists_with_names_and_old_format(tmp_path: Path) -> None:
    torch.save(list(IMAGES), tmp_path / "x", _use_new_zipfile_serialization=False)
    torch.save(LABELS.tolist(), tmp_path / "y", _use_new_zipfile_serialization=False)
    data = import_torch_lists(tmp_path / "x", tmp_path / "y", class_names=["a", "b", "c", "d"])
    assert data.classes == 4


class _Opened:
    def __reduce__(self):
        return (pytest.fail, ("the pickle was opened",))


@pytest.mark.parametrize(
    "content",
    [pickle.dumps(_Opened()), b"", b"not torch at all", "truncated"],
    ids=["pickle", "empty", "text", "truncated"],
)
def test_torch_lists_that_are_something_else(tmp_path: Path, content) -> None:
    torch.save(list(IMAGES), tmp_path / "x")
    torch.save(LABELS, tmp_path / "y")
    whole = (tmp_path / "x").read_bytes()
    (tmp_path / "x").write_bytes(whole[:200] if content == "truncated" else content)
    with pytest.raises(DataError, match=r"cannot be read as tensors alone"):
        import_torch_lists(tmp_path / "x", tmp_path / "y")


def test_torch_file_with_code_is_not_executed(tmp_path: Path) -> None:
    torch.save([_Opened()], tmp_path / "x")
    torch.save(LABELS, tmp_path / "y")
    with pytest.raises(DataError, match=r"never unpickles"):
        import_torch_lists(tmp_path / "x", tmp_path / "y")


@pytest.mark.parametrize(
    ("images", "labels", "match"),
    [
        ([IMAGES[0], IMAGES[0, :, :2]], LABELS, "does not hold a tensor or a list of tensors"),
        ({"a": 1}, LABELS, "does not hold a tensor"),
        (7, LABELS, "does not hold a tensor"),
        ([], LABELS, "does not hold a tensor"),
        (IMAGES, ["a"], "does not hold a tensor"),
        (IMAGES, LABELS[:4], r"do not match: `labels` must have shape \(6,\)"),
        (IMAGES * 3, LABELS, r"do not match: `images` must lie in \[0, 1\]"),
    ],
)
def test_torch_lists_of_other_content(tmp_path: Path, images, labels, match) -> None:
    torch.save(images, tmp_path / "x")
    torch.save(labels, tmp_path / "y")
    with pytest.raises(DataError, match=match):
        import_torch_lists(tmp_path / "x", tmp_path / "y")


def test_torch_lists_missing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No data file '.*x'"):
        import_torch_lists(tmp_path / "x", tmp_path / "y")

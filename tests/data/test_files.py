import errno
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from notbugs.core.errors import DataError, StoreError
from notbugs.data import ImageData, load, save
from notbugs.data.files import KEY


@pytest.fixture(params=[torch.float32, torch.uint8])
def data(request: pytest.FixtureRequest) -> ImageData:
    images = (torch.rand(5, 3, 4, 4, generator=torch.Generator().manual_seed(1)) * 255).floor()
    images = images / 300 if request.param == torch.float32 else images.to(torch.uint8)
    labels = torch.tensor([0, 1, 0, 1, 1])
    columns = {
        "true_labels": labels,  # shared storage
        "success": torch.tensor([True, False, True, True, False]),
        "distance": torch.rand(5, dtype=torch.float64),
        "images": torch.arange(5),  # a name that the file uses itself
    }
    facts = {"recipe": "D_det", "eps": 0.1, "source": {"digest": "ab"}, "norm": "L2", "none": None}
    return ImageData(images, labels, ("cät", "dog/wolf"), "D_det", facts, columns)


@pytest.fixture
def path(tmp_path: Path):
    return tmp_path / "sets" / "D_det-eps0.5-seed0.safetensors"


def assert_same(a, b) -> None:
    assert a.images.dtype == b.images.dtype
    assert a.digest == b.digest
    assert (a.name, a.class_names, a.provenance) == (b.name, b.class_names, b.provenance)
    assert list(a.columns) == sorted(b.columns)
    for name, column in a.columns.items():
        assert column.dtype == b.columns[name].dtype
        assert torch.equal(column, b.columns[name])


def test_round_trip_is_lossless(data, path) -> None:
    save(data, path)
    assert_same(load(path), data)


def test_the_recipe_beside_it_is_readable(data, path) -> None:
    save(data, path)
    assert sorted(p.name for p in path.parent.iterdir()) == [
        "D_det-eps0.5-seed0.json",
        "D_det-eps0.5-seed0.safetensors",
    ]
    recipe = json.loads(path.with_suffix(".json").read_text())
    assert recipe["provenance"] == data.provenance
    assert (recipe["digest"], recipe["images"]) == (data.digest, 5)


def test_the_same_set_gives_the_same_bytes(data, path, tmp_path: Path) -> None:
    for target in (path, tmp_path / "again.safetensors"):
        save(data, target)
    assert path.read_bytes() == (tmp_path / "again.safetensors").read_bytes()


def test_selected_and_strided_rows_survive(data, path) -> None:
    cut = data.select(torch.tensor([4, 0])).select(slice(0, 2))
    save(cut.with_labels(cut.labels), path)
    assert_same(load(path), cut)


def test_saving_over_a_loaded_set_leaves_the_loaded_one(data, path) -> None:
    save(data, path)
    loaded, digest = load(path), data.digest
    save(data.with_labels(1 - data.labels), path)
    assert loaded.digest == digest
    assert load(path).digest != digest


def test_another_suffix_is_refused(data, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"`path` must end in .safetensors; got .*D_det-eps0.5'"):
        save(data, tmp_path / "D_det-eps0.5")


class _FullDisk:
    """A file on a full disk: half of what is written fits."""

    def __init__(self, file) -> None:
        self._file = file

    def __enter__(self):
        return self

    def __exit__(self, *error) -> None:
        self._file.close()

    def write(self, content) -> None:
        self._file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    def writelines(self, lines) -> None:
        self.write(b"".join(lines))

    def __getattr__(self, name):
        return getattr(self._file, name)


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch):
    from pathlib import Path

    opened = Path.open

    def open_full(self, mode="r", *args, **more):
        file = opened(self, mode, *args, **more)
        return _FullDisk(file) if "x" in mode else file

    return lambda: monkeypatch.setattr(Path, "open", open_full)


def test_a_full_disk_leaves_the_old_file_and_no_half_one(data, path, full_disk) -> None:
    save(data, path)
    before = sorted(path.parent.iterdir())
    full_disk()
    with pytest.raises(
        StoreError,
        match=r"Cannot write '.*D_det.*': the disk is full \(\d[\d,]* bytes needed\)\. Free",
    ):
        save(data.with_labels(1 - data.labels), path)
    assert sorted(path.parent.iterdir()) == before
    assert load(path).digest == data.digest


def test_a_folder_that_is_a_file_is_refused(data, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"Cannot write .*Choose another folder"):
        save(data, tmp_path / "file" / "set.safetensors")


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No data file '.*x.safetensors'. Check the path"):
        load(tmp_path / "x.safetensors")


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_is_named_and_not_opened(path, protocol) -> None:
    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("the pickle was opened",))

    path.parent.mkdir()
    path.write_bytes(pickle.dumps(Bomb(), protocol=protocol))
    with pytest.raises(DataError, match=r"is a pickle .*never unpickles untrusted data"):
        load(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_is_a_pickle(path, zipped) -> None:
    path.parent.mkdir()
    torch.save([torch.zeros(3)], path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(DataError, match=r"is a pickle .*import_torch_lists"):
        load(path)


def test_an_npz_is_named(path) -> None:
    path.parent.mkdir()
    with path.open("wb") as file:
        np.savez(file, images=np.zeros(2))
    with pytest.raises(
        DataError, match=r"it is an .npz file, not safetensors. Read it with import_npz"
    ):
        load(path)


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_a_truncated_file(data, path, keep) -> None:
    save(data, path)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"it is truncated"):
        load(path)


def test_another_kind_of_file(path) -> None:
    path.parent.mkdir()
    path.write_text("label,pixel\n1,2\n" * 10)
    with pytest.raises(DataError, match=r"truncated, corrupt or not a safetensors file"):
        load(path)


def test_safetensors_of_others(path) -> None:
    path.parent.mkdir()
    save_file({"weight": torch.zeros(2)}, path)
    with pytest.raises(DataError, match=r"not a set that notbugs saved"):
        load(path)


@pytest.mark.parametrize(
    ("description", "match"),
    [
        ("{", "The description in .* is damaged: it is no JSON"),
        ('{"format": 99}', "has data format 99; this version reads 1. Update notbugs"),
        ("[]", "is damaged: /: expected an object, got a list of 0. Make it again"),
        ('{"name": "x"}', "/format: expected an integer, got nothing"),
        ('{"format": 1, "name": "x"}', "/class_names: expected a list, got nothing"),
        (
            '{"format": 1, "name": 5, "class_names": ["a"], "provenance": {}}',
            "/name: expected text, got 5",
        ),
        (
            '{"format": 1, "name": "x", "class_names": ["a", 1], "provenance": {}}',
            "/class_names/1: expected text, got 1",
        ),
        (
            '{"format": 1, "name": "x", "class_names": ["a"], "provenance": {}, "nam": 1}',
            r"/nam: expected no such key \(did you mean 'name'\?\)",
        ),
    ],
)
def test_bad_descriptions(path, description, match) -> None:
    path.parent.mkdir()
    tensors = {"images": torch.zeros(1, 1, 2, 2), "labels": torch.zeros(1, dtype=torch.int64)}
    save_file(tensors, path, metadata={KEY: description})
    with pytest.raises(DataError, match=match):
        load(path)


def test_valid_files_with_bad_values(path) -> None:
    path.parent.mkdir()
    tensors = {"images": torch.full((1, 1, 2, 2), 7.0), "labels": torch.zeros(1, dtype=torch.int64)}
    facts = {"format": 1, "name": "x", "class_names": ["a"], "provenance": {}}
    save_file(tensors, path, metadata={KEY: json.dumps(facts)})
    with pytest.raises(
        DataError, match=r"does not hold a valid set: `images` must lie in \[0, 1\]"
    ):
        load(path)

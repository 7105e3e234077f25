import errno
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from notbugs.core.errors import DataError, StoreError
from notbugs.data.safefile import read_tensors, write_tensors
from notbugs.models import build, load, load_into, read_metadata, save, wrap
from notbugs.models.weights import KEY

SHAPE = (1, 8, 8)


def small(name="mlp", seed=0, **options):
    options = options or ({"width": 4, "depth": 1} if name == "mlp" else {})
    return build(name, shape=SHAPE, classes=3, seed=seed, mean=[0.1], std=[0.3], options=options)


def foreign() -> nn.Sequential:
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 3))


@pytest.fixture
def path(tmp_path: Path):
    return tmp_path / "models" / "model.safetensors"


def test_a_folder_stands_for_the_weights_in_it(tmp_path: Path) -> None:
    model = small()
    save(model, tmp_path / "run" / "model.safetensors", metadata={"seed": 5})
    again, facts = load(str(tmp_path / "run"))
    assert facts["seed"] == read_metadata(tmp_path / "run")["seed"] == 5
    assert load_into(small(seed=1), tmp_path / "run") == facts
    x = torch.rand(4, *SHAPE)
    assert torch.equal(again(x), model(x))
    with pytest.raises(DataError, match=r"holds no model.safetensors, but run/model.safetensors"):
        load(tmp_path)


def test_round_trip_with_metadata(path) -> None:
    recipe = {"dataset": "digits", "class_names": ["a", "b", "c"], "recipe": {"eps": 0.25}}
    model = small()
    save(model, path, metadata=recipe)
    again, metadata = load(path)
    x = torch.rand(4, *SHAPE)
    assert torch.equal(again(x), model(x))
    assert again.options == {"width": 4, "depth": 1}
    assert {key: metadata[key] for key in recipe} == recipe
    assert metadata["architecture"] == "mlp"
    assert metadata["shape"] == [1, 8, 8]
    assert metadata["embedding"] == "trunk"
    assert metadata["mean"] == model.mean.flatten().tolist()
    assert read_metadata(path) == metadata
    assert [p.name for p in path.parent.iterdir()] == ["model.safetensors"]


def test_precision_is_kept(path) -> None:
    model = small().double()
    save(model, path)
    again, _ = load(path)
    x = torch.rand(2, *SHAPE, dtype=torch.float64)
    assert torch.equal(again(x), model(x))


def test_the_same_model_gives_the_same_bytes(path, tmp_path: Path) -> None:
    for target in (path, tmp_path / "other"):
        save(small(), target, metadata={"b": 1, "a": 2})
    assert path.read_bytes() == (tmp_path / "other").read_bytes()


def test_saving_leaves_the_model_alone_and_load_into_fills_another(path) -> None:
    model, other = small(seed=0).train(), small(seed=1).train()
    save(model, path, metadata={"note": "hello"})
    assert model.training
    assert load_into(other, path)["note"] == "hello"
    assert other.training
    x = torch.rand(2, *SHAPE)
    assert torch.equal(other(x), model(x))


def test_channels_last_and_tied_weights_are_saved(path) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 3))
    module[2].weight = module[1].weight
    model = wrap(module, shape=SHAPE, classes=3, embedding="2")
    save(model, path)
    again = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Linear(64, 64), nn.Linear(64, 3))
    loaded, _ = load(path, again)
    x = torch.rand(2, *SHAPE)
    assert torch.equal(loaded(x), model(x))
    convolutional = small("cnn", width=2, hidden=4).to(memory_format=torch.channels_last)
    save(convolutional, path)
    torch.testing.assert_close(load(path)[0](x), convolutional(x))


def test_foreign_models_need_their_module(path) -> None:
    module = foreign()
    save(wrap(module, shape=SHAPE, classes=3, embedding="0", mean=[0.5]), path)
    with pytest.raises(DataError, match=r"not built in. Pass its module"):
        load(path)
    again, _ = load(path, foreign())
    x = torch.rand(2, *SHAPE)
    assert torch.equal(again(x), module((x - 0.5).flatten(1)))


@pytest.mark.parametrize(
    ("metadata", "message"),
    [
        ({"classes": ["a"]}, r"leave the names format, .* to the model; got the key 'classes'"),
        ({"x": float("inf")}, r"hold only what JSON can"),
        ({"x": [torch.zeros(1)]}, r"hold only what JSON can.*Convert tensors"),
    ],
)
def test_metadata_that_cannot_be_kept_is_refused(path, metadata, message) -> None:
    with pytest.raises(ValueError, match=message):
        save(small(), path, metadata=metadata)
    assert not path.exists()


def test_state_that_is_no_tensor_is_refused(path) -> None:
    class Strange(nn.Flatten):
        def get_extra_state(self):
            return {"a": 1}

    module = nn.Sequential(Strange(), nn.Linear(64, 3))
    with pytest.raises(TypeError, match=r"`state '.*_extra_state'` must be a tensor"):
        save(wrap(module, shape=SHAPE, classes=3, embedding="0"), path)


def test_a_full_disk_leaves_the_old_file_and_no_half_one(
    path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(small(), path)
    before = path.read_bytes()

    def full(_) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("notbugs.data.writing.os.fsync", full)
    with pytest.raises(StoreError, match=r"Cannot write .*the disk is full .* Free some space"):
        save(small(seed=1), path)
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_an_unwritable_folder_is_reported(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    with pytest.raises(StoreError, match=r"Cannot write .*file/model.*"):
        save(small(), blocked / "model.safetensors")
    (tmp_path / "folder").mkdir()
    with pytest.raises(StoreError, match=r"Cannot write"):
        save(small(), tmp_path / "folder")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_missing_file(path) -> None:
    with pytest.raises(DataError, match=r"No weights file '.*model.safetensors'. Check the path"):
        load(path)


@pytest.mark.parametrize("zipped", [True, False])
def test_pickles_are_refused_with_the_recipe(tmp_path: Path, zipped) -> None:
    file = tmp_path / "model.pt"
    torch.save(small().state_dict(), file, _use_new_zipfile_serialization=zipped)
    for reader in (load, read_metadata):
        with pytest.raises(DataError, match=r"is a pickle .*notbugs convert FILE"):
            reader(file)


def test_a_header_that_starts_like_a_pickle_is_no_pickle(tmp_path: Path) -> None:
    for extra in range(600):  # some header length gives the first bytes 80 02
        file = tmp_path / "x.safetensors"
        write_tensors(file, {"a": torch.zeros(1)}, {"note": "x" * extra})
        if file.read_bytes()[:2] == b"\x80\x02":
            assert read_tensors(file)[0]["a"].shape == (1,)
            file.write_bytes(file.read_bytes()[:-2])
            with pytest.raises(DataError, match=r"is truncated, corrupt"):
                read_tensors(file)
            return
    pytest.fail("no such header was made")


@pytest.mark.parametrize("keep", [0, 5, 40, 0.5, 0.99])
def test_truncated_files_are_refused(path, keep) -> None:
    save(small(), path)
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(DataError, match=r"is truncated, corrupt or not a safetensors file"):
        load(path)


def test_corrupt_headers_are_refused(path) -> None:
    save(small(), path)
    content = bytearray(path.read_bytes())
    content[8:12] = b"\xff\xfe\x00{"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"is truncated, corrupt"):
        load(path)


def test_safetensors_of_others_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "plain.safetensors"
    save_file({"a": torch.zeros(1)}, file)
    for reader in (load, read_metadata, lambda p: load_into(small(), p)):
        with pytest.raises(DataError, match=r"does not say which model it belongs to"):
            reader(file)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 99}, r"weights format 99; this version reads 1. Update notbugs"),
        ({"mean": None}, r"/mean: expected a list, got nothing. Copy it again"),
        ({"architecture": "mpl"}, r"does not give a model: Unknown architecture 'mpl'"),
        ({"shape": [1, 8]}, r"does not give a model"),
        ({"options": {"width": 5, "depth": 1}}, r"weights of another model: of another shape"),
        ({"options": {"width": 4, "depth": 2}}, r"weights of another model: missing"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(path, change, message) -> None:
    model = small()
    save(model, path)
    described = read_metadata(path) | change
    text = json.dumps({key: value for key, value in described.items() if value is not None})
    save_file(load_file(path), path, {KEY: text})
    with pytest.raises(DataError, match=message):
        load(path)


def retyped(path, name, dtype) -> None:
    """Gives a tensor another dtype of the same size, in the header alone."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header[name]["dtype"] = dtype
    text = json.dumps(header, separators=(",", ":")).encode().ljust(size)
    path.write_bytes(content[:8] + text + content[8 + size :])


OF_OTHERS = [False, True]
"""Whether the file holds no digest, as others write them."""


def without_digest(path) -> None:
    save_file(load_file(path), path, {KEY: json.dumps(read_metadata(path))})


READERS = {
    "load": lambda path: load(path),
    "load_into": lambda path: load_into(small(), path),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("of_others", OF_OTHERS)
@pytest.mark.parametrize("name", ["mean", "body.head.bias"])
def test_a_weight_of_another_dtype_is_refused(path, reader, of_others, name) -> None:
    """A bias of 0.08, read as an integer, would become 1034402368."""
    save(small(), path)
    if of_others:
        without_digest(path)
    retyped(path, name, "I32")
    message = "of another dtype: .* torch.int32 instead of" if of_others else "is damaged: its dig"
    with pytest.raises(DataError, match=message):
        reader(path)


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(path, reader, value) -> None:
    model = small()
    with torch.no_grad():
        model.body.head.bias[1] = value
    save(model, path)
    with pytest.raises(DataError, match=r"training had diverged: NaN or infinite: body.head.bias"):
        reader(path)


def test_a_mask_of_infinities_is_a_state_like_any_other(path) -> None:
    def masked():
        module = foreign()
        module.register_buffer("mask", torch.tensor([0.0, float("-inf")]))
        return module

    save(wrap(masked(), shape=SHAPE, classes=3, embedding="0"), path)
    load(path, masked())
    tensors, _ = read_tensors(path)
    changed = {**tensors, "body.mask": torch.tensor([float("-inf"), 0.0])}
    write_tensors(path, changed, {KEY: json.dumps(read_metadata(path))})
    with pytest.raises(DataError, match=r"NaN or infinite: body.mask"):
        load(path, masked())


def test_a_flipped_bit_anywhere_is_noticed(path) -> None:
    save(small(), path, metadata={"note": "hello"})
    content = path.read_bytes()
    for place in range(9, len(content), len(content) // 40):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(DataError, match=r"is damaged|truncated, corrupt|does not say which"):
            load(path)


def test_a_description_that_is_no_json_is_refused(path) -> None:
    path.parent.mkdir()
    save_file({"a": torch.zeros(1)}, path, {KEY: "{"})
    with pytest.raises(DataError, match=r"The description in .* is damaged: it is no JSON"):
        read_metadata(path)


def test_weights_of_another_model_are_refused_and_the_model_unchanged(path) -> None:
    save(small("linear"), path)
    model = small()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    with pytest.raises(DataError, match=r"holds another model: .*'linear'.*'mlp'"):
        load_into(model, path)
    save(small(width=5, depth=5), path)
    with pytest.raises(DataError, match=r"unexpected: .* and 5 more; of another shape: body"):
        load_into(model, path)
    for key, value in model.state_dict().items():
        assert torch.equal(value, before[key])


def test_a_path_may_be_a_string(tmp_path: Path) -> None:
    model = build("linear", shape=(1, 2, 2), classes=2, seed=0)
    save(model, str(tmp_path / "m.safetensors"), metadata={"a": 1})
    again, facts = load(str(tmp_path / "m.safetensors"))
    assert facts["a"] == 1
    assert all(
        torch.equal(p, q) for p, q in zip(model.parameters(), again.parameters(), strict=True)
    )

import math

import pytest
import torch

from notbugs.data import ImageData, channel_stats, summary


def make(n=6, dtype=torch.float32, classes=3, **changes) -> ImageData:
    noise = torch.rand(n, 2, 4, 5, generator=torch.Generator().manual_seed(0))
    parts = {
        "images": noise if dtype == torch.float32 else (noise * 255).to(dtype),
        "labels": torch.arange(n) % classes,
        "class_names": tuple("abcdefgh"[:classes]),
        "name": "toy",
        "provenance": {"recipe": "test", "eps": 0.5},
        "columns": {"success": torch.arange(n) % 2 == 0},
    }
    return ImageData(**(parts | changes))


@pytest.mark.parametrize("rows", [range(2), [1, 0], (0,)])
def test_rows_may_be_a_list(rows) -> None:
    data = ImageData(torch.rand(3, 1, 2, 2), torch.tensor([0, 1, 0]), ("a", "b"), "tiny")
    assert torch.equal(data.select(rows).images, data.images[list(rows)])
    with pytest.raises(ValueError, match="with no empty dimension"):
        data.select([])


def test_shape_classes_and_length() -> None:
    data = make()
    assert (len(data), data.shape, data.classes) == (6, (2, 4, 5), 3)


def test_pixels_of_bytes_are_divided_by_255() -> None:
    images = torch.tensor([0, 51, 255], dtype=torch.uint8).reshape(1, 1, 1, 3)
    data = ImageData(images, torch.tensor([0]), ("a",), "toy")
    assert data.pixels().dtype == torch.float32
    assert data.pixels().flatten().tolist() == pytest.approx([0, 0.2, 1])
    assert data.images.dtype == torch.uint8
    assert data.images.flatten().tolist() == [0, 51, 255]


def test_pixels_of_floats_are_themselves() -> None:
    data = make()
    assert torch.equal(data.pixels(), data.images)
    assert torch.equal(data.pixels(slice(1, 3)), data.images[1:3])
    assert torch.equal(data.pixels(torch.tensor([4, 0])), data.images[[4, 0]])


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        (slice(1, 4), [1, 2, 3]),
        (torch.tensor([5, 0, 0]), [5, 0, 0]),
        (torch.tensor([True, False, False, True, False, False]), [0, 3]),
    ],
)
def test_select_cuts_images_labels_and_columns(index, rows) -> None:
    data = make(columns={"source_rows": torch.arange(6)})
    cut = data.select(index)
    assert torch.equal(cut.images, data.images[rows])
    assert torch.equal(cut.labels, data.labels[rows])
    assert cut.columns["source_rows"].tolist() == rows
    assert (cut.class_names, cut.name, cut.provenance) == (data.class_names, "toy", data.provenance)


def test_select_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`images` must have shape"):
        make().select(slice(0, 0))


def test_with_labels_leaves_the_original() -> None:
    data = make()
    other = data.with_labels((data.labels + 1) % 3)
    assert other.labels.tolist() == [1, 2, 0, 1, 2, 0]
    assert data.labels.tolist() == [0, 1, 2, 0, 1, 2]
    assert other.images is data.images


def test_to_moves_every_part() -> None:
    moved = make().to("cpu")
    assert {t.device.type for t in (moved.images, moved.labels, *moved.columns.values())} == {"cpu"}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_set_on_a_gpu_has_the_same_digest() -> None:
    moved = make().to("cuda")
    assert moved.columns["success"].is_cuda
    assert moved.digest == make().digest
    assert len(moved.select(torch.tensor([0, 1]))) == 2


def test_digest_depends_on_images_labels_and_classes_only() -> None:
    data = make()
    assert make(name="x", provenance={}, columns={}).digest == data.digest
    assert len(data.digest) == 64
    changed = data.images.clone()
    changed[3, 1, 2, 2] += 1e-6
    others = [
        make(images=changed),
        make(labels=data.labels.flip(0)),
        make(class_names=("a", "b", "d")),
        make(dtype=torch.uint8),
        make(images=data.images.reshape(6, 4, 2, 5)),
        data.select(slice(0, 5)),
    ]
    assert len({d.digest for d in others} | {data.digest}) == 7


def test_digest_does_not_depend_on_memory_layout() -> None:
    data = make()
    strided = make(images=data.images.to(memory_format=torch.channels_last))
    assert strided.digest == data.digest


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"images": torch.rand(6, 4, 5)}, r"`images` must have shape \[n, channels.*unsqueeze"),
        ({"images": torch.zeros(6, 5, dtype=torch.uint8)}, "`images` must have shape"),
        ({"images": torch.full((6, 1, 2, 2), 2.0)}, r"`images` must lie in \[0, 1\]; got min=2"),
        ({"images": torch.full((6, 1, 2, 2), -0.1)}, "Pass images before normalisation"),
        ({"images": torch.full((6, 1, 2, 2), math.nan)}, "`images` must be finite.*row 0"),
        ({"labels": torch.arange(6)}, r"`labels` must lie in 0..2; got 3 in row 3"),
        ({"labels": torch.arange(6) - 1}, "got -1 in row 0"),
        ({"labels": torch.zeros(5, dtype=torch.int64)}, r"`labels` must have shape \(6,\)"),
        ({"class_names": ()}, "`class_names` must be at least one name"),
        ({"class_names": ("a", "b", "a")}, "all different"),
        ({"columns": {"d": torch.zeros(5)}}, r"`columns\['d'\]` must have one entry for each"),
        ({"columns": {"d": torch.tensor(1)}}, r"`columns\['d'\]` must have one entry for each"),
        (
            {"provenance": {"made": {"eps": torch.tensor(1)}}},
            "`provenance` must hold only what JSON can",
        ),
        ({"provenance": {"eps": math.nan}}, "finite numbers"),
    ],
)
def test_bad_parts_are_refused(changes, match) -> None:
    with pytest.raises(ValueError, match=match):
        make(**changes)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"images": torch.zeros(6, 1, 2, 2, dtype=torch.int64)}, "torch.int64; use .float"),
        ({"images": torch.zeros(6, 1, 2, 2, dtype=torch.float64)}, "uint8.*or float32"),
        ({"labels": torch.zeros(6)}, "`labels` must be an integer tensor"),
        ({"labels": torch.zeros(6, dtype=torch.int32)}, r"`labels` must be int64.*use .long\(\)"),
    ],
)
def test_other_dtypes_are_refused(changes, match) -> None:
    with pytest.raises(TypeError, match=match):
        make(**changes)


def test_a_rounding_error_outside_the_range_is_let_through() -> None:
    images = torch.full((6, 1, 2, 2), 1 + 1e-7)
    assert make(images=images).images is images


def test_provenance_is_a_copy_with_lists() -> None:
    given = {"shape": (1, 2), "source": {"digest": "x"}}
    data = make(provenance=given)
    given["source"]["digest"] = "y"
    assert data.provenance == {"shape": [1, 2], "source": {"digest": "x"}}


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_channel_stats_are_those_of_the_pixels(dtype) -> None:
    data = make(n=9, dtype=dtype)
    mean, std = channel_stats(data)
    x = data.pixels().double()
    assert mean == pytest.approx(x.mean(dim=(0, 2, 3)).tolist(), abs=1e-6)
    assert std == pytest.approx(x.std(dim=(0, 2, 3), correction=0).tolist(), abs=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
def test_a_constant_channel_gets_the_deviation_one(dtype) -> None:
    images = make(dtype=dtype).images.clone()
    images[:, 1] = 1
    data = make(images=images)
    assert channel_stats(data)[1][1] == 1
    assert summary(data)["std"][1] == pytest.approx(0, abs=1e-9)


def test_summary_is_plain_and_complete() -> None:
    data = make(dtype=torch.uint8, labels=torch.tensor([0, 0, 0, 0, 0, 2]))
    facts = summary(data)
    assert facts["images_per_class"] == {"a": 5, "b": 0, "c": 1}
    assert (facts["images"], facts["shape"], facts["dtype"]) == (6, [2, 4, 5], "uint8")
    assert (facts["min"], facts["max"]) == (
        float(data.pixels().min()),
        pytest.approx(float(data.pixels().max())),
    )
    assert facts["digest"] == data.digest
    assert facts["columns"] == ["success"]

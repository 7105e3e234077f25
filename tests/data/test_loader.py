import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from notbugs.core import random
from notbugs.data import Augment, DeviceData, ImageData, batches, streamed


def make(n=10, dtype=torch.uint8) -> ImageData:
    noise = torch.randint(0, 256, (n, 2, 5, 6), generator=torch.Generator().manual_seed(0))
    images = noise.to(torch.uint8) if dtype == torch.uint8 else noise / 255
    return ImageData(images, torch.arange(n) % 3, ("a", "b", "c"), "toy")


@settings(max_examples=30, deadline=None)
@given(n=st.integers(1, 40), size=st.integers(1, 40), drop=st.booleans(), shuffle=st.booleans())
def test_an_epoch_holds_every_row_once(n, size, drop, shuffle) -> None:
    if size > n:
        return
    parts = list(batches(n, size, seed=0, epoch=1, shuffle=shuffle, drop_last=drop))
    rows = torch.cat(parts).tolist()
    assert len(set(rows)) == len(rows) == (n - n % size if drop else n)
    assert all(len(part) == size for part in parts[:-1])
    assert shuffle or rows == list(range(len(rows)))


def order(**changes):
    options = {"seed": 0, "epoch": 0} | changes
    return torch.cat(list(batches(50, 8, **options))).tolist()


def test_order_follows_from_seed_and_epoch_alone() -> None:
    state = torch.get_rng_state()
    assert order() == order()
    assert len({tuple(order(seed=s, epoch=e)) for s in range(3) for e in range(3)}) == 9
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ("n", "size", "match"),
    [
        (10, 11, r"not exceed the number of images, 10; got 11. Use a batch size of at most"),
        (10, 0, r"`batch_size` must be at least 1"),
    ],
)
def test_bad_batch_sizes_are_refused_at_the_call(n, size, match) -> None:
    with pytest.raises(ValueError, match=match):
        batches(n, size, seed=0, epoch=0)


def test_no_augmentation_changes_nothing() -> None:
    images = make().pixels()
    assert Augment()(images, random.row_keys(10, 0), 0) is images


@pytest.mark.parametrize("padding", ["zero", "reflect"])
@pytest.mark.parametrize("flip", [True, False])
def test_each_row_is_a_crop_of_its_padded_self(padding, flip) -> None:
    images, keys = make(40).pixels(), random.row_keys(40, 0)
    made = Augment(crop_padding=2, flip=flip, padding=padding)(images, keys, 0)
    assert made.shape == images.shape
    mode = "constant" if padding == "zero" else "reflect"
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2), mode=mode)
    seen = set()
    for row, wide in zip(made, padded, strict=True):
        crops = {
            (dy, dx, m): (wide.flip(-1) if m else wide)[:, dy : dy + 5, dx : dx + 6]
            for dy in range(5)
            for dx in range(5)
            for m in (False, True)
        }
        found = [key for key, crop in crops.items() if torch.equal(crop, row)]
        assert found
        seen.add(found[0])
    assert len(seen) > 15
    assert {m for _, _, m in seen} == ({True, False} if flip else {False})


def test_flips_are_half_of_the_rows() -> None:
    images, keys = make(2).pixels()[:1].expand(2000, 2, 5, 6), random.row_keys(2000, 1)
    made = Augment(flip=True)(images, keys, 0)
    mirrored = (made == images.flip(-1)).flatten(1).all(dim=1)
    assert float(mirrored.float().mean()) == pytest.approx(0.5, abs=0.05)
    assert bool((mirrored | (made == images).flatten(1).all(dim=1)).all())


def test_alternating_flips_show_every_image_from_both_sides_in_two_epochs() -> None:
    images, keys = make(2).pixels()[:1].expand(500, 2, 5, 6), random.row_keys(500, 1)

    def mirrored(epoch, alternate=True):
        made = Augment(flip=True, alternate=alternate)(images, keys, epoch)
        return (made == images.flip(-1)).flatten(1).all(dim=1)

    first = mirrored(0)
    assert float(first.float().mean()) == pytest.approx(0.5, abs=0.1)
    assert torch.equal(mirrored(1), ~first)
    assert torch.equal(mirrored(2), first)
    one, two = mirrored(0, alternate=False), mirrored(1, alternate=False)
    assert 0.3 < float((one == two).float().mean()) < 0.7


def test_crops_are_spread_evenly() -> None:
    image = torch.zeros(1, 1, 3, 3)
    image[0, 0, 1, 1] = 1
    made = Augment(crop_padding=1)(image.expand(9000, 1, 3, 3), random.row_keys(9000, 2), 0)
    assert made.sum(dim=0).flatten().tolist() == pytest.approx([1000] * 9, abs=150)


def test_rows_do_not_depend_on_their_neighbours() -> None:
    images, keys = make(12).pixels(), random.row_keys(12, 3)
    augment, rows = Augment(crop_padding=2, flip=True), torch.tensor([7, 2, 11])
    assert torch.equal(augment(images, keys, 0)[rows], augment(images[rows], keys[rows], 0))
    assert not torch.equal(augment(images, keys, 0), augment(images, keys, 1))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"crop_padding": -1}, "`crop_padding` must be at least 0"),
        ({"alternate": True}, "`alternate` must come with flip=True"),
        ({"padding": "reflekt"}, r"Unknown padding 'reflekt'. Did you mean 'reflect'\?"),
    ],
)
def test_bad_augmentation(options, match) -> None:
    # Unchecked on purpose: the annotation already refuses the second in these tests.
    made = object.__new__(Augment)
    for name, value in ({"crop_padding": 0, "flip": False, "padding": "zero"} | options).items():
        object.__setattr__(made, name, value)
    with pytest.raises(ValueError, match=match):
        made.__post_init__()


def test_reflecting_more_than_there_is() -> None:
    with pytest.raises(ValueError, match=r"below the image's height and width.*padding='zero'"):
        Augment(crop_padding=5, padding="reflect")(make().pixels(), random.row_keys(10, 0), 0)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_device_data_keeps_the_dtype_until_asked(dtype) -> None:
    data, index = make(dtype=dtype), torch.tensor([3, 0, 3])
    kept = DeviceData(data, "cpu")
    x, y = kept.batch(index)
    assert (kept.images.dtype, x.dtype, len(kept)) == (dtype, torch.float32, 10)
    assert torch.equal(x, data.pixels(index))
    assert torch.equal(y, data.labels[index])


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_streamed_gives_the_same_batches(dtype) -> None:
    data = make(dtype=dtype)
    kept = DeviceData(data, "cpu")
    order = list(batches(10, 4, seed=0, epoch=0))
    made = list(streamed(data, iter(order), "cpu"))
    assert len(made) == 3
    for (x, y), index in zip(made, order, strict=True):
        assert torch.equal(x, kept.batch(index)[0])
        assert torch.equal(y, kept.batch(index)[1])
    assert list(streamed(data, [], "cpu")) == []


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_as_on_the_cpu() -> None:
    data = make()
    index, keys = torch.tensor([3, 0, 9]), random.row_keys(3, 0)
    augment = Augment(crop_padding=2, flip=True)
    for x, y in (DeviceData(data, "cuda").batch(index), *streamed(data, [index], "cuda")):
        assert x.is_cuda
        assert torch.equal(x.cpu(), data.pixels(index))
        assert torch.equal(y.cpu(), data.labels[index])
        assert torch.equal(augment(x, keys.cuda(), 0).cpu(), augment(data.pixels(index), keys, 0))

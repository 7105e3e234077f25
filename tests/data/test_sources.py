import gzip
import hashlib
import io
import struct
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from notbugs.core.errors import DataError, DownloadError
from notbugs.data import load_source
from notbugs.data.sources.cifar import CIFAR10, CIFAR100, load_cifar
from notbugs.data.sources.idx import FASHION, FILES, MNIST, load_idx

RANDOM = np.random.default_rng(0)
TRAIN, TEST = (
    (RANDOM.integers(0, 256, (n, 6, 5), np.uint8), (np.arange(n) % 10).astype(np.uint8))
    for n in (20, 10)
)


def idx(array):
    return struct.pack(f">{1 + array.ndim}I", 0x800 + array.ndim, *array.shape) + array.tobytes()


def idx_files(zipped=True):
    content = dict(zip(FILES, map(idx, (*TRAIN, *TEST)), strict=True))
    return {f"{k}.gz": gzip.compress(v) for k, v in content.items()} if zipped else content


def fill(folder, files):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def local(name, data_dir):
    return load_source(name, data_dir, download=False)


def test_digits():
    source = load_source("digits")
    assert (len(source.train), source.train.shape, source.test) == (1797, (1, 8, 8), None)
    assert source.train.images.dtype == torch.float32
    assert (float(source.train.images.min()), float(source.train.images.max())) == (0, 1)
    assert torch.equal(source.train.images * 16, (source.train.images * 16).round())
    assert source.train.labels[:10].tolist() == list(range(10))
    assert (source.title, source.train.classes) == ("Digits", 10)


def test_planted():
    source = load_source("planted")
    assert (len(source.train), source.test, source.title) == (3000, None, "Planted")


def test_unknown_names_suggest_the_nearest():
    with pytest.raises(ValueError, match=r"Unknown dataset 'cifar-10'. Did you mean 'cifar10'\?"):
        load_source("cifar-10")
    with pytest.raises(ValueError, match=r"Known: cifar10, .*folder:PATH, mnist"):
        load_source("svhn")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("where", ["", "MNIST/raw", "mnist"])
def test_idx_files(tmp_path, where, zipped):
    files = idx_files(zipped)
    fill(tmp_path / where, files)
    source = local("mnist", tmp_path)
    for part, (images, labels) in ((source.train, TRAIN), (source.test, TEST)):
        assert torch.equal(part.images[:, 0], torch.from_numpy(images))
        assert torch.equal(part.labels, torch.from_numpy(labels).long())
    assert source.title == "MNIST"
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
    assert source.train.provenance["files"] | source.test.provenance["files"] == digests


def test_idx_names_with_a_dot(tmp_path):
    fill(tmp_path, {k.replace("-idx", ".idx"): v for k, v in idx_files(False).items()})
    assert len(local("mnist", tmp_path).train) == 20


def test_the_environment_names_the_folder(tmp_path, monkeypatch):
    fill(tmp_path, idx_files())
    monkeypatch.setenv("NOTBUGS_DATA", str(tmp_path))
    assert len(load_source("mnist", download=False).train) == 20


def test_without_folder_the_cache_is_used(tmp_path, monkeypatch):
    import pooch

    monkeypatch.delenv("NOTBUGS_DATA", raising=False)
    monkeypatch.setattr(pooch, "os_cache", lambda name: tmp_path / name)
    fill(tmp_path / "notbugs" / "mnist", idx_files())
    assert len(load_source("mnist", download=False).train) == 20


def test_a_note_beside_the_files_is_the_title(tmp_path):
    fill(tmp_path / "mnist", idx_files())
    (tmp_path / "mnist" / "PROVENANCE.txt").write_text("MNIST (JPEG): re-encoded, and more\nx\n")
    source = local("mnist", tmp_path)
    assert (source.note, source.title) == ("MNIST (JPEG)", "MNIST (JPEG)")
    assert source.test.provenance["note"] == "MNIST (JPEG)"


def test_missing_files_without_download(tmp_path):
    with pytest.raises(DataError, match=r"No mnist in .*MNIST/raw.*or allow the download"):
        local("mnist", tmp_path)
    with pytest.raises(DataError, match=r"No cifar10 in .*data_batch_1.bin.*pickled and is not"):
        local("cifar10", tmp_path)


LABELS = "train-labels-idx1-ubyte.gz"
IMAGES = "train-images-idx3-ubyte.gz"


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        (IMAGES, idx_files()[IMAGES][:-20], "is truncated or corrupt"),
        (IMAGES, b"", "is not an IDX file of images: it begins with nothing"),
        (IMAGES, b"no gzip", "is truncated or corrupt"),
        (IMAGES, gzip.compress(idx(TRAIN[0])[:-7]), "announces 600 bytes, 593 follow"),
        (IMAGES, gzip.compress(idx(TRAIN[0]) + b"x"), "announces 600 bytes, 601 follow"),
        (IMAGES, gzip.compress(idx(TRAIN[0])[:6]), "announces"),
        (IMAGES, gzip.compress(idx(TRAIN[0][:0])), "announces 0 bytes"),
        (IMAGES, idx_files()[LABELS], "is not an IDX file of images: it begins with 00000801"),
        (LABELS, idx_files()[IMAGES], "is not an IDX file of labels"),
        (LABELS, gzip.compress(idx(TEST[1])), r"do not belong together.*shape \(20,\)"),
        (LABELS, gzip.compress(idx(TRAIN[1] + 1)), r"`labels` must lie in 0..9; got 10 in row 9"),
    ],
)
def test_damaged_idx_files_are_named(tmp_path, name, content, match):
    fill(tmp_path, idx_files() | {name: content})
    with pytest.raises(DataError, match=match) as caught:
        local("mnist", tmp_path)
    assert name in str(caught.value)


def test_the_other_sets_files_are_recognised(tmp_path):
    fill(tmp_path, idx_files())
    other = hashlib.md5(TEST[1].tobytes()).hexdigest()
    assert other not in (MNIST.test_labels, FASHION.test_labels)
    from notbugs.data.sources import idx as module

    mine = replace(FASHION, folders=["."])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "MNIST", replace(MNIST, test_labels=other))
        with pytest.raises(DataError, match=r"belongs to mnist, but fashion-mnist is asked for"):
            load_idx(mine, tmp_path, download=False, progress=False)
    source = load_idx(mine, tmp_path, download=False, progress=False)
    assert (source.title, source.train.class_names[9]) == ("Fashion-MNIST", "Ankle boot")


def served(kind, server, files, prefixes=("/gone/", "/")):
    server.files = {f"/{name}": content for name, content in files.items()}
    return replace(kind, mirrors=[f"{server.at}{prefix}" for prefix in prefixes])


def test_idx_files_are_downloaded_once(server, tmp_path):
    files = idx_files()
    sums = [hashlib.md5(content).hexdigest() for content in files.values()]
    kind = replace(served(MNIST, server, files), checksums=sums)
    for _ in range(2):
        source = load_idx(kind, tmp_path, download=True, progress=False)
        assert (len(source.train), len(source.test)) == (20, 10)
    assert len(server.asked) == 8  # four files, the first mirror lacks each
    assert sorted(p.name for p in (tmp_path / "MNIST" / "raw").iterdir()) == sorted(files)


def test_ones_own_files_are_neither_mixed_nor_overwritten(server, tmp_path):
    kind = served(MNIST, server, idx_files())  # with the publisher's checksums
    own = dict(list(idx_files().items())[:3])
    fill(tmp_path / "MNIST" / "raw", own)
    with pytest.raises(DownloadError, match=r"is there already"):
        load_idx(kind, tmp_path, download=True, progress=False)
    assert {p.name: p.read_bytes() for p in (tmp_path / "MNIST" / "raw").iterdir()} == own


def records(n, seed, label_bytes=1, classes=10):
    random = np.random.default_rng(seed)
    whole = random.integers(0, 256, (n, label_bytes + 3072), np.uint8)
    whole[:, :label_bytes] = random.integers(0, min(classes, 20), (n, label_bytes))
    return whole


NAMES10 = "\n".join("airplane automobile bird cat deer dog frog horse ship truck".split()) + "\n\n"
BATCHES = {f"data_batch_{i}.bin": records(4, i) for i in range(1, 6)}
BATCHES |= {"test_batch.bin": records(3, 9)}
CIFAR10_FILES = {name: array.tobytes() for name, array in BATCHES.items()}
CIFAR10_FILES |= {"batches.meta.txt": NAMES10.encode()}


@pytest.mark.parametrize("where", ["", "cifar-10-batches-bin", "cifar10"])
@pytest.mark.parametrize("named", [True, False])
def test_cifar10_files(tmp_path, where, named):
    files = dict(CIFAR10_FILES)
    if not named:
        del files["batches.meta.txt"]
    fill(tmp_path / where, files)
    source = local("cifar10", tmp_path)
    whole = np.concatenate([BATCHES[f"data_batch_{i}.bin"] for i in range(1, 6)])
    assert source.train.shape == (3, 32, 32)
    assert source.train.images.dtype == torch.uint8
    assert torch.equal(source.train.images.flatten(1), torch.from_numpy(whole[:, 1:]))
    assert torch.equal(source.train.labels, torch.from_numpy(whole[:, 0]).long())
    assert (len(source.test), source.test.class_names[3]) == (3, "cat")
    assert (source.title, len(source.train.provenance["files"])) == ("CIFAR-10", 5)


def test_cifar100_files(tmp_path):
    train, test = records(6, 1, 2, 100), records(3, 2, 2, 100)
    names = "\n".join(f"fine {i}" for i in range(100)).encode()
    files = {"train.bin": train.tobytes(), "test.bin": test.tobytes()}
    fill(tmp_path / "cifar-100-binary", files | {"fine_label_names.txt": names})
    source = local("cifar100", tmp_path)
    assert source.train.labels.tolist() == train[:, 1].tolist()
    assert source.train.columns["coarse_labels"].tolist() == train[:, 0].tolist()
    assert torch.equal(source.test.images.flatten(1), torch.from_numpy(test[:, 2:]))
    assert (source.title, source.train.class_names[99]) == ("CIFAR-100", "fine 99")


@pytest.mark.parametrize(
    ("name", "content", "match"),
    [
        ("data_batch_3.bin", CIFAR10_FILES["data_batch_3.bin"][:-1], "3073-byte records"),
        ("test_batch.bin", b"", "is truncated or corrupt: 0 bytes"),
        ("data_batch_1.bin", b"\x0a" + bytes(3072), r"it has the label 10, where cifar10 has 0..9"),
        ("batches.meta.txt", b"cat\ndog\n", "names 2 classes, not 10"),
    ],
)
def test_damaged_cifar_files_are_named(tmp_path, name, content, match):
    fill(tmp_path, CIFAR10_FILES | {name: content})
    with pytest.raises(DataError, match=match) as caught:
        local("cifar10", tmp_path)
    assert name in str(caught.value)


def cifar_archive():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in (CIFAR10_FILES | {"readme.html": b"hello"}).items():
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def test_cifar_is_downloaded_once_and_unpacked(server, tmp_path):
    archive = cifar_archive()
    kind = served(CIFAR10, server, {"c.tar.gz": archive}, ("/gone/c.tar.gz", "/c.tar.gz"))
    kind = replace(kind, checksum=f"md5:{hashlib.md5(archive).hexdigest()}")
    for _ in range(2):
        source = load_cifar(kind, tmp_path, download=True, progress=False)
        assert (len(source.train), len(source.test)) == (20, 3)
    assert server.asked == ["/gone/c.tar.gz", "/c.tar.gz"]
    assert "readme.html" not in {p.name for p in (tmp_path / "cifar-10-batches-bin").iterdir()}


def test_an_incomplete_cifar_folder_is_not_filled_up(server, tmp_path):
    kind = served(CIFAR10, server, {}, ("/c.tar.gz",))
    fill(tmp_path / kind.top, {"test_batch.bin": CIFAR10_FILES["test_batch.bin"]})
    with pytest.raises(DataError, match=r"is incomplete: it lacks data_batch_1.bin.*data_batch_5"):
        load_cifar(kind, tmp_path, download=True, progress=False)
    assert server.asked == []


def test_a_set_without_names_needs_its_names_file(tmp_path):
    fill(tmp_path, {"train.bin": b"", "test.bin": b""})
    with pytest.raises(DataError, match=r"No cifar100 in"):
        local("cifar100", tmp_path)
    assert CIFAR100.class_names is None


def picture(path, size=(5, 4), mode="RGB", seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    bands = len(Image.new(mode, (1, 1)).getbands())
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], bands), np.uint8)
    Image.fromarray(noise[..., 0] if bands == 1 else noise).save(path)
    return torch.from_numpy(noise).permute(2, 0, 1)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3), ("RGBA", 4)])
def test_a_folder_of_images(tmp_path, mode, channels):
    wolf = picture(tmp_path / "wolf" / "1.png", mode=mode, seed=1)
    cats = [picture(tmp_path / "cat" / f"{i}.PNG", mode=mode, seed=i) for i in (2, 3)]
    (tmp_path / "cat" / ".hidden.png").write_text("no image")
    (tmp_path / "cat" / "notes.txt").write_text("no image")
    (tmp_path / ".git").mkdir()
    source = load_source(f"folder:{tmp_path}")
    assert torch.equal(source.train.images, torch.stack([*cats, wolf]))
    assert source.train.shape == (channels, 4, 5)
    assert (source.train.labels.tolist(), source.train.class_names) == ([0, 0, 1], ("cat", "wolf"))
    assert (source.test, source.title) == (None, tmp_path.name)


def test_a_folder_with_train_and_test(tmp_path):
    for part in ("train", "test"):
        for name in ("a", "b"):
            picture(tmp_path / part / name / "x.png")
    source = load_source(f"folder:{tmp_path}")
    assert (len(source.train), len(source.test)) == (2, 2)
    picture(tmp_path / "test" / "c" / "x.png")
    with pytest.raises(DataError, match=r"differ: classes a, b of shape .* against a, b, c"):
        load_source(f"folder:{tmp_path}")


def test_classes_called_train_and_test(tmp_path):
    for name in ("train", "test"):
        picture(tmp_path / name / "x.png")
    assert load_source(f"folder:{tmp_path}").train.class_names == ("test", "train")


def test_black_and_white_and_palettes(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        Image.new("1", (4, 4), 1).save(tmp_path / name / "x.png")
    assert load_source(f"folder:{tmp_path}").train.images.unique().tolist() == [255]
    for name in ("a", "b"):
        Image.new("RGB", (4, 4), (9, 8, 7)).convert("P").save(tmp_path / name / "x.png")
    assert load_source(f"folder:{tmp_path}").train.shape == (3, 4, 4)


def test_an_empty_class_folder(tmp_path):
    picture(tmp_path / "a" / "x.png")
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match=r"The class folder '.*b' is empty: no image"):
        load_source(f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("size", "mode", "match"),
    [
        ((6, 4), "RGB", r"mixed sizes: '.*a/x.png' is 5 by 4 with 3 channels, '.*b/y.png' is 6 by"),
        ((5, 4), "L", r"'.*b/y.png' is 5 by 4 with 1 channel\. Bring all to one size"),
    ],
)
def test_mixed_sizes_and_channels(tmp_path, size, mode, match):
    picture(tmp_path / "a" / "x.png")
    picture(tmp_path / "b" / "y.png", size, mode)
    with pytest.raises(DataError, match=match):
        load_source(f"folder:{tmp_path}")


def test_one_class_only(tmp_path):
    picture(tmp_path / "a" / "x.png")
    with pytest.raises(DataError, match=r"has one class only \('a'\). A classifier needs two"):
        load_source(f"folder:{tmp_path}")


def test_no_class_folders(tmp_path):
    picture(tmp_path / "x.png")
    with pytest.raises(DataError, match=r"has no class folders. Put the images into one subfolder"):
        load_source(f"folder:{tmp_path}")


def test_no_folder(tmp_path):
    with pytest.raises(DataError, match=r"No folder '.*nowhere'. Check the path after 'folder:'"):
        load_source(f"folder:{tmp_path / 'nowhere'}")
    with pytest.raises(ValueError, match=r"`name` must name a folder after 'folder:'"):
        load_source("folder:")


@pytest.mark.parametrize("damage", ["text", "truncated", "empty"])
def test_unreadable_images(tmp_path, damage):
    picture(tmp_path / "a" / "x.png")
    picture(tmp_path / "b" / "y.png", (40, 40))
    path = tmp_path / "b" / "y.png"
    content = {"text": b"no image", "truncated": path.read_bytes()[:900], "empty": b""}[damage]
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"'.*y.png' is not a sound image .*Replace or remove it"):
        load_source(f"folder:{tmp_path}")


def test_sixteen_bits(tmp_path):
    picture(tmp_path / "a" / "x.png", mode="L")
    (tmp_path / "b").mkdir()
    Image.fromarray(np.zeros((4, 5), np.uint16)).save(tmp_path / "b" / "x.png")
    with pytest.raises(DataError, match=r"has the colour mode I;16; 8-bit grey, RGB or RGBA can"):
        load_source(f"folder:{tmp_path}")

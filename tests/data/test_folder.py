"""One's own images in class folders."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from notbugs.cli import main
from notbugs.core.errors import DataError, DataWarning
from notbugs.data import export_folder, load_source, split

CHANNELS = {"L": 1, "RGB": 3, "RGBA": 4}


def pixels(mode: str = "RGB", size: tuple[int, int] = (6, 4), seed: int = 0) -> np.ndarray:
    """Height and width are given; [h, w] or [h, w, c]."""
    shape = size if mode == "L" else (*size, CHANNELS[mode])
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def put(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def small(folder: Path, classes: Sequence[str] = ("cat", "dog"), each: int = 2) -> Path:
    for i, name in enumerate(classes):
        for j in range(each):
            put(folder / name / f"{j}.png", pixels(seed=10 * i + j))
    return folder


@pytest.mark.parametrize("mode", CHANNELS)
def test_every_mode_is_read_exactly(mode: str, tmp_path: Path) -> None:
    first, second = pixels(mode, seed=1), pixels(mode, seed=2)
    put(tmp_path / "a/x.png", first)
    put(tmp_path / "b/x.png", second)
    data = load_source(f"folder:{tmp_path}").train
    assert data.shape == (CHANNELS[mode], 6, 4)
    assert data.images.dtype == torch.uint8
    expected = np.stack([first, second]).reshape(2, 6, 4, -1).transpose(0, 3, 1, 2)
    assert np.array_equal(data.images.numpy(), expected)


def test_classes_and_files_are_sorted(tmp_path: Path) -> None:
    for name in ("zebra", "ant", "Mouse"):
        for file in ("b.png", "a.png"):
            put(tmp_path / name / file, pixels(seed=ord(name[0]) + ord(file[0])))
    data = load_source(f"folder:{tmp_path}").train
    assert data.class_names == ("Mouse", "ant", "zebra")
    assert data.labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert np.array_equal(data.images[3].permute(1, 2, 0).numpy(), pixels(seed=ord("a") + ord("b")))


def test_what_is_no_image_by_its_name_is_passed_over(tmp_path: Path) -> None:
    small(tmp_path)
    (tmp_path / "cat" / "notes.txt").write_text("not an image")
    (tmp_path / "cat" / ".hidden.png").write_text("not an image")
    (tmp_path / ".git").mkdir()
    (tmp_path / "labels.csv").write_text("file,label,class")
    source = load_source(f"folder:{tmp_path}")
    assert source.test is None
    assert source.train.class_names == ("cat", "dog")
    assert len(source.train) == 4


def test_palettes_and_bits_are_read_as_colour_and_grey(tmp_path: Path) -> None:
    grey = Image.fromarray(pixels("L"))
    for name in ("a", "b"):
        (tmp_path / "bits" / name).mkdir(parents=True)
        grey.convert("1").save(tmp_path / "bits" / name / "x.png")
        (tmp_path / "palette" / name).mkdir(parents=True)
        grey.convert("P").save(tmp_path / "palette" / name / "x.png")
    bits = load_source(f"folder:{tmp_path / 'bits'}").train
    assert bits.shape == (1, 6, 4)
    assert set(bits.images.unique().tolist()) == {0, 255}
    assert load_source(f"folder:{tmp_path / 'palette'}").train.shape == (3, 6, 4)


def test_train_and_test_folders_make_an_official_test_part(tmp_path: Path) -> None:
    small(tmp_path / "train", each=3)
    small(tmp_path / "test", each=1)
    source = load_source(f"folder:{tmp_path}")
    assert source.test is not None
    assert (len(source.train), len(source.test)) == (6, 2)
    assert source.test.provenance["part"] == "test"


def test_train_and_test_must_have_the_same_classes(tmp_path: Path) -> None:
    small(tmp_path / "train", ("cat", "dog"))
    small(tmp_path / "test", ("cat", "cow"))
    with pytest.raises(DataError, match=r"differ: classes cat, dog of shape .* against cat, cow"):
        load_source(f"folder:{tmp_path}")


def test_two_classes_may_be_called_train_and_test(tmp_path: Path) -> None:
    small(tmp_path, ("test", "train"))
    source = load_source(f"folder:{tmp_path}")
    assert source.test is None
    assert source.train.class_names == ("test", "train")


def test_note_title_and_digest(tmp_path: Path) -> None:
    small(tmp_path / "pets")
    source = load_source(f"folder:{tmp_path / 'pets'}")
    assert source.title == "pets"
    before = source.train.provenance["files"]
    (tmp_path / "pets" / "PROVENANCE.txt").write_text("Pets (blurred): with a 3 by 3 box")
    put(tmp_path / "pets" / "cat" / "0.png", pixels(seed=99))
    source = load_source(f"folder:{tmp_path / 'pets'}")
    assert source.title == "Pets (blurred)"
    assert source.train.provenance["files"] != before


def test_what_was_exported_comes_back(tmp_path: Path) -> None:
    digits = load_source("digits").train.select(slice(0, 40))
    export_folder(digits, tmp_path / "out")
    data = load_source(f"folder:{tmp_path / 'out'}").train
    order = digits.labels.argsort(stable=True)
    assert data.labels.tolist() == digits.labels[order].tolist()
    assert (data.pixels() - digits.pixels(order)).abs().max() <= 0.5 / 255 + 1e-6


def test_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"No folder '.*nowhere'. Check the path after 'folder:'"):
        load_source(f"folder:{tmp_path / 'nowhere'}")


def test_no_class_folders(tmp_path: Path) -> None:
    put(tmp_path / "x.png", pixels())
    with pytest.raises(DataError, match=r"has no class folders. Put the images into one subfolder"):
        load_source(f"folder:{tmp_path}")


def test_one_class_only(tmp_path: Path) -> None:
    small(tmp_path, ("cat",))
    with pytest.raises(DataError, match=r"has one class only \('cat'\)"):
        load_source(f"folder:{tmp_path}")


def test_an_empty_class_folder(tmp_path: Path) -> None:
    small(tmp_path)
    (tmp_path / "cow").mkdir()
    with pytest.raises(DataError, match=r"The class folder '.*cow' is empty: no image"):
        load_source(f"folder:{tmp_path}")


def test_mixed_sizes_name_both_files_and_sizes(tmp_path: Path) -> None:
    small(tmp_path)
    put(tmp_path / "dog/9.png", pixels(size=(6, 5)))
    expected = r"'.*0\.png' is 4 by 6 with 3 channels, '.*9\.png' is 5 by 6 with 3 channels"
    with pytest.raises(DataError, match=expected):
        load_source(f"folder:{tmp_path}")


@pytest.mark.parametrize("keep", [0, 4, 60])
def test_an_unsound_image_is_named(keep: int, tmp_path: Path) -> None:
    small(tmp_path)
    path = tmp_path / "dog" / "1.png"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(DataError, match=r"dog/1\.png' is not a sound image .* Replace or remove"):
        load_source(f"folder:{tmp_path}")


COLOURS = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16")


def mixed(folder: Path, modes: Sequence[str] = COLOURS) -> Path:
    """One picture of each mode in two classes, the same grey ramp as far as the mode holds it."""
    ramp = np.arange(0, 240, 10, dtype=np.uint8).reshape(6, 4)
    for name in ("cat", "dog"):
        (folder / name).mkdir(parents=True)
        for i, mode in enumerate(modes):
            grey, colour = Image.fromarray(ramp), Image.fromarray(np.stack([ramp] * 3, axis=-1))
            picture = (grey if mode == "P" else colour).convert("L" if mode == "I;16" else mode)
            if mode == "I;16":
                picture = Image.fromarray(ramp.astype(np.uint16) * 257)
            picture.save(folder / name / f"{i}.{'tiff' if mode == 'CMYK' else 'png'}")
    return folder


def test_mixed_colours_become_what_the_set_is_and_it_is_said(tmp_path: Path) -> None:
    with pytest.warns(DataWarning) as said:
        data = load_source(f"folder:{mixed(tmp_path)}").train
    ramp = np.arange(0, 240, 10).reshape(6, 4)
    assert data.shape == (3, 6, 4)
    for i, mode in enumerate(COLOURS):
        if mode != "1":
            assert np.array_equal(data.images[i].numpy(), np.stack([ramp] * 3)), mode
    (text,) = (str(warning.message) for warning in said)
    for words in (
        f"Of the images in '{tmp_path}' (16 read), ",
        "2 were converted from 1 bit to RGB; ",
        "4 were converted from grey to RGB",
        "2 were converted from palette to RGB",
        "2 were converted from CMYK to RGB",
        "2 were converted from 16-bit grey to RGB",
        "4 were laid on white",
    ):
        assert words in text


@pytest.mark.parametrize(
    ("modes", "channels"),
    [(("1", "L", "LA", "I;16"), 1), (("RGBA", "LA"), 4), (("RGBA", "RGB"), 3), (("L", "RGBA"), 3)],
)
def test_what_a_mixed_set_is(modes: Sequence[str], channels: int, tmp_path: Path) -> None:
    with pytest.warns(DataWarning):
        assert load_source(f"folder:{mixed(tmp_path, modes)}").train.shape[0] == channels


@pytest.mark.parametrize("held", ["val", "valid", "validation", "test", "testing", "Test", "VAL"])
def test_any_held_out_part_is_the_official_test_part(held: str, tmp_path: Path) -> None:
    small(tmp_path / "Train", each=3)
    small(tmp_path / held, each=1)
    (tmp_path / "__MACOSX" / "Train").mkdir(parents=True)
    source = load_source(f"folder:{tmp_path}")
    assert source.test is not None
    assert source.val is None
    assert (len(source.train), len(source.test)) == (6, 2)


def test_validation_images_beside_test_images_are_validated_on(tmp_path: Path) -> None:
    for part, each in (("train", 5), ("valid", 2), ("test", 3)):
        small(tmp_path / part, each=each)
    source = load_source(f"folder:{tmp_path}")
    parts = split(source, seed=0)
    assert [len(p) for p in (parts.train, parts.val, parts.test)] == [10, 4, 6]
    assert source.val is not None
    assert np.array_equal(parts.val.images.numpy(), source.val.images.numpy())


def test_a_lone_train_folder_is_the_set(tmp_path: Path) -> None:
    small(tmp_path / "train")
    source = load_source(f"folder:{tmp_path}")
    assert (source.test, source.train.class_names) == (None, ("cat", "dog"))


@pytest.mark.parametrize("beside", ["extra", "Train", "training"])
def test_what_lies_beside_the_parts_is_not_taken_for_a_class(beside: str, tmp_path: Path) -> None:
    small(tmp_path / "train")
    small(tmp_path / "test")
    small(tmp_path / beside)
    with pytest.raises(DataError, match=rf"holds the folders .*'{beside}'.* are parts of a set"):
        load_source(f"folder:{tmp_path}")


def test_parts_without_a_training_part_are_refused(tmp_path: Path) -> None:
    small(tmp_path / "val")
    small(tmp_path / "test")
    with pytest.raises(DataError, match=r"one of each kind, train among them"):
        load_source(f"folder:{tmp_path}")


def test_endings_in_capitals_and_nested_folders(tmp_path: Path) -> None:
    small(tmp_path)
    plain = tmp_path / "cat" / "2020" / "may" / "A.JPG"
    plain.parent.mkdir(parents=True)
    Image.fromarray(pixels()).save(plain, "JPEG")
    (tmp_path / "cat" / "b.jfif").write_bytes(plain.read_bytes())
    (tmp_path / "cat" / "again").symlink_to(tmp_path / "cat")
    data = load_source(f"folder:{tmp_path}").train
    assert data.labels.tolist() == [0, 0, 0, 0, 1, 1]


def test_images_that_are_left_out_are_said(tmp_path: Path) -> None:
    small(tmp_path)
    put(tmp_path / "loose.png", pixels())
    (tmp_path / "dog" / "IMG_1.HEIC").write_bytes(b"\0")
    said = r"\(4 read\), 1 '.heic' could not be read; 1 outside the class folders left out"
    with pytest.warns(DataWarning, match=said):
        load_source(f"folder:{tmp_path}")


def test_a_large_set_is_read_into_a_file_with_the_same_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usual = load_source(f"folder:{small(tmp_path)}").train
    monkeypatch.setattr("notbugs.core.mapped.IN_MEMORY", 10)
    assert load_source(f"folder:{tmp_path}").train.digest == usual.digest


def test_the_command_line_says_it_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["data", "show", f"folder:{mixed(tmp_path / 'photos')}"])
    said = capsys.readouterr().err
    assert said.count("2 were converted from CMYK to RGB") == 1
    assert "Warning" not in said

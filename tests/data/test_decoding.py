"""Picture files as people have them: which are opened, as what, and what is said of it."""

import contextlib
import io
import struct
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from notbugs.core.errors import DataError
from notbugs.data import load_source, read_picture
from notbugs.data.decoding import FORMATS, SUFFIXES, decoded

ENDINGS = {"BMP": ".bmp", "GIF": ".gif", "JPEG": ".jpg", "PNG": ".png", "PPM": ".ppm"}
ENDINGS |= {"TIFF": ".tiff", "WEBP": ".webp"}
TURNED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
"""EXIF orientation -> the stored array [h, w, c] as it is to be seen."""


def array(mode: str = "RGB", seed: int = 0) -> np.ndarray:
    shape = (6, 4) if mode == "L" else (6, 4, len(mode))
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def content(picture: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def seen(image: torch.Tensor) -> np.ndarray:
    """[c, h, w] as Pillow orders it, [h, w, c]."""
    return image.permute(1, 2, 0).numpy()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", TURNED)
def test_exif_orientation_is_applied_pixel_for_pixel(kind: str, orientation: int) -> None:
    picture = Image.fromarray(array())
    lossless = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    plain, _ = decoded(Path("plain"), content(picture, kind, **lossless))
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image, done = decoded(Path("x"), content(picture, kind, exif=exif, **lossless))
    assert np.array_equal(seen(image), TURNED[orientation](seen(plain)))
    assert done == ["turned upright as EXIF says"] * (orientation > 1)


@pytest.mark.parametrize("orientation", [6, 8])
def test_other_modes_are_turned_too(orientation: int) -> None:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    for mode in ("1", "L", "P", "RGBA", "I;16"):
        picture = Image.fromarray(array("L").astype(np.uint16) * 257)
        if mode != "I;16":
            picture = Image.fromarray(array()).convert(mode)
        plain, _ = decoded(Path("plain"), content(picture))
        image, _ = decoded(Path("x"), content(picture, exif=exif))
        assert np.array_equal(seen(image), TURNED[orientation](seen(plain))), mode


def test_a_palette_and_its_transparency_are_laid_on_white() -> None:
    picture = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "P")
    picture.putpalette([10, 20, 30, 200, 100, 50, 7, 8, 9])
    image, done = decoded(Path("x"), content(picture, transparency=1), "RGB")
    white = [255, 255, 255]
    assert seen(image).tolist() == [[[10, 20, 30], white], [[7, 8, 9], white]]
    assert done == ["laid on white", "converted from palette to RGB"]


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_half_transparency_is_mixed_with_white(mode: str) -> None:
    colour = (0,) * (len(mode) - 1) + (128,)
    wanted = mode.removesuffix("A")
    image, done = decoded(Path("x"), content(Image.new(mode, (2, 2), colour)), wanted)
    assert image.unique().tolist() == [127]
    assert done == ["laid on white"]


@pytest.mark.parametrize(("mode", "kind"), [("I;16", "PNG"), ("I;16", "TIFF"), ("I;16B", "TIFF")])
def test_sixteen_bits_are_rounded_to_eight(mode: str, kind: str) -> None:
    levels = np.array([[0, 128, 129], [257, 40_000, 65_535]])
    stored = levels.astype(">u2" if mode == "I;16B" else "<u2").tobytes()
    image, done = decoded(Path("x"), content(Image.frombytes(mode, (3, 2), stored), kind))
    assert seen(image)[:, :, 0].tolist() == np.rint(levels / 257).astype(int).tolist()
    assert done == ["converted from 16-bit grey to grey"]


def test_transparent_sixteen_bits_are_laid_on_white() -> None:
    picture = Image.fromarray(np.array([[0, 65_535, 300]], np.uint16))
    image, _ = decoded(Path("x"), content(picture, transparency=300))
    assert seen(image).flatten().tolist() == [0, 255, 255]


def test_cmyk_is_read_as_pillow_shows_it() -> None:
    picture = Image.fromarray(array()).convert("CMYK")
    image, done = decoded(Path("x"), content(picture, "TIFF"))
    assert np.array_equal(seen(image), np.array(picture.convert("RGB")))
    assert done == ["converted from CMYK to RGB"]


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "PNG", "WEBP"])
def test_of_several_frames_the_first_is_read(kind: str) -> None:
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if kind == "WEBP" else {}
    raw = content(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    image, done = decoded(Path("x"), raw, "RGB")
    assert seen(image)[0, 0].tolist() == [255, 0, 0]
    assert "cut to the first frame" in done


def test_a_colour_mode_without_a_known_white_is_refused() -> None:
    raw = content(Image.new("F", (4, 4)), "TIFF")
    with pytest.raises(DataError, match=r"'x' has the colour mode F; .*RGB.* Convert it"):
        decoded(Path("x"), raw)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("ending", sorted(SUFFIXES))
def test_no_file_starts_another_program(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace = tmp_path / "trace"
    for name in ("gs", "gswin32c", "gswin64c"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f"#!{sys.executable}\nopen({str(trace)!r}, 'w').close()\n")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)  # it remembers that there was none
    path = tmp_path / "set" / "a" / f"1{ending}"
    path.parent.mkdir(parents=True)
    path.write_bytes(EPS)
    (tmp_path / "set" / "b").mkdir()
    (tmp_path / "set" / "b" / "1.png").write_bytes(content(Image.new("RGB", (8, 8))))
    for read in (
        lambda: load_source(f"folder:{tmp_path / 'set'}"),
        lambda: read_picture(path, (3, 8, 8)),
    ):
        with pytest.raises(DataError, match=rf"1\{ending}' is not a sound image .* none of BMP"):
            read()
    assert not trace.exists()
    with Image.open(path) as opened, pytest.raises(OSError, match=r"\w"):
        opened.load()  # what Pillow does with such a file, so that the trap is known to work
    assert trace.exists()


@pytest.mark.parametrize("kind", FORMATS)
def test_broken_files_are_named(kind: str) -> None:
    raw = content(
        Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)), kind
    )
    decoded(Path("whole"), raw)
    with pytest.raises(DataError, match=r"'x' is not a sound image \(the file is empty\)"):
        decoded(Path("x"), b"")
    for keep in (1, 10, 40, len(raw) // 2, 3 * len(raw) // 4):
        with pytest.raises(DataError, match=r"'x' is not a sound image .* Replace or remove it"):
            decoded(Path("x"), raw[:keep])


@pytest.mark.parametrize("kind", FORMATS)
def test_damage_never_escapes_as_another_error(kind: str) -> None:
    raw = content(Image.fromarray(array()), kind)
    draw = np.random.default_rng(1)
    for _ in range(60):
        broken = bytearray(raw)
        for place in draw.integers(0, len(raw), 3):
            broken[place] = draw.integers(0, 256)
        with contextlib.suppress(DataError):
            image, _ = decoded(Path("x"), bytes(broken))
            assert image.dtype == torch.uint8


def png_bomb(width: int, height: int) -> bytes:
    """A PNG whose header announces any size, with next to no data."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize("side", [10_001, 12_000, 100_000])
def test_a_picture_that_claims_too_many_pixels_is_not_decoded(side: int, tmp_path: Path) -> None:
    raw = png_bomb(side, side)
    with pytest.raises(DataError, match=r"'x' is too large .*at most 100,000,000 pixels"):
        decoded(Path("x"), raw)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "1.png").write_bytes(raw)
    with pytest.raises(DataError, match=r"a/1.png' is too large"):
        load_source(f"folder:{tmp_path}")

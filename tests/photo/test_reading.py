"""Photographs are read to a twentieth of a pixel, or refused with the reason."""

import dataclasses
import io
from functools import cache

import numpy as np
import pytest
import torch
from PIL import Image

from notbugs.core.errors import DataError
from notbugs.photo import Camera, photograph, projected, read_photo
from notbugs.photo.reading import square
from photo.pages import DPI, any_camera, images, printed, taken

sheet_of_small_images = cache(printed)


def rectification_errors(read, sheet, true, dpi=DPI) -> np.ndarray:
    """How far from its place on the page each corner and middle of a cell is found, in pixels.

    In pixels of the images, [points].
    """
    grid = np.stack(np.meshgrid((0, 0.5, 1), (0, 0.5, 1)), axis=-1).reshape(-1, 2)
    cells = [sheet.cells[i] for i in read.rows]
    at = np.concatenate([(c.x, c.y) + grid * sheet.size_mm for c in cells])
    seen = projected(at * dpi / 25.4 - 0.5, true)
    back = projected(seen, np.linalg.inv(read.homography))
    return np.linalg.norm(back - at, axis=1) / sheet.pitch_mm


@pytest.mark.parametrize("tenth", range(10))
def test_cells_are_found_to_a_twentieth_of_a_pixel(tenth) -> None:
    data, sheet = sheet_of_small_images(images(side=32))
    for seed in range(5 * tenth, 5 * tenth + 5):
        photo, true = taken(data, sheet, any_camera(seed))
        read = read_photo(photo, sheet)
        assert read.rows == tuple(range(12))
        assert rectification_errors(read, sheet, true).max() < 0.05
        assert read.uncertainty < 0.05
        off = (read.cells - data.pixels()).flatten(1)
        assert off.abs().mean() < 0.2  # light and colours are not corrected
        same = torch.corrcoef(torch.stack([read.cells.flatten(), data.pixels().flatten()]))
        assert same[0, 1] > 0.8


def test_a_perfect_camera_returns_the_images() -> None:
    data, sheet = sheet_of_small_images()
    photo, true = taken(data, sheet, dpi=200)
    read = read_photo(photo, sheet)
    off = (read.cells - data.pixels()).abs()
    assert off.mean() < 0.005
    assert off.max() < 0.1  # at the border, with the white beside it
    assert rectification_errors(read, sheet, true, 200).max() < 0.02
    assert (read.page, read.marks, read.hidden) == (0, 8, 0)
    assert read.detail == pytest.approx(2.5 / 25.4 * 200, rel=0.01)
    assert read.blur < 0.1


@pytest.mark.parametrize("channels", [1, 3])
def test_a_photograph_may_be_a_file_and_show_any_page(tmp_path, channels) -> None:
    data, sheet = sheet_of_small_images(images(20, channels))
    photo, _ = taken(data, sheet, Camera(roll=20), page=1)
    Image.fromarray(photo).save(tmp_path / "page.png")
    read = read_photo(tmp_path / "page.png", sheet)
    assert read.page == 1
    assert read.rows == (15, 16, 17, 18, 19)
    assert float((read.cells - data.pixels(slice(15, 20))).abs().mean()) < 0.03


def test_the_blur_is_measured() -> None:
    data, sheet = sheet_of_small_images()
    for sigma in (1.0, 2.0):
        read = read_photo(taken(data, sheet, Camera(blur=sigma))[0], sheet)
        assert read.blur * read.detail == pytest.approx(sigma, rel=0.15)


def covered(photo, true, marks):
    """The photograph with a grey patch over marks."""
    for mark in marks:
        x, y = projected(square(mark) * DPI / 25.4 - 0.5, true).round().astype(int).T
        photo[y.min() : y.max(), x.min() : x.max()] = 120
    return photo


def test_hidden_marks_are_counted() -> None:
    data, sheet = sheet_of_small_images()
    photo, true = taken(data, sheet, Camera(tilt=20))
    read = read_photo(covered(photo, true, sheet.marks[1:6]), sheet)
    assert (read.marks, read.hidden) == (3, 5)
    assert rectification_errors(read, sheet, true).max() < 0.5


def refusals():
    """Photographs that cannot be read, with the message; each is made when it is asked for."""
    data, sheet = sheet_of_small_images()
    photo, true = taken(data, sheet)
    noise = np.random.default_rng(0).integers(0, 255, (400, 400, 3)).astype(np.uint8)
    yield "shows no marks of a sheet. Photograph the whole page", noise
    yield (
        "is blurred beyond reading, or too small: no mark is found",
        taken(data, sheet, Camera(blur=9))[0],
    )
    yield "shows another sheet: 0 of its 8 marks", taken(*printed(images(seed=7)))[0]
    yield (
        "shows 2 of the 8 marks of page 1; 3 are needed",
        covered(photo.copy(), true, sheet.marks[2:]),
    )
    left = [mark for mark in sheet.marks if mark.x > 20]
    yield "shows 3 of the 8 marks of page 1, all in one part", covered(photo.copy(), true, left)
    bent = photo.copy()
    bent[:, :] = 255
    for i, mark in enumerate(sheet.marks):  # each mark a little elsewhere
        x, y = projected(square(mark) * DPI / 25.4 - 0.5, true).round().astype(int).T
        part = photo[y.min() - 8 : y.max() + 8, x.min() - 8 : x.max() + 8]
        dx, dy = (int(v) for v in 30 * np.array([np.cos(2.4 * i), np.sin(2.4 * i)]))
        top, left_end = y.min() - 8 + dy, x.min() - 8 + dx
        bent[top : top + part.shape[0], left_end : left_end + part.shape[1]] = part
    yield "of them lie on a plane. Flatten the paper", bent


def test_what_cannot_be_read_is_refused() -> None:
    _, sheet = sheet_of_small_images()
    for message, photo in refusals():
        with pytest.raises(DataError, match=message):
            read_photo(photo, sheet)


def test_a_page_of_the_sheet_beside_another_is_refused() -> None:
    data, sheet = sheet_of_small_images(images(20))
    both = np.concatenate([taken(data, sheet, page=page)[0] for page in (0, 1)], axis=1)
    with pytest.raises(DataError, match=r"shows several pages\. Photograph one at a time"):
        read_photo(both, sheet)


def test_cells_out_of_the_photograph_are_left_out() -> None:
    data, sheet = sheet_of_small_images()
    photo, true = taken(data, sheet)
    x = projected(np.array([[sheet.cells[2].x, 0]]) * DPI / 25.4, true)[0, 0]
    read = read_photo(photo[:, : int(x)].copy(), sheet)
    assert [i % 3 for i in read.rows] == [0, 1] * 4
    assert read.hidden == 3
    below = round((sheet.cells[0].y + 20) / 25.4 * DPI)
    top_row, few = printed(images(2))
    with pytest.raises(DataError, match=r"shows no whole cell\. Photograph the whole page"):
        read_photo(taken(top_row, few)[0][below + 60 :].copy(), few)


def test_detail_and_blur_are_judged_by_the_images_pixels() -> None:
    data, sheet = printed(images(side=150))
    photo, _ = taken(data, sheet, Camera(scale=0.6))
    with pytest.raises(
        DataError,
        match=r"is too small: a cell takes 1[12]\d of its pixels, and the images have 150",
    ):
        read_photo(photo, sheet)
    data, sheet = printed(images(side=300))
    photo, _ = taken(data, sheet, Camera(blur=3.0), dpi=220)
    with pytest.raises(
        DataError, match=r"is blurred beyond reading: by 2\.\d pixels of the images"
    ):
        read_photo(photo, sheet)


def test_what_is_seen_too_unclearly_is_refused() -> None:
    """Errors are as large as the uncertainty says, over photographs that differ in noise alone."""
    data, sheet = sheet_of_small_images(images(side=100))
    errors, uncertainties = [], []
    for seed in range(4):
        camera = Camera(blur=1.5, shot=0.06, read=0.04, scale=0.7, tilt=30, seed=seed)
        photo, true = taken(data, sheet, camera)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("notbugs.photo.reading.MOST_UNCERTAIN", 9)
            read = read_photo(covered(photo, true, sheet.marks[1:6]), sheet)
        errors.append(rectification_errors(read, sheet, true).max())
        uncertainties.append(read.uncertainty)
        with pytest.raises(DataError, match="shows its 3 marks too unclearly to find the images"):
            read_photo(photo, sheet)
    assert 0.3 < np.mean(errors) / np.mean(uncertainties) < 1.5


def test_files_that_are_no_photographs_are_refused(tmp_path) -> None:
    _, sheet = sheet_of_small_images()
    with pytest.raises(DataError, match=r"Cannot read '.*nothing.jpg': No such file"):
        read_photo(tmp_path / "nothing.jpg", sheet)
    (tmp_path / "bad.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"bad.jpg' is not a sound image"):
        read_photo(tmp_path / "bad.jpg", sheet)
    with pytest.raises(TypeError, match=r"`photo` must be uint8 RGB pixels \[h, w, 3\]"):
        read_photo(np.zeros((10, 10)), sheet)


def test_a_camera_is_a_function_of_its_settings() -> None:
    data, sheet = sheet_of_small_images()
    one, other = any_camera(3), dataclasses.replace(any_camera(3), seed=4)
    same = [taken(data, sheet, camera)[0] for camera in (one, one, other)]
    assert (same[0] == same[1]).all()
    assert (same[0] != same[2]).any()


def test_parts_of_the_camera_do_what_they_say() -> None:
    page = np.full((200, 300, 3), 255, np.uint8)
    page[:, :150] = 0

    def side(camera, x):
        photo, true = photograph(page, camera)
        column, row = projected(np.array([[x, 100]]), true)[0].round().astype(int)
        return photo[row, column].astype(int)

    assert side(Camera(), 20).tolist() == [0, 0, 0]
    assert side(Camera(), 280).tolist() == [255, 255, 255]
    assert side(Camera(response=1.0, ink=(0.1, 0.2, 0.3)), 20).tolist() == [26, 51, 76]
    assert side(Camera(response=1.0, white=(0.5, 0.6, 0.7)), 280).tolist() == [128, 153, 178]
    assert side(Camera(response=1.0, balance=(0.5, 1, 0.8)), 280).tolist() == [128, 255, 204]
    assert side(Camera(slope=0.8), 280)[0] < side(Camera(slope=0.8, slope_angle=180), 280)[0]
    assert side(Camera(vignetting=0.8), 298)[0] < side(Camera(vignetting=0.8), 160)[0]
    assert photograph(page, Camera(quality=30))[0].shape == photograph(page, Camera())[0].shape
    wide = photograph(page, Camera(roll=90))[0].shape
    assert wide[0] > wide[1]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tilt": 85}, "`tilt` must be less than 80 degrees; got 85"),
        ({"dots": 2.0}, "`dots` must be at most 1; got 2.0"),
        ({"scale": 0.0}, "`scale` must be a finite number above 0"),
        ({"distance": 0.5}, "`distance` must be at least 1"),
    ],
)
def test_cameras_that_cannot_be_are_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        Camera(**settings)


def test_a_photograph_turned_by_its_camera_is_read(tmp_path) -> None:
    data, sheet = sheet_of_small_images()
    content = io.BytesIO()
    picture, exif = Image.fromarray(taken(data, sheet)[0]), Image.Exif()
    exif[0x0112] = 6
    picture.save(content, "JPEG", exif=exif, quality=90)
    (tmp_path / "turned.jpg").write_bytes(content.getvalue())
    assert read_photo(tmp_path / "turned.jpg", sheet).marks == 8


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("slope", 3.0, r"lie in \[0, 1\]"),
        ("shot", -0.1, "at least 0"),
        ("blur", float("nan"), "at least 0"),
        ("roll", float("nan"), "degrees"),
        ("tilt", float("nan"), "less than 80 degrees"),
        ("quality", 500, r"lie in 1\.\.100"),
    ],
)
def test_a_camera_that_cannot_be_is_refused(name: str, value: float, wanted: str) -> None:
    with pytest.raises(ValueError, match=f"`{name}` must .*{wanted}"):
        Camera(**{name: value})  # type: ignore[arg-type]

"""The PDF has the true size and the images' own pixels; so has the rendered page."""

import base64
import re
import zlib

import numpy as np
import pytest

from notbugs.photo import page_pixels, pdf_of
from photo.pages import images, printed

STREAM = re.compile(rb"<<(.*?)>>\s*stream\r?\n(.*?)endstream", re.DOTALL)


def pictures(content):
    """The picture streams of a PDF, uint8 [h, w] or [h, w, 3]; its other text."""
    for facts, stream in STREAM.findall(content):
        raw = zlib.decompress(base64.a85decode(stream.strip().removesuffix(b"~>")))
        if b"/Subtype /Image" in facts:
            assert b"Interpolate true" not in facts
            assert b"DCTDecode" not in facts
            width = int(re.search(rb"/Width (\d+)", facts)[1])
            height = int(re.search(rb"/Height (\d+)", facts)[1])
            yield np.frombuffer(raw, np.uint8).reshape(height, width, -1)
        else:
            yield raw.decode("latin1")


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("paper", "points"), [("a4", (595.28, 841.89)), ("letter", (612, 792))])
def test_the_pdf_has_the_true_size_and_the_exact_pixels(channels, paper, points) -> None:
    data, sheet = printed(images(4, channels), paper=paper)
    content = pdf_of(sheet, data)
    assert content == pdf_of(sheet, data)
    box = re.search(rb"/MediaBox \[\s*([\d. ]+)\]", content)[1].split()
    assert [float(side) for side in box] == pytest.approx([0, 0, *points], abs=0.01)
    found = list(pictures(content))
    drawn = [one for one in found if not isinstance(one, str)]
    (text,) = [one for one in found if isinstance(one, str)]
    times = -(-472 // 16)  # 40 mm at 300 dpi
    for image in data.images:
        wanted = image.permute(1, 2, 0).numpy().repeat(times, axis=0).repeat(times, axis=1)
        assert any(one.shape == wanted.shape and (one == wanted).all() for one in drawn)
    assert len(drawn) == 4 + 8
    sizes = re.findall(r"q\s+([\d.]+) 0 0 ([\d.]+) ([\d.]+) ([\d.]+) cm", text)
    places = [[float(number) for number in numbers] for numbers in sizes]
    cell, mm = sheet.cells[1], 72 / 25.4
    bottom = points[1] - (cell.y + 40) * mm
    assert places[1] == pytest.approx([40 * mm, 40 * mm, cell.x * mm, bottom], abs=0.01)
    assert f"notbugs sheet {sheet.digest[:12]}, page 1 of 1" in text
    assert "(0 fgsm)" in text


def test_there_is_a_page_for_each() -> None:
    data, sheet = printed(images(40))
    assert len(re.findall(rb"/MediaBox", pdf_of(sheet, data))) == sheet.pages == 3


def test_the_rendered_page_shows_the_same() -> None:
    data, sheet = printed(images(40))
    page = page_pixels(sheet, data, 1, dpi=254)
    assert page.shape == (2970, 2100, 3)
    for i in sheet.rows_on(1):
        left, top = (round(v * 10) for v in (sheet.cells[i].x, sheet.cells[i].y))
        cell = page[top + 12 : top + 400 : 25, left + 12 : left + 400 : 25]
        assert (cell == data.images[i].permute(1, 2, 0).numpy()).all()
    mark = next(m for m in sheet.marks if m.page == 1)
    left, top = round(mark.x * 10), round(mark.y * 10)
    assert (page[top : top + 20, left : left + 149] == 0).all()
    assert (page[: top - 1] == 255).all()


def test_pages_and_sets_that_are_not_the_sheets_are_refused() -> None:
    data, sheet = printed()
    with pytest.raises(ValueError, match=r"`page` must lie in 0..0; got 1"):
        page_pixels(sheet, data, 1)
    with pytest.raises(ValueError, match="`data` must be the images of the sheet"):
        pdf_of(sheet, images(seed=1))

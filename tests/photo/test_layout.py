"""Sheets: where cells and marks are, what is refused, and the folder."""

import dataclasses
import json
import sys

import pytest
import torch

from notbugs.core.errors import DataError, NotbugsError
from notbugs.data import ImageData
from notbugs.photo import lay_out, open_sheet, packages, pairs, pdf_of, save_sheet
from notbugs.photo.layout import MARK
from photo.pages import images, printed


def boxes(sheet, page):
    width, height = sheet.size_mm
    cells = [(c.x, c.y, width, height) for c in sheet.cells if c.page == page]
    return cells + [(m.x, m.y, MARK, MARK) for m in sheet.marks if m.page == page]


@pytest.mark.parametrize("paper", ["a4", "letter"])
@pytest.mark.parametrize("shape", [(16, 16), (24, 10), (10, 24)])
@pytest.mark.parametrize("cell_mm", [12, 40])
def test_nothing_overlaps_or_leaves_the_page(paper, shape, cell_mm) -> None:
    data = images(40)
    data = dataclasses.replace(data, images=torch.zeros(40, 1, *shape, dtype=torch.uint8))
    _, sheet = printed(data, paper=paper, cell_mm=cell_mm)
    assert max(sheet.size_mm) == pytest.approx(cell_mm)
    for page in range(sheet.pages):
        there = boxes(sheet, page)
        for i, (x, y, w, h) in enumerate(there):
            assert x >= 10
            assert y >= 10
            assert x + w <= sheet.page_mm[0] - 10 + 1e-6
            assert y + h <= sheet.page_mm[1] - 10 + 1e-6
            for a, b, c, d in there[:i]:
                assert x >= a + c + 2 or a >= x + w + 2 or y >= b + d + 2 or b >= y + h + 2


def test_marks_name_sheet_and_page() -> None:
    _, sheet = printed(images(40))
    _, other = printed(images(40, seed=1))
    ids = [{m.id for m in sheet.marks if m.page == page} for page in range(sheet.pages)]
    assert [len(one) for one in ids] == [8] * 3
    assert len(set.union(*ids)) == 24
    assert len(set.union(*ids) & {m.id for m in other.marks}) < 8
    _, moved = printed(images(40), cell_mm=39)
    assert moved.digest != sheet.digest


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"paper": "a3"}, "Unknown paper 'a3'. Did you mean 'a4'"),
        ({"cell_mm": 0}, "`cell_mm` must be a finite number above 0"),
        ({"cell_mm": 200}, r"leave room for the marks on a4 \(152 mm between them\); got 200"),
        ({"cell_mm": 1}, r"be at least 1.4 for images of 16 pixels; got 1\. A smaller pixel"),
    ],
)
def test_what_cannot_be_printed_is_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        printed(**settings)


def test_images_that_cannot_be_printed_are_refused() -> None:
    data = images()
    with pytest.raises(TypeError, match="`data` must be a set of uint8 images"):
        printed(dataclasses.replace(data, images=data.pixels()))
    with pytest.raises(ValueError, match="have 1 or 3 channels to be printed; got 2"):
        printed(dataclasses.replace(data, images=data.images[:, :2]))
    with pytest.raises(ValueError, match="`kinds` must be one for each of the 12 images"):
        lay_out(data, ["clean"], [0])
    with pytest.raises(ValueError, match="`data` must fit on 125 pages; got 167 pages"):
        printed(images(1000, side=4), cell_mm=60)


def attacked(clean, rows, **facts) -> ImageData:
    chosen = clean.select(rows)
    provenance = facts | {"source": {"digest": chosen.digest}}
    return dataclasses.replace(
        chosen, images=chosen.pixels().mul(0.5), provenance=provenance, columns={}
    )


def test_adversarial_images_follow_their_originals() -> None:
    clean = images(6)
    sets = {"fgsm": attacked(clean, slice(0, 4)), "to-b": attacked(clean, [0, 2, 3, 5], target=1)}
    data, kinds, originals = pairs(clean, sets)
    assert list(zip(originals, kinds, strict=True))[:6] == [
        *((0, "clean"), (0, "fgsm"), (0, "to-b"), (1, "clean"), (1, "fgsm"), (2, "clean"))
    ]
    assert originals[-1] == 5
    assert torch.equal(data.labels, clean.labels[originals])
    last = (clean.pixels()[5] * 0.5 * 255).round().to(torch.uint8)
    assert torch.equal(data.images[-1], last)
    assert len(pairs(clean, sets, count=1)[0]) == 3


def test_sets_of_other_images_are_refused() -> None:
    clean = images(6)
    with pytest.raises(ValueError, match="be made from the first images of the clean set"):
        pairs(clean, {"fgsm": attacked(clean, [3, 4])})
    with pytest.raises(ValueError, match="4 images made from others"):
        pairs(clean, {"fgsm": attacked(images(6, seed=1), slice(0, 4))})
    with pytest.raises(ValueError, match="have the size and classes of"):
        pairs(clean, {"fgsm": images(6, side=8)})
    with pytest.raises(ValueError, match="not be named 'clean'"):
        pairs(clean, {"clean": attacked(clean, slice(0, 4))})


def test_the_folder_holds_the_sheet(tmp_path) -> None:
    data, sheet = printed()
    save_sheet(sheet, data, tmp_path / "sheet")
    again, same = open_sheet(tmp_path / "sheet")
    assert again == sheet
    assert same.digest == data.digest
    names = {path.name for path in (tmp_path / "sheet").iterdir()}
    assert names == {"sheet.pdf", "sheet.json", "images.safetensors", "images.json"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": 2}, "has sheet format 2; this version reads 1. Update notbugs"),
        ({"papr": "a4"}, "damaged: .*papr"),
        ({"cell_mm": 41.0}, "damaged: .*`digest` must be"),
        ({"marks": [{"page": 0, "x": 1, "y": 1, "id": 1000}]}, "different ids below 1000"),
    ],
)
def test_a_changed_manifest_is_refused(tmp_path, change, message) -> None:
    data, sheet = printed()
    save_sheet(sheet, data, tmp_path / "sheet")
    path = tmp_path / "sheet" / "sheet.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(DataError, match=message):
        open_sheet(tmp_path / "sheet")


def test_what_is_no_folder_of_a_sheet_is_refused(tmp_path) -> None:
    with pytest.raises(DataError, match="Give the folder that `notbugs photo sheet` wrote"):
        open_sheet(tmp_path)
    for name, seed in (("a", 0), ("b", 1)):
        data, sheet = printed(images(seed=seed))
        save_sheet(sheet, data, tmp_path / name)
    (tmp_path / "a" / "images.safetensors").replace(tmp_path / "b" / "images.safetensors")
    with pytest.raises(DataError, match="does not hold the images of"):
        open_sheet(tmp_path / "b")


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data, sheet = printed()
    for name in ("cv2", "reportlab.lib.utils"):
        monkeypatch.setitem(sys.modules, name, None)
    needed = r"`pip install 'notbugs\[photo\]'`"
    with pytest.raises(NotbugsError, match=rf"reportlab\.lib\.utils.*{needed}"):
        pdf_of(sheet, data)
    with pytest.raises(NotbugsError, match=rf"cv2.*{needed}"):
        packages.opencv()

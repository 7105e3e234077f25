"""Stages about adversarial images that are printed and photographed, by a simulated camera."""

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from notbugs.attacks.result import percent
from notbugs.core import random
from notbugs.core.errors import DataError
from notbugs.data import ImageData, safefile
from notbugs.experiments.channel import LEVELS, Crafted, destruction, in_top
from notbugs.experiments.examples import TENSORS, ExamplesStage
from notbugs.experiments.experiment import Illustration, Measurement, Pictures, Work
from notbugs.experiments.first_order import logits_of
from notbugs.experiments.numbers import Columns
from notbugs.experiments.page import Column
from notbugs.experiments.shared import Trained
from notbugs.photo import (
    CLEAN,
    Camera,
    Reading,
    Sheet,
    lay_out,
    page_pixels,
    photograph,
    projected,
    read_photo,
)

INCH = 25.4
COLUMNS = {
    "photo_clean": Column("Clean photo, top 1", "of photographs of clean images", unit="%"),
    "photo_clean_5": Column("Clean photo, top 5", "of photographs of clean images", unit="%"),
    "photo": Column("Photo, top 1", "of photographs of adversarial images", unit="%"),
    "photo_5": Column("Photo, top 5", "of photographs of adversarial images", unit="%"),
    "prefiltered": Column(
        "Destroyed, prefiltered", "of those that were sure, clean and adversarial", unit="%"
    ),
    "rectified": Column("Rectification", "largest error, pixels of the images", 2),
}
"""The columns of `Photographed`, beside those of `channel`."""
EVERYDAY = Camera(
    ink=(0.05, 0.05, 0.06),
    white=(0.90, 0.88, 0.85),
    tone=1.1,
    dots=0.9,
    slope=0.2,
    vignetting=0.2,
    blur=0.8,
    exposure=1.1,
    balance=(1.0, 0.96, 0.88),
    shot=0.01,
    read=0.005,
    quality=90,
)
"""A print on paper that is not quite white, photographed by hand in uneven, warm light."""


@dataclass(frozen=True)
class Printed(ExamplesStage):
    """Photographs of printed pages, cut into cells: of the images `x` and the adversarial `x_adv`.

    Each page is photographed from another angle.

    - `camera`: how; its angles are drawn, each up to `angle` degrees
    - `cell_mm`: the longer side of a printed image; `dpi`: dots of the print per inch
    """

    examples: Crafted
    camera: Camera
    angle: float
    cell_mm: float
    dpi: float

    @property
    def label(self) -> str:
        return f"photograph {self.examples.label}"

    @property
    def cost(self) -> float:
        return 1e5 * self.examples.count

    def make(self, work: Work) -> None:
        found, seed = work.load(self.examples), self.examples.net.data.seed
        n, names = len(found.x), self.examples.net.data.splits(work).test.class_names
        images = torch.stack([found.x, found.x_adv], dim=1).flatten(0, 1)
        pixels = (LEVELS * images).round().to(torch.uint8).cpu()
        data = ImageData(pixels, found.y.cpu().repeat_interleave(2), names, "printed")
        kinds, originals = [CLEAN, self.examples.method] * n, [i // 2 for i in range(2 * n)]
        sheet = lay_out(data, kinds, originals, cell_mm=self.cell_mm)
        cells, worst, missing = torch.zeros_like(data.pixels()), 0.0, set(range(2 * n))
        for page in range(sheet.pages):
            drawn = random.uniform(random.row_keys(3, seed, "angles", page), ())
            angles = self.angle * (2 * drawn - 1)
            roll, tilt, turn = angles.tolist()
            seen = replace(
                self.camera, roll=roll, tilt=tilt, turn=turn, seed=random.seed_of(seed, page)
            )
            photo, truth = photograph(page_pixels(sheet, data, page, self.dpi), seen)
            reading = read_photo(photo, sheet)
            cells[list(reading.rows)] = reading.cells
            missing -= set(reading.rows)
            worst = max(worst, rectification_error(reading, sheet, truth, self.dpi))
            work.progress((page + 1) / sheet.pages)
        if missing:
            raise DataError(
                f"{len(missing)} of {2 * n} images are not wholly in the photographs. Lower `angle`"
                " or the camera's `scale`."
            )
        tensors = {"x": cells[::2], "x_adv": cells[1::2], "y": found.y, "success": found.success}
        tensors = {name: tensor.cpu().contiguous() for name, tensor in tensors.items()}
        safefile.write_tensors(work.folder / TENSORS, tensors, {"rectified": repr(worst)})


def rectification_error(reading: Reading, sheet: Sheet, truth: np.ndarray, dpi: float) -> float:
    """The largest distance of a cell's corner from where it is, in pixels of the images.

    - `truth` [3, 3]: from the page's pixels at `dpi`, whole at their centres, to the photograph's
    """
    size = np.array(sheet.size_mm)
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    worst = 0.0
    for row in reading.rows:
        corners = np.array([sheet.cells[row].x, sheet.cells[row].y]) + square * size
        there = projected(corners * dpi / INCH - 0.5, truth)
        off = np.linalg.norm(projected(corners, reading.homography) - there, axis=1)
        worst = max(worst, float(off.max()) / reading.detail)
    return worst


@dataclass(frozen=True)
class Photographed(Measurement):
    """Accuracies on photographs, and how many adversarial images they destroyed.

    - `judge`: another net than the attacked one; None: that one
    """

    printed: Printed
    judge: Trained | None = None

    @property
    def cost(self) -> float:
        return 2e4 * self.printed.examples.count

    def measure(self, work: Work) -> Columns:
        made = self.printed.examples
        net = work.load(self.judge or made.net)
        source, photo = work.load(made), work.load(self.printed)
        y = source.y
        before, adversarial, kept, after = (
            logits_of(net, x) for x in (source.x, source.x_adv, photo.x, photo.x_adv)
        )
        header = safefile.read_header(work.path(self.printed) / TENSORS, what="data")
        return {
            "top_1": percent(in_top(adversarial, y, 1)),
            "photo_clean": percent(in_top(kept, y, 1)),
            "photo_clean_5": percent(in_top(kept, y, 5)),
            "photo": percent(in_top(after, y, 1)),
            "photo_5": percent(in_top(after, y, 5)),
            "destroyed": destruction(before, adversarial, after, y, 1),
            "destroyed_5": destruction(before, adversarial, after, y, 5),
            "prefiltered": destruction(before, adversarial, after, y, 1, sure=True),
            "rectified": float(header["rectified"]),
        }


@dataclass(frozen=True)
class PhotoPictures(Illustration):
    """Images and adversarial ones as files, and as cut from photographs."""

    printed: Printed
    count: int = 7

    def draw(self, work: Work) -> Pictures:
        source, photo = work.load(self.printed.examples), work.load(self.printed)
        rows = torch.linspace(0, len(source.x) - 1, min(self.count, len(source.x))).long()
        sheets: dict[str, Tensor] = {
            "photo.clean": source.x[rows],
            "photo.clean_photo": photo.x[rows],
            "photo.adversarial": source.x_adv[rows],
            "photo.adversarial_photo": photo.x_adv[rows],
        }
        return sheets

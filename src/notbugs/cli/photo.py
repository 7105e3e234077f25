"""`notbugs photo`: adversarial images that are printed and photographed."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import tyro
from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text
from torch import Tensor

from notbugs.cli.common import moved, open_model
from notbugs.cli.kinds import FOLDER, PHOTOGRAPHED
from notbugs.cli.outputs import Output, check_outputs, inputs_of, write_numbers
from notbugs.core.errors import DataError, bad_value, check_count
from notbugs.core.visible import visible
from notbugs.data import ImageData, load
from notbugs.models import Classifier, frozen
from notbugs.models.predictions import clean_logits
from notbugs.photo import (
    CLEAN,
    Sheet,
    lay_out,
    open_sheet,
    pairs,
    photo_rates,
    read_photo,
    save_sheet,
)
from notbugs.photo.files import IMAGES, MANIFEST
from notbugs.photo.packages import opencv

BATCH, TOP = 256, 5


@dataclass(frozen=True)
class PrintSheet:
    """Lay out clean and adversarial images for printing, with marks for reading photographs.

    The folder gets sheet.pdf (print it at 100 %), sheet.json and the images in 8 bits.

    Try:
      notbugs photo sheet clean.safetensors fgsm.safetensors --out sheet --count 20
    """

    clean: Annotated[Path, tyro.conf.Positional]
    """The set that was attacked (.safetensors)."""
    adversarial: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Sets that `notbugs attack --save` wrote; each is named after its file."""
    out: Path
    """The folder to write."""
    paper: str = "a4"
    """a4 or letter."""
    cell_mm: float = 40.0
    """The longer side of a printed image in mm."""
    count: int | None = None
    """Clean images to print, with the adversarial ones made from them; all without it."""

    def run(self, console: Console) -> None:
        """Writes the folder and prints what is in it."""
        if self.count is not None:
            check_count(self.count, "--count")
        inputs = inputs_of(others=(self.clean, *self.adversarial))
        check_outputs({"--out": Output(self.out, FOLDER)}, inputs, overwrite=False)
        names = [path.stem for path in self.adversarial]
        if len(set(names)) < len(names) or not names:
            expected = "be at least one set, each with a file name of its own"
            raise bad_value("adversarial", expected, names, "Rename the files.")
        sets = {path.stem: load(path) for path in self.adversarial}
        data, kinds, originals = pairs(load(self.clean), sets, self.count)
        sheet = lay_out(data, kinds, originals, paper=self.paper, cell_mm=self.cell_mm)
        save_sheet(sheet, data, self.out)
        console.print(
            f"Sheet {sheet.digest[:12]}: {len(sheet.cells)} images on {sheet.pages} pages. Print "
            "sheet.pdf at 100 %, and photograph each page whole."
        )
        console.print(f"Folder: {self.out}", soft_wrap=True)


@dataclass(frozen=True)
class ReadPhotos:
    """Classify photographs of a printed sheet: accuracies, and the destruction rate.

    The destruction rate is the share of the successful adversarial images (the clean one is
    classified correctly, the adversarial one is not) whose photograph is classified correctly.
    Prefiltered counts those alone whose two predictions had a confidence of at least 0.8.

    Try:
      notbugs photo read page1.jpg page2.jpg --sheet sheet --model model.safetensors
    """

    photos: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Photographs; of several of one page the last that shows an image counts. One that cannot be
    read is named and left out."""
    sheet: Path
    """The folder that `notbugs photo sheet` wrote."""
    model: Path
    """The model's weights: a .safetensors file, or the folder that train wrote."""
    json: Path | None = None
    """Write the numbers (percent) to this file."""
    overwrite: bool = False
    """Replace a file of that name that notbugs did not write."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def run(self, console: Console) -> None:
        """Reads the photographs and prints the table."""
        if not self.photos:
            raise bad_value("PHOTO", "be given", "none", "Name at least one photograph.")
        used = (*self.photos, self.sheet / MANIFEST, self.sheet / IMAGES)
        outputs = {} if self.json is None else {"--json": Output(self.json, PHOTOGRAPHED)}
        inputs = inputs_of(weights=self.model, others=used)
        check_outputs(outputs, inputs, overwrite=self.overwrite)
        sheet, data, model = _opened(self.sheet, self.model, self.device)
        cells: dict[int, Tensor] = {}
        photographs: list[dict[str, Any]] = []
        for path in self.photos:
            try:
                read = read_photo(path, sheet)
            except DataError as error:
                if len(self.photos) == 1:
                    raise
                console.print(f"Left out: {visible(str(error))}", markup=False, soft_wrap=True)
                photographs.append({"file": str(path), "left_out": str(error)})
                continue
            cells |= dict(zip(read.rows, read.cells, strict=True))
            names = ("page", "marks", "hidden", "error", "uncertainty", "blur", "detail")
            facts = {name: getattr(read, name) for name in names} | {"page": read.page + 1}
            photographs.append({"file": str(path), "cells": len(read.rows)} | facts)
            hidden = f", {read.hidden} hidden" if read.hidden else ""
            console.print(
                f"{path}: page {read.page + 1}, {len(read.rows)} images, {read.marks} marks{hidden}"
                f"; error {read.error:.2f} px, blur {read.blur:.2f} px of the images",
                soft_wrap=True,
            )
        if not cells:
            raise DataError("None of the photographs can be read, for the reasons above.")
        index = torch.tensor(sorted(cells))
        before = _logits(model, data.pixels(index))
        after = _logits(model, torch.stack([cells[int(i)] for i in index]))
        shown = [sheet.cells[i] for i in index.tolist()]
        numbers = photo_rates(shown, data.labels[index], before, after)
        console.print(_table(numbers))
        if self.json is not None:
            facts = {"sheet": sheet.digest, "photographs": photographs} | numbers
            write_numbers(self.json, facts)
            console.print(f"Numbers: {self.json}", soft_wrap=True)


@dataclass(frozen=True)
class WatchSheet:
    """Show what a camera, or a video, sees: the five likeliest classes of each printed image.

    Try:
      notbugs photo watch --sheet sheet --model model.safetensors
    """

    sheet: Path
    """The folder that `notbugs photo sheet` wrote."""
    model: Path
    """The model's weights: a .safetensors file, or the folder that train wrote."""
    camera: int = 0
    """The camera's number."""
    video: Path | None = None
    """A video file in place of the camera."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def run(self, console: Console) -> None:
        """Shows a table until the video ends, or until Ctrl-C."""
        cv2 = opencv()
        sheet, data, model = _opened(self.sheet, self.model, self.device)
        if self.video is not None and not self.video.is_file():  # a URL would be opened too
            raise DataError(f"'{self.video}' is not there. Give a video file.")
        source = self.camera if self.video is None else str(self.video)
        capture = cv2.VideoCapture(source)
        frames = 0
        try:
            with Live(console=console, auto_refresh=False) as live:
                while (taken := capture.read())[0]:
                    frames += 1
                    live.update(self._shown(taken[1][..., ::-1], sheet, data, model), refresh=True)
        finally:
            capture.release()
        if not frames:
            what = f"camera {source}" if self.video is None else f"'{self.video}'"
            raise DataError(f"No picture can be read from {what}. Check --camera or --video.")
        console.print(f"{frames} frames.")

    def _shown(self, frame: Any, sheet: Sheet, data: ImageData, model: Classifier) -> Table | Text:
        try:
            read = read_photo(frame.copy(), sheet)
        except DataError as error:
            return Text(visible(str(error)))
        chances = _logits(model, read.cells).softmax(dim=1).topk(min(TOP, model.classes))
        table = Table("image", "kind", "label", f"top {TOP}", title=f"Page {read.page + 1}")
        for i, values, classes in zip(read.rows, *map(Tensor.tolist, chances), strict=True):
            pairs = zip(classes, values, strict=True)
            top = ", ".join(f"{data.class_names[k]} {100 * p:.0f} %" for k, p in pairs)
            cell = sheet.cells[i]
            table.add_row(str(cell.original), cell.kind, data.class_names[cell.label], top)
        return table


@dataclass(frozen=True)
class Photo:
    """Print adversarial images, and classify photographs of them (Kurakin et al. 2016).

    Needs the packages opencv-python-headless and reportlab.
    """

    if_stopped: ClassVar[str] = "Stopped."

    action: (
        Annotated[PrintSheet, tyro.conf.subcommand("sheet")]
        | Annotated[ReadPhotos, tyro.conf.subcommand("read")]
        | Annotated[WatchSheet, tyro.conf.subcommand("watch")]
    )

    def run(self, console: Console) -> None:
        """Runs the action."""
        self.action.run(console)


def _opened(folder: Path, weights: Path, device: str) -> tuple[Sheet, ImageData, Classifier]:
    sheet, data = open_sheet(folder)
    model, _ = open_model(weights, None, None, None, None)
    if (model.shape, model.classes) != (data.shape, data.classes):
        raise bad_value(
            "--model",
            f"take images of the sheet, {data.shape}, and have {data.classes} classes",
            f"a model of {model.shape} and {model.classes} classes",
        )
    return sheet, data, moved(model, device)


def _logits(model: Classifier, x: Tensor) -> Tensor:
    with frozen(model):
        return torch.cat([clean_logits(model, p.to(model.device)).cpu() for p in x.split(BATCH)])


def _table(numbers: Mapping[str, Any]) -> Table:
    columns = ("images", "n", "accuracy", "photographed", "destroyed", "prefiltered")
    table = Table(*columns, title="Accuracy, %, and destruction rate")

    def text(value: float | None) -> str:
        return "-" if value is None else f"{value:.1f}"

    for kind, one in ({CLEAN: numbers["clean"]} | numbers["adversarial"]).items():
        row = [kind, str(one["n"]), text(one["accuracy"]), text(one["accuracy_photographed"])]
        for name in ("", "_prefiltered") if kind != CLEAN else ():
            row += [f"{text(one[f'destruction_rate{name}'])} % of {one[f'successful{name}']}"]
        table.add_row(*row)
    return table

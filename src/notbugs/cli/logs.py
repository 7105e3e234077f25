"""The logs that a training writes beside its weights: a line per epoch, and a picture."""

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from notbugs.core import processes
from notbugs.core.errors import DataWarning, NotbugsError
from notbugs.core.packages import optional
from notbugs.core.strict_json import to_json
from notbugs.data.writing import write_file

METRICS_FILE = "metrics.jsonl"
CURVES = "training.png"


class Logs:
    """Writes `metrics.jsonl` after every epoch, also of a resumed training."""

    def __init__(self, folder: Path, *, tensorboard: bool = False, resumed: bool = False) -> None:
        """Logs to `folder`; with `tensorboard`, writes event files there as well.

        Epochs that were logged before an interruption are not added to the event files again.
        """
        self.folder = folder
        self.written = _lines(folder / METRICS_FILE) if resumed else 0
        self.events = _events(folder) if tensorboard and processes.is_first() else None

    def write(self, history: Sequence[Mapping[str, float]]) -> None:
        """Writes all epochs so far."""
        if not processes.is_first():
            return
        if len(history) == 1:  # from the beginning, whatever an earlier training left here
            self.written = 0
        lines = "".join(f"{to_json(row)}\n" for row in history).encode()
        write_file(self.folder / METRICS_FILE, lambda file: file.write(lines))
        if self.events is not None:
            for row in history[self.written :]:
                for name, value in row.items():
                    self.events.add_scalar(name, value, int(row["epoch"]))
        self.written = max(self.written, len(history))

    def draw(self, history: Sequence[Mapping[str, float]]) -> None:
        """Draws the training curves."""
        if not processes.is_first():
            return
        if self.events is not None:
            self.events.close()
        if history:
            try:
                figures = optional(
                    "notbugs.report.figures", extra="report", use="training.png is not drawn"
                )
            except NotbugsError as error:
                warnings.warn(str(error), DataWarning, stacklevel=2)
                return
            content = figures.png(figures.training_sheet(history))
            write_file(self.folder / CURVES, lambda file: file.write(content))


def _lines(path: Path) -> int:
    """The number of epochs that an interrupted training has logged."""
    return len(path.read_bytes().splitlines()) if path.exists() else 0


def _events(folder: Path) -> Any:
    package = optional("torch.utils.tensorboard", extra="tensorboard", use="--tensorboard")
    return package.SummaryWriter(str(folder))

"""`notbugs explore`: models, attacks and features by clicks, in a browser."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
import tyro
from rich.console import Console

from notbugs.cli.common import default_workers, moved, open_model, train_and_test
from notbugs.cli.progress import StageDisplay
from notbugs.core.errors import bad_value, check_count
from notbugs.data.download import cache_folder
from notbugs.engine import Threat
from notbugs.models import Classifier
from notbugs.models.weights import MODEL
from notbugs.store import Store

if TYPE_CHECKING:
    from notbugs.app import Subjects

STORE = "explorer"
"""The store in the cache folder."""


def cached_store(given: Path | None) -> Store:
    """The store that was named, or the one in the cache folder."""
    return Store(given or cache_folder() / STORE)


@dataclass(frozen=True)
class Explore:
    """Explore models in a browser: attacks, what others see of them, features and their use.

    Without weights two small CNNs of the digits are trained, a standard and a robust one, and
    kept for the next time. The page is served on this machine alone, loads nothing from elsewhere,
    and ends with Ctrl-C. Needs the package gradio (`pip install notbugs[explorer]`).

    Try:
      notbugs explore
      notbugs explore runs/standard runs/robust
    """

    if_stopped: ClassVar[str] = "Stopped."

    weights: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """One to three models of the same images: .safetensors files, or folders that train wrote."""
    host: str = "127.0.0.1"
    """The address to serve on; 0.0.0.0 lets others in your network use it."""
    port: int = 7860
    """The port; 0 takes a free one."""
    threat: str = "l2:0.5"
    """The adversary of the plane of usefulness, as norm:radius."""
    quick: bool = False
    """Fewer images and steps of what is computed once: curves and planes are rough."""
    at_once: int = 2
    """Answers that are computed at once; others wait."""
    data: str | None = None
    """Another dataset than the weights name."""
    data_dir: Path | None = None
    """Where the dataset's files lie."""
    store: Path | None = None
    """Where models and what is computed once are kept; without it in the cache folder."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def run(self, console: Console) -> None:
        """Computes what is missing, and serves until Ctrl-C."""
        Threat.parse(self.threat).as_norm("the plane")
        check_count(self.at_once, "--at-once")
        _check_names(self.weights)
        from notbugs.app import QUICK, Once, digits_subjects, explored, serve
        from notbugs.app.package import gradio
        from notbugs.app.serving import check_port

        check_port(self.port)
        subjects = None
        if self.weights:
            subjects = _subjects(self.weights, self.data, self.data_dir, self.device)
        gradio()
        store, display = cached_store(self.store), StageDisplay(console)
        with display.shown():
            if subjects is None:
                workers = default_workers("cpu")
                subjects = digits_subjects(store, workers=workers, observer=display)
            torch.set_num_threads(1)  # answers share the cores among them
            explorer = explored(
                subjects,
                store,
                threat=self.threat,
                copies=self.at_once,
                once=QUICK if self.quick else Once(),
                observer=display,
            )
        with serve(explorer, host=self.host, port=self.port, copies=self.at_once) as served:
            console.print(f"Open {served.url} in a browser. Ctrl-C stops it.", soft_wrap=True)
            served.wait()


def _subjects(
    weights: tuple[Path, ...], data: str | None, data_dir: Path | None, device: str
) -> "Subjects":
    """The models by the names of their files, and the images that the first was trained on."""
    from notbugs.app import Subjects

    opened = [open_model(path, None, None, data, data_dir) for path in weights]
    models: Mapping[str, Classifier] = {
        _name(path): moved(model, device) for path, (model, _) in zip(weights, opened, strict=True)
    }
    train, test = train_and_test(opened[0][1], data, data_dir)
    return Subjects(models, train, test)


def _check_names(weights: tuple[Path, ...]) -> None:
    names = [_name(path) for path in weights]
    if len({*names}) < len(names):
        remedy = "Rename the files or folders."
        raise bad_value("WEIGHTS", "have a name each", ", ".join(names), remedy)


def _name(path: Path) -> str:
    """The file's name, or the folder's of what train wrote."""
    return path.parent.resolve().name if path.name == MODEL else path.stem

"""`notbugs explore`: models, attacks and features by clicks, in a browser."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar

import torch
import tyro
from rich.console import Console

from notbugs.cli.common import default_workers, model_names
from notbugs.cli.progress import StageDisplay
from notbugs.cli.subject import OfModel, Subject
from notbugs.core.errors import check_count
from notbugs.data.download import cache_folder
from notbugs.engine import Threat
from notbugs.store import Store
from notbugs.zoo.addresses import weights_at

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
    """One to three models of the same images: .safetensors files, folders that train wrote,
    zoo:NAME or hub:OWNER/REPO."""
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
    store: Path | None = None
    """Where models and what is computed once are kept; without it in the cache folder."""
    given: OfModel = Subject()

    def run(self, console: Console) -> None:
        """Computes what is missing, and serves until Ctrl-C."""
        Threat.parse(self.threat).as_norm("the plane")
        check_count(self.at_once, "--at-once")
        from notbugs.app import QUICK, Once, digits_subjects, explored, serve
        from notbugs.app.package import gradio
        from notbugs.app.serving import check_port

        check_port(self.port)
        subjects = None
        if self.weights:
            subjects = _subjects(self.weights, self.given)
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


def _subjects(weights: tuple[Path, ...], given: Subject) -> "Subjects":
    """The models by the names of their files, and the images that the first was trained on."""
    from notbugs.app import Subjects

    paths = [weights_at(path) for path in weights]
    names = model_names(paths)  # refuses one that is named twice
    opened = [given.opened(path) for path in paths]
    models = {name: model for name, (model, _) in zip(names, opened, strict=True)}
    parts = given.splits(opened[0][1])
    return Subjects(models, parts.train, parts.test)

"""`notbugs reproduce`: runs a paper's experiment."""

import shlex
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console

from notbugs.cli.common import claim_folder, default_workers, device_of, restore_marker
from notbugs.cli.kinds import RUN
from notbugs.cli.outputs import Output, check_outputs, inputs_of
from notbugs.cli.progress import StageDisplay
from notbugs.cli.report import draw_report
from notbugs.core.errors import bad_value, unknown_name
from notbugs.experiments.experiment import Experiment
from notbugs.experiments.model_training import Net, user_net
from notbugs.experiments.overrides import overridden
from notbugs.experiments.papers import PAPERS
from notbugs.experiments.results import RESULTS
from notbugs.experiments.running import Machine, run
from notbugs.store import Store
from notbugs.training import Recipe

RUNS = Path("runs")
"""The folder of runs whose own folder is not named."""


@dataclass(frozen=True)
class Reproduce:
    """Run a paper's experiment: our numbers beside the published ones, with controls.

    Writes report.html, results.json, models and datasets. Run the same command again to
    resume after an interruption, or to see a finished result at once.

    Try:
      notbugs reproduce ilyas2019
      notbugs reproduce ilyas2019 --data mnist --data-dir ~/data --preset laptop
      notbugs reproduce ilyas2019 --data folder:photos --seeds 1 --set eps_sets=[1,2]
      notbugs reproduce engstrom2019 --data digits
      notbugs reproduce szegedy2013 --data digits --set images=32
      notbugs reproduce goodfellow2014 --data mnist
      notbugs reproduce kurakin2016 --data photographs
    """

    if_stopped: ClassVar[str] = (
        "Stopped. Finished stages are in the store, and running trainings were saved; other "
        "running stages will start again. The same command resumes from there."
    )

    experiment: Annotated[str | None, tyro.conf.Positional] = None
    """The paper: ilyas2019 (robust and non-robust features), engstrom2019 (representations of
    robust models), szegedy2013 (the first adversarial examples), goodfellow2014 (one step along
    the gradient), carlini2016 (the nearest examples, distillation), kurakin2016 (what changes of
    the image leave of them), hendrycks2019 (images that nets have wrong as they are) or geirhos2020
    (shortcuts). Without it they are listed."""
    data: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, planted, photographs, or folder:PATH."""
    preset: str = "laptop"
    """smoke (seconds), laptop (minutes on 2 cores), gpu, or paper."""
    out: Path | None = None
    """Output folder; without it runs/EXPERIMENT-DATA-PRESET."""
    store: Path | None = None
    """A store to share between runs; without it the run's own folder."""
    data_dir: Path | None = None
    """Where the dataset's files lie (else $NOTBUGS_DATA, else downloaded)."""
    seeds: int | None = None
    """Number of seeds, 0..N-1."""
    train_size: int | None = None
    """Images to train on (10 % of them held out)."""
    test_size: int | None = None
    """Test images to evaluate on."""
    epochs: int | None = None
    """Epochs of every model."""
    architecture: str | None = None
    """A built-in architecture (cnn, resnet18, vgg16, ...), or timm:NAME or torchvision:NAME where
    those packages are installed."""
    model: str | None = None
    """Your own architecture: path/to/file.py:factory."""
    embedding: str | None = None
    """With --model: the layer whose output is the embedding; without it the input of the last
    linear layer."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """Any setting of the paper, as robust.epochs=5; may be given again."""
    workers: int | None = None
    """Worker processes; 0 works in this one. Default: one a core, 0 on a GPU."""
    threads: int = 1
    """Torch threads of each worker."""
    device: str = "auto"
    """auto, cpu or cuda."""

    @property
    def draws(self) -> bool:
        """Whether there will be a page."""
        return self.experiment is not None

    def run(self, console: Console) -> None:
        """Runs it, prints the tables and says where the report is."""
        if self.experiment is None:
            if self != Reproduce():
                raise bad_value("experiment", "be named", "settings alone", f"One of {_names()}.")
            _list(console)
            return
        paper = PAPERS.get(self.experiment)
        if paper is None:
            raise unknown_name("experiment", self.experiment, PAPERS)
        config, command = self._config(paper)
        device, data = device_of(self.device), self.data.replace("/", "-").replace(":", "-")
        out = self.out or RUNS / f"{self.experiment}-{data}-{self.preset}"
        inputs = inputs_of(model=self.model, data=self.data, data_dir=self.data_dir)
        check_outputs({"--out": Output(out, RUN)}, inputs, overwrite=False)
        identity = {"experiment": self.experiment, "data": self.data, "preset": self.preset}
        claim_folder(out, identity)
        display = StageDisplay(console)
        with display.shown():
            result = run(
                paper,
                config,
                Store(self.store or out / "store"),
                out=out,
                machine=self._machine(device),
                observer=display,
                command=command,
            )
        restore_marker(out, identity)
        draw_report(out, result, console, again=False)

    def _machine(self, device: str) -> Machine:
        data_dir = None if self.data_dir is None else str(self.data_dir)
        workers = default_workers(device) if self.workers is None else self.workers
        return Machine(device, data_dir, workers, self.threads)

    def _config(self, paper: Experiment[Any]) -> tuple[Any, str]:
        """The settings of the run, and the command that repeats them."""
        config = paper.settings(self.data, self.preset)
        named = {n: getattr(self, n) for n in ("seeds", "train_size", "test_size")}
        if self.epochs is not None:
            recipes = [
                f.name for f in fields(config) if isinstance(getattr(config, f.name), Recipe)
            ]
            if not recipes:
                remedy = "It trains no model."
                raise bad_value("--epochs", "be left out with this experiment", self.epochs, remedy)
            named |= {f"{name}.epochs": self.epochs for name in recipes}
        changes = [f"{n}={v}" for n, v in named.items() if v is not None] + list(self.set)
        words = ["notbugs", "reproduce", paper.name, "--data", self.data, "--preset", self.preset]
        words += [word for change in changes for word in ("--set", change)]
        config = overridden(config, changes)
        net, named_net = self._net()
        if net is not None:
            if not hasattr(config, "net"):
                text = " ".join(named_net)
                raise bad_value(named_net[0], "be left out with this experiment", text)
            config = replace(config, net=net)
        return config, shlex.join(words + named_net)

    def _net(self) -> tuple[Net | None, list[str]]:
        """The architecture that was asked for, and its flags."""
        if self.model is not None:
            flags = ["--model", self.model]
            flags += [] if self.embedding is None else ["--embedding", self.embedding]
            return user_net(self.model, self.embedding), flags
        if self.architecture is not None:
            return Net(self.architecture), ["--architecture", self.architecture]
        return None, []


def _names() -> str:
    return ", ".join(PAPERS)


def _list(console: Console) -> None:
    """Prints the papers: what each asks, how long it takes, and runs in runs/ that are finished."""
    for name, paper in PAPERS.items():
        lines = [f"{name:<14} {paper.question}", f"presets {', '.join(paper.presets)}"]
        times = [f"{data} {minutes} min" for data, minutes in paper.takes.items()]
        if times:
            lines.append(f"laptop, on two cores: {', '.join(times)}; smoke: under a minute")
        lines += [f"finished: {path.parent}" for path in sorted(RUNS.glob(f"{name}-*/{RESULTS}"))]
        for line in (lines[0], *(f"{'':<15}{text}" for text in lines[1:])):
            console.print(line, markup=False, highlight=False, soft_wrap=True)
    console.print("Run one: notbugs reproduce NAME --data digits --preset smoke", highlight=False)

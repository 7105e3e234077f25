"""`notbugs reproduce`: runs a paper's experiment."""

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.console import Console

from notbugs.cli.common import claim_folder, default_workers, device_of, restore_marker
from notbugs.cli.kinds import RUN
from notbugs.cli.outputs import Output, check_outputs, inputs_of
from notbugs.cli.progress import StageDisplay, duration
from notbugs.core.errors import bad_value, unknown_name
from notbugs.experiments import engstrom2019, ilyas2019
from notbugs.experiments.config import Config, config_for
from notbugs.experiments.engstrom.settings import engstrom_config
from notbugs.experiments.experiment import Experiment
from notbugs.experiments.overrides import overridden
from notbugs.experiments.papers import PAPERS
from notbugs.experiments.plan import Where
from notbugs.experiments.running import Machine
from notbugs.experiments.running import run as run_paper
from notbugs.store import Store

EXPERIMENTS = {
    "ilyas2019": "Are adversarial examples features?",
    "engstrom2019": "What do the representations of robust models encode?",
}


@dataclass(frozen=True)
class Reproduce:
    """Run a paper's experiment: our numbers beside the published ones, with controls.

    Writes report.html, results.json, models and datasets. Run the same command again to
    resume after an interruption, or to see a finished result at once.

    Try:
      notbugs reproduce ilyas2019
      notbugs reproduce ilyas2019 --data mnist --data-dir ~/data --preset laptop
      notbugs reproduce ilyas2019 --data folder:photos --seeds 1 --eps 1 2
      notbugs reproduce engstrom2019 --data digits
      notbugs reproduce szegedy2013 --data digits --set images=32
    """

    if_stopped: ClassVar[str] = (
        "Stopped. Finished stages are in the store, and running trainings were saved; other "
        "running stages will start again. The same command resumes from there."
    )

    experiment: Annotated[str | None, tyro.conf.Positional] = None
    """The paper: ilyas2019 (robust and non-robust features), engstrom2019 (representations of
    robust models) or szegedy2013 (the first adversarial examples). Without it they are listed."""
    data: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, planted, or folder:PATH."""
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
    eps: tuple[float, ...] | None = None
    """With ilyas2019: radii at which D_rand, D_det and D_other are built, pixel units of
    [0, 1]."""
    eps_eval: float | None = None
    """With ilyas2019: radius of the robust accuracies in the table."""
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
    """With --model: the layer whose output is the embedding."""
    set: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """With szegedy2013: any setting, as recipe.epochs=5; may be given again."""
    workers: int | None = None
    """Worker processes; 0 works in this one. Default: one a core, 0 on a GPU."""
    threads: int = 1
    """Torch threads of each worker."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def run(self, console: Console) -> None:
        """Runs it, prints the tables and says where the report is."""
        if self.experiment is None:
            if self != Reproduce():
                raise bad_value("experiment", "be named", "settings alone", f"One of {_names()}.")
            _list(console)
            return
        if self.experiment not in (*EXPERIMENTS, *PAPERS):
            raise unknown_name("experiment", self.experiment, (*EXPERIMENTS, *PAPERS))
        device, data = device_of(self.device), self.data.replace("/", "-").replace(":", "-")
        paper = PAPERS.get(self.experiment)
        config, command = (self._config(), "") if paper is None else self._paper_config(paper)
        out = self.out or Path("runs") / f"{self.experiment}-{data}-{self.preset}"
        inputs = inputs_of(model=self.model, data=self.data, data_dir=self.data_dir)
        check_outputs({"--out": Output(out, RUN)}, inputs, overwrite=False)
        identity = {"experiment": self.experiment, "data": self.data, "preset": self.preset}
        claim_folder(out, identity)
        result = self._computed(paper, config, command, out, device, console)
        restore_marker(out, identity)
        page = self._reported(out, result, console)
        console.print(
            f"Compute time of this run: {duration(result['seconds'])}; including stored results: "
            f"{duration(result['seconds_total'])}; wall time: "
            f"{duration(result['seconds_wall'])}."
        )
        console.print(f"Report: {page}", soft_wrap=True)

    def _computed(
        self,
        paper: Experiment[Any] | None,
        config: Any,
        command: str,
        out: Path,
        device: str,
        console: Console,
    ) -> dict[str, Any]:
        """Runs the experiment in its folder; its results."""
        store, display = Store(self.store or out / "store"), StageDisplay(console)
        data_dir = None if self.data_dir is None else str(self.data_dir)
        workers = default_workers(device) if self.workers is None else self.workers
        common: Any = {"where": Where(data_dir, device), "workers": workers, "out": out}
        common |= {"threads": self.threads, "observer": display}
        with display.shown():
            if paper is not None:
                machine = Machine(device, data_dir, workers, self.threads)
                more: Any = {"out": out, "observer": display, "command": command}
                return run_paper(paper, config, store, machine=machine, **more)
            if self.experiment == "ilyas2019":
                return ilyas2019.run(config, store, **common)
            settings = replace(engstrom_config(self.data, self.preset), models=config)
            return engstrom2019.run(settings, store, **common)

    def _paper_config(self, paper: Experiment[Any]) -> tuple[Any, str]:
        """The settings of a paper that is one value, and the command that repeats them."""
        for flag in ("eps", "eps_eval", "architecture", "model", "embedding"):
            value = getattr(self, flag)
            if value is not None:
                name = f"--{flag.replace('_', '-')}"
                raise bad_value(name, "be left out with this experiment", value, "Use --set.")
        named = {
            "seeds": self.seeds,
            "train_size": self.train_size,
            "test_size": self.test_size,
            "recipe.epochs": self.epochs,
        }
        changes = [f"{n}={v}" for n, v in named.items() if v is not None] + list(self.set)
        words = ["notbugs", "reproduce", paper.name, "--data", self.data, "--preset", self.preset]
        words += [word for change in changes for word in ("--set", change)]
        config = overridden(paper.config_for(self.data, self.preset), changes)
        return config, shlex.join(words)

    def _reported(self, out: Path, result: Any, console: Console) -> Path:
        """Writes the report and prints the tables; the report's path."""
        from notbugs.report import (
            print_engstrom_result,
            print_paper,
            print_result,
            write_engstrom_report,
            write_paper,
            write_report,
        )

        if self.experiment in PAPERS:
            page = write_paper(out)
            print_paper(result, console)
        elif self.experiment == "ilyas2019":
            page = write_report(out)
            print_result(result, console)
        else:
            page = write_engstrom_report(out)
            print_engstrom_result(result, console)
        return page

    def _config(self) -> Config:
        if self.set:
            raise bad_value("--set", "be left out with this experiment", list(self.set))
        if self.experiment != "ilyas2019":
            for flag, value in (("--eps", self.eps), ("--eps-eval", self.eps_eval)):
                if value is not None:
                    raise bad_value(flag, "be left out with this experiment", value)
        config = config_for(self.data, self.preset)
        named = {
            "seeds": self.seeds,
            "eps_sets": self.eps,
            "eps_eval": self.eps_eval,
            "train_size": self.train_size,
            "test_size": self.test_size,
        }
        config = replace(config, **{k: v for k, v in named.items() if v is not None})
        if self.epochs is not None:
            config = config.with_epochs(self.epochs)
        if self.model is not None:
            if self.embedding is None:
                raise bad_value("--embedding", "be given with --model", None)
            return config.with_user_model(self.model, self.embedding)
        return config if self.architecture is None else config.with_architecture(self.architecture)


def _names() -> str:
    return ", ".join((*EXPERIMENTS, *PAPERS))


def _list(console: Console) -> None:
    """Prints the papers and what each asks."""
    questions = EXPERIMENTS | {name: paper.question for name, paper in PAPERS.items()}
    for name, question in questions.items():
        console.print(f"{name:<14} {question}", markup=False, highlight=False, soft_wrap=True)
    console.print("Run one: notbugs reproduce NAME --data digits --preset smoke", highlight=False)

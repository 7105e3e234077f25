"""`notbugs train`: trains one model by one recipe and saves it with its settings."""

import os
import shlex
import signal
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar

from rich.console import Console

from notbugs.attacks.losses import cross_entropy, margin
from notbugs.cli.common import device_of, loaded, open_model
from notbugs.cli.kinds import CHECKPOINT as CHECKPOINT_KIND
from notbugs.cli.kinds import METRICS, PICTURE, WEIGHTS
from notbugs.cli.logs import CURVES, METRICS_FILE
from notbugs.cli.outputs import Output, check_outputs, inputs_of
from notbugs.cli.progress import duration
from notbugs.cli.training_run import DISTILLATION, TEACHER, ModelChoice, TrainingRun
from notbugs.core.errors import bad_value
from notbugs.core.interrupts import Stopped
from notbugs.data import ImageData, Splits, import_npz, load, split
from notbugs.engine import Threat
from notbugs.experiments.config import Config
from notbugs.experiments.defaults import training_config, training_recipe
from notbugs.judge import check_fits, evaluate, evaluation_pgd
from notbugs.models import Classifier, prepare, read_metadata
from notbugs.models.origin import origin_of
from notbugs.models.weights import CHECKPOINT, MODEL
from notbugs.training import SHARE, AtTemperature, Plain, Recipe, Trained, soft_labels
from notbugs.training import estimate as cost_of
from notbugs.training.extra import check_extra
from notbugs.training.loop import check_compiles
from notbugs.zoo.addresses import weights_at

DEFAULT_EVALUATIONS = 10
"""How often a training measures held-out accuracy where its recipe does not say."""
UNRECORDED = ("out", "data_dir", "device", "overwrite", "tensorboard")
"""Options that say where a model is trained and written, not which one."""


@dataclass(frozen=True)
class Train:
    """Train a model and save it with its recipe.

    The folder gets model.safetensors, metrics.jsonl (a line an epoch; robust accuracy there by
    PGD-10 on at most 500 held-out images) and training.png. After an interruption the same command
    resumes, also within an epoch, from a checkpoint that is written every ten seconds.

    Try:
      notbugs train --out models/plain
      notbugs train --recipe pgd --threat l2:1.0 --out models/robust
      notbugs train --recipe airbench --data cifar10 --out models/quick
      notbugs train --model net.py:make --embedding avgpool --data cifar10 --out models/mine
      notbugs train --architecture timm:resnet18 --data cifar10 --out models/timm
      notbugs train --recipe distillation --temperature 50 --out models/distilled
      notbugs train --recipe trades --extra generated.safetensors --share 0.7 --out models/more
      notbugs train --start models/plain --recipe pgd --epochs 5 --out models/tuned
    """

    shares_work: ClassVar[bool] = True

    out: Path
    """Folder for model.safetensors, metrics.jsonl, training.png and, meanwhile, the checkpoint."""
    data: str = "digits"
    """digits, mnist, fashion-mnist, cifar10, planted, folder:PATH, or a saved set (.safetensors):
    two thirds of it are trained on, or --train-size."""
    recipe: str = "standard"
    """standard; airbench (Jordan 2024: CIFAR-10 in 10 epochs, with a net of its own; it
    mirrors images); l1, l2, lipschitz; with a threat: pgd (Madry et al.), fgsm (mixed with clean
    images), fast, n-fgsm, free, trades, mart, awp, scaled-gradient, rotation, hidden; the
    controls noise-signs, noise-uniform, noise-gaussian; and distillation (Papernot et al.): a
    teacher is trained on the labels, then the model, of the same architecture, on the teacher's
    probabilities, both with logits divided by --temperature. It hides gradients of the
    cross-entropy, which is no robustness."""
    threat: str | None = None
    """norm:eps, e.g. l2:1.0 or linf:8/255. For MNIST in linf the net is `strided`, all images are
    used, and the radius trained at is 1.1 times the one named. Without it l2:1.0 (digits),
    l2:2.0 (mnist), l2:1.0 (fashion-mnist), l2:1.5 (planted) or l2:0.5 (cifar10, cifar100,
    folder)."""
    architecture: str | None = None
    """A built-in architecture (cnn, resnet18, vgg16, vit, ...), or timm:NAME or torchvision:NAME
    where those packages are installed; the dataset's default without it. Theirs start untrained,
    take the dataset's channels and classes, and see the images as they are: 28x28 grey images
    leave a net made for 224x224 as 1x1, which costs accuracy, or are refused by it."""
    model: str | None = None
    """Your own model: path/to/file.py:factory."""
    embedding: str | None = None
    """With --model: the layer whose output is the embedding; without it the input of the last
    linear layer."""
    epochs: int | None = None
    """Epochs; the recipe's or the dataset's default without it."""
    batch_size: int | None = None
    """Images a step; the recipe's or the dataset's default without it."""
    lr: float | None = None
    """Highest learning rate; the recipe's or the dataset's default without it."""
    precision: str | None = None
    """float32 or bf16 (forward and backward passes; weights stay float32). Without it float32, but
    bf16 for airbench and for MNIST in linf where the processor or GPU computes with it."""
    select: str | None = None
    """last or best: the weights of which epoch are saved. Best is by accuracy on held-out images,
    robust accuracy where the recipe has a threat. Last without it; best with --patience."""
    patience: int | None = None
    """Stop after so many epochs without better accuracy on held-out images (robust accuracy
    where the recipe has a threat), which is then measured in every epoch."""
    average: float | None = None
    """Save the exponential moving average of the weights with this decay a step, e.g. 0.999."""
    start: Path | None = None
    """Start from these weights (.safetensors, also of `convert`, the folder that train wrote,
    zoo:NAME or hub:OWNER/REPO), with their architecture and normalisation. For another number of
    classes the last layer is drawn anew."""
    extra: Path | None = None
    """Further training images, such as generated ones: a set (.safetensors), or an archive (.npz)
    as `notbugs data import` reads it. An epoch still sees as many images as the dataset's."""
    share: float | None = None
    """With --extra: its share of every batch; 0.7 without it."""
    distil: Path | None = None
    """Learn from this teacher's probabilities (.safetensors) at --temperature, not from labels."""
    temperature: float | None = None
    """With distillation: what logits are divided by in training, and never afterwards; 100
    without it. The last layer's initial weights are multiplied by it."""
    train_size: int | None = None
    """Images to train on (10 % of them held out)."""
    seed: int = 0
    """Varies split, weights, order and adversary."""
    overwrite: bool = False
    """Replace a finished model in the folder once this one is finished, and at once its metrics and
    the checkpoint of another training, also where notbugs did not write those files. A checkpoint
    of this training is resumed from."""
    tensorboard: bool = False
    """Also write TensorBoard's event files to the folder (needs the package tensorboard)."""
    data_dir: Path | None = None
    """Where the dataset's files lie."""
    device: str = "auto"
    """auto, cpu or cuda."""
    compile: str | None = None
    """Compile forward and backward passes, by that mode of torch.compile: default,
    reduce-overhead (CUDA graphs), max-autotune or max-autotune-no-cudagraphs. Meant for GPUs: on
    two cores it cost up to half a minute, and steps took between 25 % longer and 7 % shorter; there
    it needs a C++ compiler. Not for scaled-gradient, rotation and hidden."""

    def run(self, console: Console) -> None:
        """Trains, saves, and prints held-out accuracy."""
        if self._is_finished():
            console.print(f"Finished before it was started again. Model: {self.out / MODEL}")
            return
        self._check_outputs()
        device = device_of(self.device)
        config = training_config(self.data, self.threat, device, self.recipe)
        recipe = self._recipe(config)
        check_compiles(recipe, self.compile)
        size = config.train_size if self.train_size is None else self.train_size
        source = loaded(self.data, self.data_dir)
        parts = split(source, seed=self.seed, train_size=size)
        share = SHARE if self.share is None else self.share
        training_run = TrainingRun(
            self._choice(size),
            config,
            recipe,
            parts,
            device,
            self.tensorboard,
            self.compile,
            self.command,
            self._extra(parts, share, recipe.batch_size),
            share,
        )
        model = training_run.model(self.recipe)
        if self.start is not None:
            facts = read_metadata(weights_at(self.start))
            self._say_if_others(console, "The weights of --start were", facts, size)
        teacher = None if self.distil is None else self._teacher(console, parts, size)
        cost = duration(cost_of(model, parts.train, recipe) * (1 + training_run.teaches))
        plain = " where nothing is compiled" if self.compile else ""
        console.print(
            f"{training_run.described()}: about {cost} of training{plain}.", soft_wrap=True
        )
        if training_run.teaches:
            teacher = training_run.teacher(console, self.out, overwrite=self.overwrite)
        soft = None
        if teacher is not None and isinstance(recipe.objective, AtTemperature):
            soft = soft_labels(teacher, parts.train, recipe.objective.temperature)
        trained = training_run.train(console, model, self.out, soft, overwrite=self.overwrite)
        try:
            self._print(console, training_run, trained)
        except KeyboardInterrupt as stop:
            message = f"Stopped; the model is finished and saved: '{self.out / MODEL}'."
            raise Stopped(message, getattr(stop, "number", signal.SIGINT)) from None

    @property
    def command(self) -> str:
        """The command that trains such a model, in the folder `model`."""
        words = ["notbugs", "train"]
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name not in UNRECORDED and value != field.default:
                words += [f"--{field.name.replace('_', '-')}", str(value)]
        return shlex.join([*words, "--out", "model"])

    def _choice(self, size: int | None) -> ModelChoice:
        return ModelChoice(
            self.data,
            self.recipe,
            self.seed,
            size,
            self.architecture,
            self.model,
            self.embedding,
            None if self.distil is None else str(self.distil),
            None if self.start is None else str(self.start),
        )

    def _extra(self, parts: Splits, share: float, batch_size: int) -> ImageData | None:
        """The extra set, which must fit the training images."""
        if self.extra is None:
            if self.share is not None:
                raise bad_value("--share", "come with --extra", self.share)
            return None
        if self.recipe == DISTILLATION or self.distil is not None:
            raise bad_value("--extra", "be left out with distillation", f"'{self.extra}'")
        extra = (import_npz if self.extra.suffix == ".npz" else load)(self.extra)
        check_extra(parts.train, extra, share, batch_size)
        return extra

    @property
    def if_stopped(self) -> str:
        """The message after an interruption; `Stopped` errors bring their own."""
        checkpoints = (self.out / CHECKPOINT, self.out / TEACHER / CHECKPOINT)
        if any(path.exists() for path in checkpoints):
            return "Stopped at once. The same command resumes from the last checkpoint."
        return "Stopped before the first checkpoint. The same command starts from the beginning."

    def _is_finished(self) -> bool:
        """Whether torchrun restarted a finished training; refuses a folder with another model."""
        if self.out.exists() and not self.out.is_dir():
            raise bad_value("--out", "be a folder, or not there yet", f"'{self.out}', a file")
        path = self.out / MODEL
        if not path.exists() or self.overwrite:
            return False
        if os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") == "0":
            raise bad_value(
                "--out",
                "hold no finished model",
                f"'{path}'",
                "Choose another folder, or pass --overwrite to replace it.",
            )
        return True

    def _check_outputs(self) -> None:
        """Refuses to replace files in the folder that notbugs did not write."""
        teaches = self.recipe == DISTILLATION and self.distil is None
        kinds = {
            MODEL: WEIGHTS,
            CHECKPOINT: CHECKPOINT_KIND,
            METRICS_FILE: METRICS,
            CURVES: PICTURE,
        }
        folders = [self.out, self.out / TEACHER] if teaches else [self.out]
        outputs = {
            f"--out ({folder / name})": Output(folder / name, kind)
            for folder in folders
            for name, kind in kinds.items()
        }
        teacher = None if self.distil is None else weights_at(self.distil)
        start = None if self.start is None else weights_at(self.start)
        inputs = inputs_of(
            model=self.model,
            data=self.data,
            data_dir=self.data_dir,
            others=[teacher, start, self.extra],
        )
        check_outputs(outputs, inputs, overwrite=self.overwrite)

    def _recipe(self, config: Config) -> Recipe:
        """The named recipe with the user's own settings."""
        recipe = training_recipe(config, self.recipe, self.threat)
        distils = self.recipe == DISTILLATION or self.distil is not None
        if not distils and self.temperature is not None:
            raise bad_value(
                "--temperature",
                "come with --recipe distillation or --distil",
                self.temperature,
            )
        if distils:
            if not isinstance(recipe.objective, Plain | AtTemperature):
                raise bad_value(
                    "--distil",
                    "come with a recipe that learns by cross-entropy alone",
                    f"'{self.recipe}'",
                    "Try --recipe standard or pgd.",
                )
            objective = AtTemperature(100.0 if self.temperature is None else self.temperature)
            recipe = replace(recipe, objective=objective)
        options = {
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "lr": self.lr,
            "precision": self.precision,
            "patience": self.patience,
            "average": self.average,
            "select": "best" if self.select is None and self.patience else self.select,
        }
        changes = {name: value for name, value in options.items() if value is not None}
        epochs = recipe.epochs if self.epochs is None else self.epochs
        every = 1 if self.patience else recipe.watch_every or max(1, epochs // DEFAULT_EVALUATIONS)
        return replace(recipe, **changes, watch_every=every)

    def _teacher(self, console: Console, parts: Splits, size: int | None) -> Classifier:
        assert self.distil is not None
        path = weights_at(self.distil)
        foreign = path.is_file() and read_metadata(path)["architecture"] is None
        model, facts = open_model(
            path, self.model if foreign else None, None, self.data, self.data_dir
        )
        check_fits(model, parts.train, "--distil")
        self._say_if_others(console, "The teacher was", facts, size)
        return prepare(model, device_of(self.device))

    def _say_if_others(
        self, console: Console, which: str, facts: Mapping[str, Any], size: int | None
    ) -> None:
        """Says that weights were trained on other images of this dataset, or on unknown ones."""
        origin = origin_of(facts)
        expected = {"seed": self.seed, "train_size": size}
        recorded: Mapping[str, Any] = origin.get("split") or {}
        others = any(recorded.get(name) != value for name, value in expected.items())
        same = origin.get("dataset") in (None, self.data)
        if same and (others or "converted_from" in facts):
            console.print(
                f"{which} trained on other images: some of them may be held-out or test images "
                "here.",
                soft_wrap=True,
            )

    def _print(self, console: Console, training_run: TrainingRun, trained: Trained) -> None:
        recipe, config = training_run.recipe, training_run.config
        trained_at = None if recipe.adversary is None else recipe.adversary.threat
        default = f"{config.norm}:{config.eps_eval}"
        threat = Threat.parse(recipe.watch_threat or trained_at or default)
        # Trained at a temperature, logits are so large that cross-entropy has no gradient.
        at_temperature = isinstance(recipe.objective, AtTemperature)
        attack = evaluation_pgd(threat, loss=margin if at_temperature else cross_entropy)
        verdict = evaluate(
            trained.model, training_run.parts.val, threat, attacks=[attack], seed=self.seed
        )
        console.print(
            f"Held-out validation ({verdict.n} images): clean {verdict.clean_accuracy:.1f} %, "
            f"robust at {threat} {verdict.robust_accuracy:.1f} % "
            f"(PGD-20{' on the margin' * at_temperature}). {duration(trained.seconds)}.",
            soft_wrap=True,
            highlight=False,
        )
        if trained.stopped:
            console.print(trained.stopped)
        origin = training_run.parts.val.provenance.get("source")
        if isinstance(origin, Mapping):
            console.print(
                f"The images and labels of {self.data} were made from {origin.get('data')}. On its "
                f"test images: notbugs evaluate {self.out} --data {origin.get('data')}",
                soft_wrap=True,
            )
        console.print(f"Model: {self.out / MODEL}", soft_wrap=True)

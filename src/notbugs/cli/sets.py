"""`notbugs build` and `notbugs data`: constructed sets and datasets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, ClassVar

import tyro
from rich.console import Console
from rich.table import Table

from notbugs.cli.kinds import ARCHIVE, FOLDER
from notbugs.cli.outputs import Inputs, Output, check_outputs, inputs_of, set_at
from notbugs.cli.progress import bar
from notbugs.cli.subject import OfImages, SomeImages
from notbugs.core import processes
from notbugs.core.errors import bad_value, unknown_name
from notbugs.data import (
    SOURCES,
    ImageData,
    Source,
    export_folder,
    export_npz,
    import_npz,
    load_source,
    save,
    summary,
)
from notbugs.data.files import SUFFIX
from notbugs.data.sources.folder import load_folder
from notbugs.data.sources.shards import load_shards
from notbugs.engine import Threat
from notbugs.features import InversionSettings, inverted_set, targeted_set
from notbugs.models import Classifier

FIRST = 100
"""The number of classes that are listed."""
KINDS = ("rand", "det", "other", "robust", "nonrobust")
WHAT = {
    "digits": "1,797 grey digits of 8x8 pixels, embedded (the default)",
    "photographs": "views of a few photographs in ImageNet's classes (with scikit-image)",
    "planted": "synthetic images whose robust and non-robust features are known",
    "mnist": "70,000 grey digits, 28x28",
    "fashion-mnist": "70,000 grey pieces of clothing, 28x28",
    "cifar10": "60,000 colour photographs of 10 classes, 32x32",
    "cifar100": "60,000 colour photographs of 100 classes, 32x32",
    "folder:PATH": "your own images, one subfolder for each class",
}


@dataclass(frozen=True)
class Build:
    """Build a training set from a model's features.

    rand, det, other: the training images pushed towards a wrong class and labelled so
    (D_rand, D_det, D_other). robust, nonrobust: images whose embedding matches (D_R with
    a robust model, D_NR with a standard one).

    Try:
      notbugs build det model.safetensors --threat l2:1 --out d_det.safetensors
      notbugs build robust robust.safetensors --out d_r.safetensors
    """

    shares_work: ClassVar[bool] = True

    kind: Annotated[str, tyro.conf.Positional]
    """rand, det, other, robust or nonrobust."""
    weights: Annotated[Path, tyro.conf.Positional]
    """The source model: a .safetensors file, the folder that train wrote, zoo:NAME or
    hub:OWNER/REPO."""
    out: Path
    """The .safetensors file to write."""
    overwrite: bool = False
    """Replace files of that name (and the .json beside it) that notbugs did not write."""
    threat: str | None = None
    """For rand, det and other: norm:eps, e.g. l2:0.5 (pixel units of [0, 1])."""
    steps: int | None = None
    """PGD or inversion steps."""
    step_size: float | None = None
    """Length of a step."""
    start: str = "images"
    """For robust and nonrobust: what the search begins from, images or noise."""
    seed: int = 0
    """Seed of targets and starts."""
    given: OfImages = SomeImages()

    def run(self, console: Console) -> None:
        """Builds the set, saves it, and prints its quality."""
        if self.kind not in KINDS:
            raise unknown_name("kind", self.kind, KINDS)
        if self.kind in KINDS[:3] and self.threat is None:
            raise bad_value("--threat", f"be given for '{self.kind}'", None, "Example: l2:0.5.")
        if self.start != "images" and self.kind in KINDS[:3]:
            raise bad_value("--start", f"be left out for '{self.kind}'", self.start)
        if self.out.suffix != SUFFIX:
            raise bad_value("--out", f"end in {SUFFIX}", f"'{self.out}'", f"Add {SUFFIX}.")
        check_outputs(
            set_at(self.out, "--out"), self.given.inputs(self.weights), overwrite=self.overwrite
        )
        model, facts = self.given.opened(self.weights)
        data = self.given.chosen("train", facts)
        with bar(console, f"build {self.kind} from {len(data)} images") as progress:
            dataset = self._built(model, data, progress)
        if processes.is_first():
            save(dataset, self.out)
        console.print(f"{dataset.name}: {len(dataset)} images. {_quality(dataset)}")
        trained = (facts.get("recipe") or {}).get("adversary")
        if self.kind == "robust" and trained is None:
            console.print(
                "D_R is of a robust model; nothing says that this one was trained to be. Of a "
                "model that was not, the set is D_NR (`build nonrobust`)."
            )
        console.print(f"Set: {self.out}", soft_wrap=True)

    def _built(
        self, model: Classifier, data: ImageData, progress: Callable[[float], None]
    ) -> ImageData:
        if self.threat is not None and self.kind in KINDS[:3]:
            return targeted_set(
                model,
                data,
                self.kind,
                Threat.parse(self.threat),
                seed=self.seed,
                steps=100 if self.steps is None else self.steps,
                step_size=self.step_size,
                progress=progress,
            )
        defaults = InversionSettings()
        settings = InversionSettings(
            defaults.steps if self.steps is None else self.steps,
            defaults.step_size if self.step_size is None else self.step_size,
            start=self.start,
        )
        name = "D_R" if self.kind == "robust" else "D_NR"
        return inverted_set(
            model, data, name=name, seed=self.seed, settings=settings, progress=progress
        )


def _quality(dataset: ImageData) -> str:
    columns = dataset.columns
    if "success" in columns:
        rate = 100 * float(columns["success"].float().mean())
        return (
            f"The source model sees the target class in {rate:.1f} %; mean distance "
            f"{float(columns['distance'].mean()):.3f}; "
            f"dropped: {dataset.provenance.get('dropped', 0)}."
        )
    return f"Mean relative representation error {float(columns['relative_error'].mean()):.4f}."


@dataclass(frozen=True)
class ListData:
    """List the datasets that can be named."""

    def run(self, console: Console) -> None:
        """Prints a table."""
        table = Table("name", "what it is", title="Datasets")
        for name in SOURCES:
            table.add_row(name, WHAT.get(name, ""))
        console.print(table)


@dataclass(frozen=True)
class ShowData:
    """Show what a dataset, or a saved set, holds.

    Try:
      notbugs data show digits
      notbugs data show runs/demo/datasets/D_other-seed0.safetensors
    """

    name: Annotated[str, tyro.conf.Positional]
    """A dataset's name or a .safetensors file."""
    data_dir: Path | None = None
    """Where the dataset's files lie."""

    def run(self, console: Console) -> None:
        """Prints the facts and the provenance."""
        for data in _parts(self.name, self.data_dir):
            table = Table("fact", "value", title=data.name, show_header=False)
            for fact, value in summary(data).items():
                shown = value
                if isinstance(value, Mapping) and len(value) > FIRST:
                    shown = f"{dict(islice(value.items(), FIRST))} and {len(value) - FIRST:,} more"
                table.add_row(str(fact), str(shown))
            for fact, value in data.provenance.items():
                table.add_row(f"provenance: {fact}", str(value))
            console.print(table)


@dataclass(frozen=True)
class ExportData:
    """Write a dataset, or a saved set, in another format.

    Try:
      notbugs data export runs/demo/datasets/D_other-seed0.safetensors --to d_other.npz
      notbugs data export digits --to digits_png
    """

    name: Annotated[str, tyro.conf.Positional]
    """A dataset's name or a .safetensors file."""
    to: Path
    """A file ending in .npz or .safetensors, or a folder for PNG images in class folders."""
    overwrite: bool = False
    """Replace a file of that name (and the .json beside a set) that notbugs did not write."""
    data_dir: Path | None = None
    """Where the dataset's files lie."""

    def run(self, console: Console) -> None:
        """Writes it."""
        formats = {".npz": export_npz, SUFFIX: save, "": export_folder}
        if self.to.suffix not in formats:
            raise unknown_name("format", self.to.suffix, (".npz", SUFFIX))
        outputs = {"--to": Output(self.to, FOLDER if not self.to.suffix else ARCHIVE)}
        if self.to.suffix == SUFFIX:
            outputs = set_at(self.to, "--to")
        check_outputs(
            outputs, inputs_of(data=self.name, data_dir=self.data_dir), overwrite=self.overwrite
        )
        data = _parts(self.name, self.data_dir)[0]
        formats[self.to.suffix](data, self.to)
        console.print(f"{len(data)} images of {data.name}: {self.to}", soft_wrap=True)


@dataclass(frozen=True)
class ImportData:
    """Make a set of pictures in folders or tar archives, or of a NumPy archive, for --data.

    A folder holds one subfolder for each class. Tar archives are those of WebDataset: pictures,
    each with its class in a .cls file. A NumPy archive (.npz) holds `images` [n, channels, height,
    width] and `labels`; or `image` [n, height, width, channels] and `label`, as those of generated
    images do. Nothing is unpickled. The set lies on disk when it is used: it may be larger than
    the memory.

    Try:
      notbugs data import imagenet/val --side 224 --to val.safetensors
      notbugs data import shard-00.tar shard-01.tar --side 64 --to shards.safetensors
      notbugs data import 1m.npz --to generated.safetensors
    """

    sources: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """A folder, .tar files, or an .npz file."""
    to: Path
    """The .safetensors file to write."""
    side: int | None = None
    """Bring pictures to so many pixels a side: the middle square of 7/8 of the shorter side is
    resampled. Without it all must have one size."""
    names: tuple[str, ...] = ()
    """Names of the classes in the order of their labels; without it the archive's, or numbers. Of
    a folder they are its subfolders'."""
    overwrite: bool = False
    """Replace files of that name (and the .json beside it) that notbugs did not write."""

    def run(self, console: Console) -> None:
        """Reads, checks and writes."""
        if self.to.suffix != SUFFIX:
            raise bad_value("--to", f"end in {SUFFIX}", f"'{self.to}'", f"Add {SUFFIX}.")
        folders = [path for path in self.sources if path.is_dir()]
        inputs = Inputs([path for path in self.sources if path not in folders], folders)
        check_outputs(set_at(self.to, "--to"), inputs, overwrite=self.overwrite)
        data = self._read()
        save(data, self.to)
        console.print(f"{len(data)} images of {data.classes} classes: {self.to}", soft_wrap=True)

    def _read(self) -> ImageData:
        names = self.names or None
        if self.sources and all(path.suffix == ".tar" for path in self.sources):
            return load_shards(self.sources, side=self.side, class_names=names)
        if len(self.sources) != 1:
            given = ", ".join(map(str, self.sources)) or "nothing"
            raise bad_value("sources", "be .tar files, one .npz file or one folder", given)
        if self.sources[0].is_dir():
            if names is not None:
                raise bad_value("--names", "be left out for a folder", ", ".join(names))
            return _whole(load_folder(self.sources[0], side=self.side), self.sources[0])
        if self.side is not None:
            raise bad_value("--side", "be left out for an .npz file", self.side)
        return import_npz(self.sources[0], class_names=names)


def _whole(source: Source, folder: Path) -> ImageData:
    """The images of a folder without parts."""
    if source.test is not None:
        raise bad_value(
            "sources",
            "be a part of the set, since a file holds one",
            f"'{folder}', with its parts",
            f"Import them one by one, such as '{folder / 'train'}'.",
        )
    return source.train


@dataclass(frozen=True)
class Data:
    """List, show, export and import datasets."""

    action: (
        Annotated[ListData, tyro.conf.subcommand("list")]
        | Annotated[ShowData, tyro.conf.subcommand("show")]
        | Annotated[ExportData, tyro.conf.subcommand("export")]
        | Annotated[ImportData, tyro.conf.subcommand("import")]
    )

    def run(self, console: Console) -> None:
        """Runs the action."""
        self.action.run(console)


def _parts(name: str, data_dir: Path | None) -> list[ImageData]:
    source = load_source(name, data_dir)
    return [data for data in (source.train, source.val, source.test) if data is not None]

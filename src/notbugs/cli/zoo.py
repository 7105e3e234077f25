"""`notbugs zoo`: models with cards."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, ClassVar

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from notbugs.cli.common import device_of
from notbugs.cli.progress import bar
from notbugs.core.errors import DataError, bad_value
from notbugs.engine import Threat
from notbugs.engine.threat import SIZES
from notbugs.zoo import About, Card, add, entries, find, page_of, push, verify
from notbugs.zoo.index import COLUMNS

LONGEST = 60
"""Characters of a statement that are shown."""


@dataclass(frozen=True)
class ListModels:
    """List the models that ship with notbugs, and those that were added.

    Try:
      notbugs zoo list --dataset digits --threat l2
    """

    dataset: str | None = None
    """Those of this dataset alone."""
    threat: str | None = None
    """Those evaluated at this norm:eps, or in this norm, alone."""

    def run(self, console: Console) -> None:
        """Prints a table."""
        wanted = self.threat if self.threat in (None, *SIZES) else str(Threat.parse(self.threat))
        table = Table(box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
        for i, head in enumerate(COLUMNS):
            table.add_column(head, justify="left" if i < 3 else "right")
        damaged = list[str]()
        for entry in entries().values():
            try:
                if self._wants(entry.card, wanted):
                    table.add_row(*entry.row)
            except DataError as error:
                damaged.append(str(error))
        console.print(table)
        for text in damaged:
            console.print(text, soft_wrap=True)

    def _wants(self, card: Card, threat: str | None) -> bool:
        threats = (None, card.threat, card.threat.partition(":")[0])
        return self.dataset in (None, card.trained_on.dataset) and threat in threats


@dataclass(frozen=True)
class ShowModel:
    """Show a model's card.

    Try:
      notbugs zoo show digits-cnn-l2
    """

    name: Annotated[str, tyro.conf.Positional]
    """A model's name."""

    def run(self, console: Console) -> None:
        """Prints the card."""
        entry = find(self.name)
        for line in page_of(entry.card).splitlines():
            console.print(line, soft_wrap=True, highlight=False)
        console.print(f"Weights: {entry.weights}", soft_wrap=True)


@dataclass(frozen=True)
class AddModel:
    """Copy weights into the zoo, and make their card.

    The card says how the model was trained and how robust it is. An evaluation that was interrupted
    resumes, also one of notbugs evaluate. The zoo lies in the folder NOTBUGS_ZOO, or in the cache.

    Try:
      notbugs zoo add robust --name digits-mine --threat l2:0.5 --evaluate
      notbugs zoo add robust --name digits-mine --threat l2:0.5 --verdict verdict.json
    """

    weights: Annotated[Path, tyro.conf.Positional]
    """A .safetensors file, the folder that train wrote, or hub:OWNER/REPO."""
    name: str
    """Of the model in the zoo."""
    threat: str
    """norm:eps of its robust accuracy, e.g. linf:8/255 or l2:0.5."""
    evaluate: bool = False
    """Run the standard evaluation."""
    count: int | None = None
    """Test images to evaluate, the first; all without it."""
    verdict: Path | None = None
    """Or take that of this file, which evaluate --json wrote for these weights and images."""
    command: str = ""
    """The command that trained it, where the weights record none."""
    title: str = ""
    """Of the paper; the name without it."""
    authors: str = ""
    """Who made it."""
    link: str = ""
    """Where it is described."""
    venue: str = ""
    """Where that was published."""
    reported: float | None = None
    """The robust accuracy that the paper states, in percent."""
    note: str = ""
    """A footnote."""
    additional_data: bool = False
    """It was trained on other images than the dataset's."""
    data_dir: Path | None = None
    """Where the dataset's files lie."""
    overwrite: bool = False
    """Replace a model of that name; a folder with other files in it never is."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def run(self, console: Console) -> None:
        """Adds it and says where it is."""
        if self.evaluate and self.verdict is not None:
            raise bad_value("--verdict", "be left out with --evaluate", f"'{self.verdict}'")
        if self.count is not None and not self.evaluate:
            raise bad_value("--count", "come with --evaluate", self.count)
        about = About(
            title=self.title,
            authors=self.authors,
            link=self.link,
            venue=self.venue,
            footnote=self.note,
            additional_data=self.additional_data,
            command=self.command,
            reported=self.reported,
        )
        with bar(console, f"add {self.name}") as progress:
            entry = add(
                self.weights,
                self.name,
                self.threat,
                evaluation=self.verdict or self.evaluate,
                count=self.count,
                about=about,
                data_dir=self.data_dir,
                overwrite=self.overwrite,
                device=device_of(self.device),
                progress=progress,
            )
        info = entry.card.model_info
        robust = f", robust {entry.card.robust} % at {entry.card.threat}" * self._is_evaluated
        console.print(f"{self.name}: clean {info.clean_acc} %{robust}.")
        console.print(f"Model: {entry.folder}", soft_wrap=True)

    @property
    def _is_evaluated(self) -> bool:
        return self.evaluate or self.verdict is not None


@dataclass(frozen=True)
class VerifyModel:
    """Measure part of a model's card again; exits with 1 where they differ.

    What the weights record, digests, the clean accuracy on all test images, and the outcome of the
    standard evaluation for each of the first images. The checks for masked gradients, and whether
    the robust accuracy is an upper bound, need the whole evaluation: add it again under another
    name.

    Try:
      notbugs zoo verify digits-cnn-l2 --count 100
    """

    name: Annotated[str, tyro.conf.Positional]
    """A model's name."""
    count: int = 50
    """Test images that are attacked again."""
    attacks: int | None = None
    """The first so many attacks of the evaluation alone, which is quicker."""
    data_dir: Path | None = None
    """Where the dataset's files lie."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def run(self, console: Console) -> None:
        """Prints each statement with what was measured."""
        entry, device = find(self.name), device_of(self.device)
        with bar(console, f"verify {self.name}") as progress:
            checks = verify(
                entry,
                count=self.count,
                attacks=self.attacks,
                data_dir=self.data_dir,
                device=device,
                progress=progress,
            )
        for check in checks:
            same = "same" if check.same else "DIFFERS"
            console.print(f"{same:<8} {check.name}: {_short(check.card)}", soft_wrap=True)
            if not check.same:
                console.print(f"         measured: {_short(check.measured)}", soft_wrap=True)
        differ = sum(not check.same for check in checks)
        if differ:
            console.print(f"The card and what was measured differ in {differ} of {len(checks)}.")
            sys.exit(1)
        console.print(
            f"These {len(checks)} statements are as the card says. Not measured: the outcomes of "
            "other images, and the checks for masked gradients.",
            soft_wrap=True,
        )


@dataclass(frozen=True)
class PushModel:
    """Put a model and its card into a repository of a Hugging Face hub.

    Needs the package huggingface_hub, and that you are logged in (hf auth login). A new repository
    is private unless --public is given; those who may read it name the model hub:OWNER/REPO in
    every command.

    Try:
      notbugs zoo push digits-mine --to somebody/digits-mine
      notbugs zoo push digits-mine --to somebody/digits-mine --public
    """

    name: Annotated[str, tyro.conf.Positional]
    """A model's name."""
    to: str
    """OWNER/REPO, or a folder in place of a hub: file:FOLDER/OWNER/REPO."""
    public: bool = False
    """Make a new repository one that everybody can read; one that is there stays as it is."""
    anyway: bool = False
    """Also where the card or the weights' metadata name paths of this machine."""

    def run(self, console: Console) -> None:
        """Uploads it."""
        push(find(self.name), self.to, public=self.public, anyway=self.anyway)
        console.print(f"{self.name}: hub:{self.to}", soft_wrap=True)


@dataclass(frozen=True)
class Zoo:
    """Models with cards: what each is, how it was made, and how robust it was found to be.

    Every command that takes weights takes zoo:NAME as well, and hub:OWNER/REPO@REVISION.
    """

    if_stopped: ClassVar[str] = (
        "Stopped. An evaluation that was begun is kept: the same command resumes from there."
    )

    action: (
        Annotated[ListModels, tyro.conf.subcommand("list")]
        | Annotated[ShowModel, tyro.conf.subcommand("show")]
        | Annotated[AddModel, tyro.conf.subcommand("add")]
        | Annotated[VerifyModel, tyro.conf.subcommand("verify")]
        | Annotated[PushModel, tyro.conf.subcommand("push")]
    )

    def run(self, console: Console) -> None:
        """Runs the action."""
        self.action.run(console)


def _short(statement: object) -> str:
    line = " ".join(str(statement).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."

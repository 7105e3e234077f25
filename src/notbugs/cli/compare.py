"""`notbugs compare`: several models under several threats and methods, beside each other."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, ClassVar

import tyro
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from notbugs.cli.common import (
    claim_folder,
    facts_of,
    model_names,
)
from notbugs.cli.progress import bar, duration
from notbugs.cli.subject import OfImages, SomeImages
from notbugs.core.errors import bad_value, unknown_name
from notbugs.data.writing import write_file, write_json
from notbugs.engine import Threat
from notbugs.judge import Comparison, compare, evaluation_attacks
from notbugs.models.folded_copy import CHOICES
from notbugs.models.origin import origin_of
from notbugs.zoo.addresses import weights_at

TEXTS = 3
"""Columns of the tables that are no numbers."""
PICTURE = "comparison.png"
STATES = "states"
"""The folder, inside that of the run, of what was computed."""


@dataclass(frozen=True)
class Compare:
    """Judge several models beside each other, on the same images: tables, tests and a picture.

    Finished parts are kept in the folder: the same command resumes, and one with a model or a
    threat more computes what is new.

    Try:
      notbugs compare standard robust --threat l2:0.5 linf:8/255
      notbugs compare a.safetensors b.safetensors --threat l2:0.5 --method standard pgd --count 200
    """

    if_stopped: ClassVar[str] = (
        "Stopped. What was computed is kept: the same command resumes from there."
    )

    weights: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """.safetensors files, folders that train wrote, zoo:NAME or hub:OWNER/REPO; with --model also
    files of torch.save (.pt)."""
    threat: tuple[str, ...]
    """One or several norm:eps, e.g. linf:8/255 l2:0.5 (pixel units of [0, 1])."""
    method: tuple[str, ...] = ("standard",)
    """Each an evaluation of its own: standard (or autoattack), pgd, pgd-50, square, ..."""
    out: Path = Path("comparison")
    """The folder for the tables (.md, .csv, .tex), the numbers (.json), the picture and the states
    from which the command resumes."""
    curves: bool = True
    """Draw robust accuracy at every radius, by a minimum-norm attack of each norm."""
    batch_size: int | None = None
    """Images at once; 128 on a CPU and 1,024 on a GPU without it."""
    fast: str = "auto"
    """The copy of a model that attacks work on; see notbugs evaluate --help."""
    seed: int = 0
    """Seed of the attacks' randomness."""
    given: OfImages = SomeImages()

    @property
    def draws(self) -> bool:
        """Whether there will be a picture."""
        return self.curves

    def run(self, console: Console) -> None:
        """Judges, prints the tables, and writes the files."""
        threats = [Threat.parse(text) for text in self.threat]
        if self.fast not in (*CHOICES, "none"):
            raise unknown_name("--fast", self.fast, (*CHOICES, "none"))
        for threat in threats:
            evaluation_attacks(self.method, threat)  # refuses what no method is called
        if not self.weights:
            raise bad_value("weights", "name at least one model", "none")
        paths = [weights_at(path) for path in self.weights]
        own = self.given.model
        if own is not None and all(map(_is_built_in, paths)):
            raise bad_value("--model", "be left out: all are built-in models", f"'{own}'")
        named = dict(zip(model_names(paths), paths, strict=True))
        opened = {name: self._open(path) for name, path in named.items()}
        facts = {name: facts for name, (_, facts) in opened.items()}
        self._check_origins(console, facts)
        data = self.given.chosen("test", next(iter(facts.values())))
        models = {name: model for name, (model, _) in opened.items()}
        claim_folder(self.out, {"command": "compare"})
        fast: Any = None if self.fast == "none" else self.fast
        with bar(console, f"{len(models)} models on {len(data)} images") as progress:
            found = compare(
                models,
                data,
                threats,
                self.method,
                seed=self.seed,
                batch_size=self.batch_size,
                fast=fast,
                curves=self.curves,
                save_to=self.out / STATES,
                progress=progress,
            )
        self._print(console, found, f"{data.name}, {len(data)} images")
        self._write(console, found)

    def _open(self, path: Path) -> tuple[Any, dict[str, Any]]:
        given = replace(self.given, model=None) if _is_built_in(path) else self.given
        return given.opened(path)

    def _check_origins(self, console: Console, facts: dict[str, dict[str, Any]]) -> None:
        """The images must be the same, and test images of all: as far as weights say."""
        origins = {name: origin_of(each) for name, each in facts.items()}
        first, *others = origins.items()
        for name, origin in others:
            if origin.get("dataset") != first[1].get("dataset") and self.given.data is None:
                sets = f"'{first[0]}' of {first[1].get('dataset')}, '{name}' of "
                raise bad_value(
                    "--data",
                    "name the images where models are of several datasets",
                    f"{sets}{origin.get('dataset')}",
                )
            own = self.given.data in (None, first[1].get("dataset"))
            if origin.get("split") != first[1].get("split") and own:
                console.print(
                    f"'{name}' was split otherwise than '{first[0]}', whose test images these are: "
                    "some may be among those that it was trained on.",
                    soft_wrap=True,
                )

    def _print(self, console: Console, found: Comparison, images: str) -> None:
        for title, (head, rows) in zip(
            (f"Robust accuracy in percent, {images}", "Differences in points"),
            found.tables(),
            strict=False,
        ):
            table = Table(title=title, box=SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
            table.title_justify = "left"
            for i, name in enumerate(head):
                table.add_column(name, justify="left" if i < TEXTS else "right")
            for row in rows:
                table.add_row(*row)
            console.print(table)
        seconds = sum(cell.verdict.seconds for cell in found.cells)
        if found.differences:
            console.print(
                "alone: images robust in one of the two alone; p: McNemar's exact test, corrected."
            )
        console.print(f"Attacks: {duration(seconds)}.")
        if any(cell.verdict.is_upper_bound for cell in found.cells):
            console.print(
                "≤: an upper bound, for a masking check fires; `notbugs evaluate` names it."
            )

    def _write(self, console: Console, found: Comparison) -> None:
        texts = {"md": found.markdown(), "csv": found.csv(), "tex": found.latex()}
        for suffix, text in texts.items():
            content = f"{text.rstrip()}\n".encode()
            write_file(
                self.out / f"comparison.{suffix}",
                lambda file, content=content: file.write(content),
                size=len(content),
            )
        write_json(self.out / "comparison.json", found.as_json())
        (self.out / PICTURE).unlink(missing_ok=True)  # one of other models would mislead
        if found.curves:
            from notbugs.report.figures import comparison_sheet, png

            picture = png(comparison_sheet(found))
            size = len(picture)
            write_file(self.out / PICTURE, lambda file: file.write(picture), size=size)
        console.print(f"Tables and numbers: {self.out}", soft_wrap=True)


def _is_built_in(path: Path) -> bool:
    return facts_of(path).get("architecture") is not None

"""Pages that the build makes: results of papers and benchmarks, cards, notebooks, and the API."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import notebooks
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

from notbugs.experiments.page import Table as PageTable
from notbugs.experiments.papers import PAPERS
from notbugs.judge.tables import markdown
from notbugs.report.content import Content
from notbugs.zoo import Entry, page_of
from notbugs.zoo.index import COLUMNS, SHIPPED

ROOT = Path(__file__).parents[1]
PACKAGES = (
    "attacks", "judge", "models", "data", "training", "features", "representations", "analysis",
    "theory", "zoo", "engine",
)  # fmt: skip
OLD = ("engstrom2019-cifar10", "engstrom2019-mnist", "ilyas2019-cifar10", "ilyas2019-fashion-mnist",
       "ilyas2019-mnist")  # fmt: skip
"""Results of an older format."""


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the made pages."""
    pages = {f"results/{name}.md": _page(found) for name, found in _results().items()}
    pages["papers.md"] = _papers()
    pages |= _benchmarks()
    pages["cards.md"] = _cards()
    pages |= {f"cards/{name}.md": page_of(entry.card) for name, entry in _shipped().items()}
    pages |= {f"api/{name}.md": f"# notbugs.{name}\n\n{_api(name)}" for name in PACKAGES}
    pages["api/notbugs.md"] = "# notbugs\n\n" + _api("")
    for path, content in {**pages, **_notebooks()}.items():
        files.append(File.generated(config, path, content=content))
    return files


def _notebooks() -> dict[str, str | bytes]:
    """The pages of the notebooks, and their pictures."""
    made = dict[str, str | bytes]()
    for name in notebooks.NAMES:
        unrun = name == notebooks.LESSON
        found = notebooks.read(name) if unrun else notebooks.cached(name, notebooks.BUILT)
        text, pictures = notebooks.page(found, name)
        made |= {f"notebooks/{file}": content for file, content in pictures.items()}
        made[f"notebooks/{name}.md"] = text
    return made


def _results() -> dict[str, dict[str, Any]]:
    """The committed results of papers, by file."""
    found = dict[str, dict[str, Any]]()
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        content = json.loads(path.read_text())
        if "experiment" in content and path.stem not in OLD:
            found[path.stem] = content
    return found


def _page(results: dict[str, Any]) -> str:
    """Claims and tables of one run."""
    content = Content.of(results, {})
    counts = content.counts()
    lines = [
        f"# {results['experiment']} on {results['dataset']}",
        content.experiment.question,
        f"Of {sum(n for n in counts.values() if isinstance(n, int))} statements {counts['yes']} "
        f"hold, {counts['no']} do not; undecided: {counts['open']}.",
        "## Statements",
    ]
    rows = [
        [f"{c['verdict'].mark} {c['verdict'].words}", *(_plain(c[n]) for n in
         ("statement", "published", "ours", "control", "rule"))]
        for c in content.claims()
    ]  # fmt: skip
    lines.append(markdown(["", "statement", "published", "ours", "control", "rule"], rows))
    for section in content.experiment.sections:
        tables = [t for t in section.tables if isinstance(t, PageTable) and content.has(t)]
        lines += [f"## {section.title}"] if tables else []
        for table in map(content.table, tables):
            head = ["", *(f"{c.title} {c.unit}".rstrip() for c in table.columns)]
            cells = [[_plain(name), *map(_plain, row)] for name, row in table.rows]
            lines += [_plain(table.caption), markdown(head, cells)]
    lines.append("## Conditions")
    conditions = {**content.conditions(), "Command": f"`{results['command']}`"}
    lines.append(markdown(["", ""], [[k, _plain(v)] for k, v in conditions.items()]))
    return "\n\n".join(lines) + "\n"


def _benchmarks() -> dict[str, str]:
    """How speed and strength are measured, with every stored table."""
    folder = ROOT / "benchmarks"
    tables = {path.stem: path.read_text() for path in sorted(folder.glob("results/*.md"))}
    listed = [f"- [{text.splitlines()[0].removeprefix('# ')}](benchmarks/{name}.md)"
              for name, text in tables.items()]  # fmt: skip
    text = "\n\n".join([(folder / "README.md").read_text(), "## All tables", "\n".join(listed)])
    return {"benchmarks.md": text} | {f"benchmarks/{k}.md": v for k, v in tables.items()}


def _papers() -> str:
    """The list of papers, each with what was measured."""
    lines = ["# Papers", "Each is one command: `notbugs reproduce NAME --data digits`. The pages "
             "below are made from stored results."]  # fmt: skip
    rows = list[list[str]]()
    for name, paper in PAPERS.items():
        runs = [
            f"[{file.removeprefix(f'{name}-')}](results/{file}.md): {_count(r)}"
            for file, r in _results().items()
            if r["experiment"] == name
        ]
        rows.append([f"`{name}`", paper.question, "<br>".join(runs)])
    lines.append(markdown(["name", "question", "statements that hold"], rows))
    return "\n\n".join(lines) + "\n"


def _shipped() -> dict[str, Entry]:
    """The models in the package."""
    return {folder.name: Entry(folder) for folder in sorted(SHIPPED.iterdir())}


def _cards() -> str:
    """The list of models, each with what was measured."""
    rows = [[f"[{name}](cards/{name}.md)", *map(_plain, entry.row[1:])]
            for name, entry in _shipped().items()]  # fmt: skip
    text = (
        "The models that ship with the package. Robust accuracy is by the standard evaluation. "
        "How to use and to add them: [the zoo](zoo.md)."
    )
    return f"# Model cards\n\n{text}\n\n{markdown(COLUMNS, rows)}\n"


def _count(results: dict[str, Any]) -> str:
    counts = Content.of(results, {}).counts()
    return f"{counts['yes']} of {sum(n for n in counts.values() if isinstance(n, int))}"


def _api(package: str) -> str:
    """The public names of a package."""
    module = __import__(f"notbugs.{package}" if package else "notbugs", fromlist=["__all__"])
    path = module.__name__
    names = [n for n in module.__all__ if not isinstance(getattr(module, n), ModuleType)]
    return "\n\n".join(f"::: {path}.{name}" for name in names) + "\n"


def _plain(text: object) -> str:
    """Text without what Markdown would read as markup or as HTML."""
    shown = str(text).replace("<", "&lt;").replace("*", "\\*").replace("_", "\\_")
    return shown.replace("\n", " ")

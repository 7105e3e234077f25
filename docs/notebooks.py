"""Notebooks: kept without outputs, executed in a fresh kernel, drawn as Markdown.

`python docs/notebooks.py` brings the files of `notebooks/` into the form in which they are kept,
and makes the lesson from its solutions.
"""

import base64
import hashlib
import re
import tempfile
from copy import deepcopy
from pathlib import Path

import nbformat
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "notebooks"
BUILT = ROOT / "build" / "notebooks"
"""Where executed notebooks are kept, for the site and for the tests."""
NAMES = ("main-experiment", "attack-and-judge", "inversion-and-features", "theory", "lesson",
         "lesson-solutions")  # fmt: skip
LESSON = "lesson"
"""It is made from its solutions, and never executed: its exercises are for the reader."""
SOLUTION = re.compile(r"^( *)# BEGIN SOLUTION\n.*?# END SOLUTION", re.DOTALL | re.MULTILINE)
KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}
SECONDS = 600
"""The most that a cell may take."""


def path_of(name: str) -> Path:
    """The file of a notebook."""
    return FOLDER / f"{name}.ipynb"


def read(name: str) -> NotebookNode:
    """A notebook as it is kept."""
    return nbformat.read(path_of(name), as_version=4)


def kept(notebook: NotebookNode) -> str:
    """The text of a notebook's file: no outputs, no counts, no metadata but the kernel's name."""
    clean = deepcopy(notebook)
    clean.metadata = NotebookNode(kernelspec=KERNEL, language_info={"name": "python"})
    clean.nbformat, clean.nbformat_minor = 4, 5
    for cell in clean.cells:
        cell.metadata = NotebookNode()
        cell.source = cell.source.strip("\n")
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.validate(clean)
    return nbformat.writes(clean) + "\n"


def stub(source: str, number: str) -> str:
    """The code of an exercise without its solution."""
    return SOLUTION.sub(rf'\1raise NotImplementedError("exercise {number}")  # TODO', source)


def exercises(solutions: NotebookNode) -> NotebookNode:
    """The lesson: its solutions are taken out."""
    lesson = deepcopy(solutions)
    for cell in lesson.cells:
        if cell.cell_type == "code":
            cell.source = stub(cell.source, cell.id.removeprefix("exercise-"))
    return lesson


def executed(notebook: NotebookNode) -> NotebookNode:
    """A copy with its outputs, from a fresh kernel in an empty folder.

    **Raises** nbclient's CellExecutionError for a cell that fails, unless it may.
    """
    from nbclient import NotebookClient  # the lesson is made without it

    run = deepcopy(notebook)
    with tempfile.TemporaryDirectory() as folder:
        # A kernel warns that it listens on this machine alone, unencrypted: level 40 is errors.
        NotebookClient(
            run,
            timeout=SECONDS,
            coalesce_streams=True,
            kernel_name=KERNEL["name"],
            resources={"metadata": {"path": folder}},
            extra_arguments=["--log-level=40"],
        ).execute()
    return run


def cached(name: str, folder: Path) -> NotebookNode:
    """An executed notebook, from a folder while neither it nor the package's code has changed."""
    code = sorted((ROOT / "src").rglob("*.py"))
    digest = hashlib.sha256(b"".join(path.read_bytes() for path in [path_of(name), *code]))
    file = folder / f"{name}-{digest.hexdigest()[:16]}.ipynb"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        run = executed(read(name))
        for old in folder.glob(f"{name}-{'?' * 16}.ipynb"):
            old.unlink()
        part = file.with_suffix(".part")
        nbformat.write(run, part)
        part.replace(file)
    return nbformat.read(file, as_version=4)


def page(notebook: NotebookNode, name: str) -> tuple[str, dict[str, bytes]]:
    """(Markdown, pictures by the names that it shows) of a notebook."""
    parts, pictures = list[str](), dict[str, bytes]()
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(_linked(cell.source))
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            data = output.get("data", {})
            if "image/png" in data:
                file = f"{name}-{len(pictures) + 1}.png"
                pictures[file] = base64.b64decode(data["image/png"])
                parts.append(f"![{cell.id}]({file})")
            elif "text/markdown" in data:
                parts.append(data["text/markdown"])
            else:
                parts.append(f"```text\n{(output.get('text') or data['text/plain']).rstrip()}\n```")
    return "\n\n".join(parts) + "\n", pictures


def _linked(text: str) -> str:
    """Links between notebooks, and to pages, as on the site; Markdown also in what is folded."""
    text = re.sub(r"\]\(([\w-]+)\.ipynb\)", r"](\1.md)", text).replace("](../docs/", "](../")
    return text.replace("<details>", '<details markdown="1">')


def main() -> None:
    """Rewrites every file in the form in which it is kept."""
    for name in NAMES:
        made = exercises(read("lesson-solutions")) if name == LESSON else read(name)
        path_of(name).write_text(kept(made))


if __name__ == "__main__":
    main()

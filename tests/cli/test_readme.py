"""Every command and link of the README and the docs leads somewhere, and their Python runs."""

import re
import shlex
from pathlib import Path

import pytest

from notbugs.cli.console import PlainConsole
from notbugs.cli.running import parsed

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCKS = [
    block
    for page in PAGES
    for block in re.findall(r"^```\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
]
LINES = [line for block in BLOCKS for line in block.splitlines() if re.match("notbugs [a-z]", line)]


def test_there_are_some() -> None:
    assert len(LINES) > 15


@pytest.mark.parametrize("line", LINES)
def test_the_command_line_takes_it(line) -> None:
    words = shlex.split(line, comments=True)[1:]
    command = parsed(words, PlainConsole(stderr=True))
    assert type(command).__name__.lower().startswith(words[0])


@pytest.mark.parametrize("page", PAGES, ids=[str(p.relative_to(ROOT)) for p in PAGES])
def test_links_and_pictures_are_there(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    here = [link.partition("#")[0] for link in links if "://" not in link]
    for link in here:
        assert not link or (page.parent / link).exists(), link


def test_the_readme_is_one_screen() -> None:
    """That its Python runs is tested with the wheel."""
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 70
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len([line for line in code.splitlines() if line]) <= 9


@pytest.mark.parametrize("name", ["add-an-attack", "how-to", "start"])
def test_the_python_of_a_page_runs(name, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / f"{name}.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) > 2
    exec("".join(blocks), {})

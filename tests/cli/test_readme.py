"""Every command of the README is one that the command line takes."""

import re
import shlex
from pathlib import Path

import pytest

from notbugs.cli.console import PlainConsole
from notbugs.cli.running import parsed

README = (Path(__file__).parents[2] / "README.md").read_text()
BLOCKS = re.findall(r"^```\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
LINES = [line for block in BLOCKS for line in block.splitlines() if line.startswith("notbugs ")]


def test_there_are_some() -> None:
    assert len(LINES) > 15


@pytest.mark.parametrize("line", LINES)
def test_the_command_line_takes_it(line) -> None:
    words = shlex.split(line, comments=True)[1:]
    command = parsed(words, PlainConsole(stderr=True))
    assert type(command).__name__.lower().startswith(words[0])

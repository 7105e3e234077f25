"""The walk through a paper quotes a paper that runs, whole and in order."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_walk_quotes_the_whole_paper_after_its_imports() -> None:
    text = (ROOT / "docs" / "add-a-paper.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    paper = (ROOT / "tests" / "experiments" / "tiny_paper.py").read_text()
    quoted = re.sub(r"\n+", "\n", "".join(blocks))
    assert len(blocks) > 4
    assert re.sub(r"\n+", "\n", paper).endswith("\n" + quoted)

"""What a release must agree in: `python tests/release.py [TAG]` exits with 1 where it does not."""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def disagreements(tag: str) -> list[str]:
    """Where the tag, the package, the citation and the changelog name different versions.

    - `tag`: v1.2.3; empty where nothing is published yet
    """
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    cited = re.search(r"^version: (.+)$", (ROOT / "CITATION.cff").read_text(), re.MULTILINE)
    heads = re.findall(r"^## \[(.+?)\] - (.+)$", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    wrong = list[str]()
    if cited is None or cited[1].strip("'\"") != version:
        wrong.append(f"CITATION.cff does not name {version}, as pyproject.toml does.")
    if not heads or heads[0][0] != version:
        wrong.append(f"CHANGELOG.md does not begin with {version}.")
    if tag and tag != f"v{version}":
        wrong.append(f"The tag {tag} is not v{version}.")
    if tag and heads and heads[0][1] == "unreleased":
        wrong.append(f"CHANGELOG.md says that {version} is unreleased. Give it a date.")
    return wrong


if __name__ == "__main__":
    found = disagreements(*(sys.argv[1:] or [""]))
    print("\n".join(found) or "They agree.")
    sys.exit(bool(found))

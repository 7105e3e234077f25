"""Measured choices of this machine, kept in the user's cache folder."""

import contextlib
import hashlib
import json
import os
import platform
import secrets
from pathlib import Path

from notbugs.data.download import cache_folder

_HERE: dict[str, str] = {}


def recall(question: str) -> str | None:
    """The answer found earlier on this machine, or None."""
    if question in _HERE:
        return _HERE[question]
    try:
        answer = json.loads(_file(question).read_text())["answer"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return answer if isinstance(answer, str) else None


def remember(question: str, answer: str) -> None:
    """Keeps an answer for this process and, where the folder can be written, for later ones."""
    _HERE[question] = answer
    path = _file(question)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(f".{secrets.token_hex(4)}")
        part.write_text(json.dumps({"question": question, "answer": answer}))
        part.replace(path)


def _file(question: str) -> Path:
    machine = f"{platform.machine()}{platform.processor()}{os.cpu_count()}"
    name = hashlib.sha256(f"{machine}\x1f{question}".encode()).hexdigest()[:24]
    return cache_folder() / "choices" / f"{name}.json"

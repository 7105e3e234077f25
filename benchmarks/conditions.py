"""Under what a measurement was taken: a number without this is not a claim."""

import datetime
import os
import platform
import shutil
import subprocess
from pathlib import Path
from typing import Any

import peers
import torch

ROOT = Path(__file__).resolve().parent.parent


def conditions(threads: int, versions: dict[str, str] | None = None) -> dict[str, Any]:
    """Date, commit, hardware, threads, load and versions (those of the peers by default)."""
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "uncommitted_changes_in_src": bool(_git("status", "--porcelain", "--", "src")),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": threads,
        "device": "cpu",
        "dtype": "float32",
        "load_average": round(os.getloadavg()[0], 2),
        "python": platform.python_version(),
        "versions": peers.versions() if versions is None else versions,
        "torch_cpu_capability": torch.backends.cpu.get_cpu_capability(),
    }


def _git(*words: str) -> str:
    if not shutil.which("git"):  # a copy of the working tree on another machine
        return ""
    done = subprocess.run(("git", *words), cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _processor() -> str:
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()

"""Kills commands at random moments, runs them again, and compares what they leave, bit for bit.

    .venv/bin/python benchmarks/kills.py --kills 100 --seed 0

Small commands on digits: train, evaluate (both methods), attack, build, and all experiments in
this process alone and with two workers. Each is run once undisturbed. Then, in a fresh folder, it
is killed (SIGKILL) at moments drawn uniformly from the time that it took and started again, and
after a few kills left to end; what lies in the folder then must be what the undisturbed run
left, but for times: every file's bytes, JSON without its fields of seconds and dates. Pages, which
show times, are left out. The store's finished results are among the files. Only the last command
of a trial counts as ended; a start that ends before its kill ends the trial.

A process that has imported everything is forked for each start, so that kills fall on the work.
Checkpoints are written as often as can be.
"""

import argparse
import json
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from notbugs.cli import main
from notbugs.training import saving

TIMES = ("seconds", "seconds_total", "seconds_wall", "created", "digest", "files", "machine")
SKIPPED = (".html", ".log")
KILLS_A_TRIAL = 3


@dataclass
class Case:
    """A command, by the folder that it works in, and how its kills went."""

    name: str
    command: Callable[[Path], list[str]]
    share: int
    seconds: float = 0.0
    kills: int = 0
    trials: int = 0
    wrong: int = 0
    left: int = 0


def cases(source: Path) -> list[Case]:
    """All commands; `source` is a finished model. `share` of the kills fall on each."""

    def reproduce(paper: str, workers: int, *more: str) -> Callable[[Path], list[str]]:
        return lambda folder: [
            "reproduce", paper, "--preset", "smoke", "--workers", str(workers), "--device", "cpu",
            "--out", str(folder / "run"), *more,
        ]  # fmt: skip

    short = ("--train-size", "200", "--epochs", "2")

    def judged(*more: str) -> Callable[[Path], list[str]]:
        return lambda folder: [
            "evaluate", str(source), "--threat", "l2:0.5", "--device", "cpu",
            "--batch-size", "8", "--json", str(folder / "verdict.json"), *more,
        ]  # fmt: skip

    return [
        Case("train", lambda folder: training(folder, epochs=12), 25),
        Case("evaluate, standard", judged("--count", "16"), 12),
        Case("evaluate, pgd", judged("--method", "pgd", "--steps", "60"), 8),
        Case(
            "attack",
            lambda folder: [
                "attack", str(source), "--threat", "l2:0.5", "--steps", "100", "--device", "cpu",
                "--save", str(folder / "adv.safetensors"), "--json", str(folder / "numbers.json"),
            ],
            10,
        ),
        Case(
            "build",
            lambda folder: [
                "build", "det", str(source), "--threat", "l2:1", "--steps", "60", "--device",
                "cpu", "--out", str(folder / "det.safetensors"),
            ],
            10,
        ),
        Case("ilyas2019, no workers", reproduce("ilyas2019", 0, *short), 12),
        Case("ilyas2019, two workers", reproduce("ilyas2019", 2, *short), 8),
        Case("engstrom2019, no workers", reproduce("engstrom2019", 0, *short), 10),
        Case("engstrom2019, two workers", reproduce("engstrom2019", 2, *short), 5),
        Case("szegedy2013, two workers", reproduce("szegedy2013", 2), 8),
    ]  # fmt: skip


def training(folder: Path, epochs: int) -> list[str]:
    """A robust training of a small net."""
    return [
        "train", "--data", "digits", "--recipe", "pgd", "--train-size", "300", "--architecture",
        "mlp", "--epochs", str(epochs), "--device", "cpu", "--out", str(folder / "trained"),
    ]  # fmt: skip


def run(command: list[str], folder: Path, kill_after: float | None = None) -> tuple[int, float]:
    """(exit status, seconds) of a command; its status is -9 where it was killed."""
    began = time.monotonic()
    child = os.fork()
    if child == 0:
        _work(command, folder)
    status = None
    while status is None:
        done, code = os.waitpid(child, os.WNOHANG)
        if done:
            status = os.waitstatus_to_exitcode(code)
        elif kill_after is not None and time.monotonic() - began > kill_after:
            os.kill(child, signal.SIGKILL)
            kill_after = None
        else:
            time.sleep(0.002)
    return status, time.monotonic() - began


def _work(command: list[str], folder: Path) -> None:
    """The life of a child: one command, what it says in a file, and nothing afterwards."""
    said = os.open(folder / "said.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(said, 1)
    os.dup2(said, 2)
    os.environ["NOTBUGS_CACHE"] = str(folder / "cache")
    saving.CHECKPOINT_SECONDS = 0.0
    code = 1
    try:
        main(command)
        code = 0
    except SystemExit as error:
        code = int(error.code or 0)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def left_by(folder: Path) -> tuple[dict[str, Any], list[str]]:
    """(the content of every file by its path, the files half written that kills left)."""
    found: dict[str, Any] = {}
    half: list[str] = []
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if not path.is_file() or path.suffix in SKIPPED or "/locks/" in name:
            continue
        if path.name.startswith("."):
            half.append(name)
        elif path.suffix == ".json":
            found[name] = _timeless(json.loads(path.read_text()))
        else:
            found[name] = path.read_bytes()
    return found, half


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _timeless(v) for k, v in value.items() if k not in TIMES}
    return [_timeless(v) for v in value] if isinstance(value, list) else value


def trial(case: Case, expected: dict[str, Any], draw: random.Random, kills: int) -> None:
    """One fresh folder: kills, an end, a comparison."""
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    command, status = case.command(folder), -signal.SIGKILL
    for _ in range(min(kills, KILLS_A_TRIAL)):
        status, _ = run(command, folder, draw.uniform(0, case.seconds))
        if status != -signal.SIGKILL:
            break
        case.kills += 1
    if status == -signal.SIGKILL:
        status, _ = run(command, folder)
    found, half = left_by(folder)
    case.trials += 1
    case.left += len(half)
    differ = sorted(n for n in expected.keys() | found.keys() if expected.get(n) != found.get(n))
    if status or differ:
        case.wrong += 1
        print(f"{case.name}: exit {status}; differ: {differ[:5]}; kept in {folder}", flush=True)
        print((folder / "said.log").read_text()[-600:], flush=True)
    else:
        shutil.rmtree(folder)
        print(
            f"{case.name}: {case.kills} kills so far, {case.wrong} trials ended differently",
            flush=True,
        )


def go(kills: int, seed: int, only: str) -> int:
    """Kills and compares; the number of trials that ended differently."""
    draw = random.Random(seed)
    home = Path(tempfile.mkdtemp(prefix="kills-home-"))
    if run(training(home, epochs=20), home)[0]:
        raise SystemExit((home / "said.log").read_text())
    chosen = [c for c in cases(home / "trained" / "model.safetensors") if only in c.name]
    for case in chosen:
        folder = Path(tempfile.mkdtemp(prefix="kills-"))
        status, case.seconds = run(case.command(folder), folder)
        if status:
            raise SystemExit((folder / "said.log").read_text())
        expected, _ = left_by(folder)
        wanted = max(1, round(kills * case.share / sum(c.share for c in chosen)))
        while case.kills < wanted:
            trial(case, expected, draw, wanted - case.kills)
        print(
            f"{case.name}: {case.seconds:.1f} s, {case.kills} kills in {case.trials} trials, "
            f"{case.wrong} ended differently; {case.left} half-written files left",
            flush=True,
        )
        shutil.rmtree(folder)
    shutil.rmtree(home)
    total, wrong = sum(c.kills for c in chosen), sum(c.wrong for c in chosen)
    print(f"{total} kills in {sum(c.trials for c in chosen)} trials: {wrong} ended differently")
    return wrong


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="commands whose name has this in it")
    given = parser.parse_args()
    sys.exit(go(given.kills, given.seed, given.only) > 0)

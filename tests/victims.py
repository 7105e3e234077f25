"""Real processes, killed while they work."""

import subprocess
import time
from pathlib import Path


def killed_once(ready, command, env=None, seconds=120) -> None:
    """Starts the command, kills it (SIGKILL) as soon as `ready()`, and waits for its workers' end.

    A worker notices its parent's end a moment later, and may finish a stage in between.
    """
    victim = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=env, start_new_session=True)
    deadline = time.monotonic() + seconds
    try:
        while not ready():
            assert time.monotonic() < deadline
            assert victim.poll() is None
            time.sleep(0.002)
    finally:
        victim.kill()  # nothing of it can clean up
        victim.wait()
    while any_left(victim.pid):
        assert time.monotonic() < deadline, "a worker outlives its parent"
        time.sleep(0.01)


def any_left(group) -> bool:
    """Whether a process of the group still works (Linux; a zombie does not)."""
    return any(state != "Z" for state, _, its in map(status, processes()) if its == str(group))


def processes() -> list[Path]:
    return list(Path("/proc").glob("[0-9]*"))


def status(process: Path) -> list[str]:
    """Its state, parent and group; all empty if it is gone."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()[:3]
    except OSError:
        return ["", "", ""]

"""Real processes, killed while they work."""

import subprocess
import time


def killed_once(ready, command, env, seconds=120) -> None:
    """Starts the command and kills it (SIGKILL) as soon as `ready()`, before its own end."""
    victim = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=env)
    try:
        deadline = time.monotonic() + seconds
        while not ready():
            assert time.monotonic() < deadline
            assert victim.poll() is None
            time.sleep(0.002)
    finally:
        victim.kill()  # nothing of it can clean up
        victim.wait()

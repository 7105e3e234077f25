"""Many users of the explorer at once, some of them hostile: failures and latencies.

    .venv/bin/python benchmarks/explorer_load.py --users 20 --seconds 60

Starts `notbugs explore` on loopback and lets each user ask one request after another, drawn at
random: attacks at some eps, the crossover, the inside of a model, a unit, a picture file. One in
ten is hostile (a path of the host, a broken or huge picture, a body that is too large, values that
no control has) and counts as failed unless it is refused as it should be. Prints JSON and a table:
requests, failures, and the median and 95th percentile of seconds, by kind. A request waits for its
turn in the queue; `--think` is the mean pause of each user between two.
"""

import argparse
import base64
import http.client
import io
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

import torch
from PIL import Image

from notbugs.app.guard import BODY
from notbugs.data.pictures import picture_png

HOSTILE = 0.1
JSON = {"content-type": "application/json"}
PATHS = ("/gradio_api/file=/etc/passwd", "/static/../../../etc/passwd", "/gradio_api/upload", "/x")


class RefusedError(Exception):
    """The answer was an error's message."""


def asked(url: str, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    where = urlsplit(url)
    connection = http.client.HTTPConnection(str(where.hostname), where.port, timeout=120)
    try:
        connection.request(method, path, body, JSON)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def called(url: str, name: str, *given: Any) -> Any:
    """What an endpoint answers; **raises** RefusedError for an error's message."""
    place = f"/gradio_api/call/{name}"
    status, content = asked(url, "POST", place, json.dumps({"data": given}).encode())
    if status != 200:
        raise OSError(f"{name}: {status}")
    _, told = asked(url, "GET", f"{place}/{json.loads(content)['event_id']}")
    event, data = re.findall(r"event: (\w+)\ndata: (.*)\n", told.decode())[-1]
    if event != "complete":
        raise RefusedError(data)
    return json.loads(data)


def picture(content: bytes) -> str:
    return "upload:../../a.png:" + base64.b64encode(content).decode()


def bomb() -> bytes:
    file = io.BytesIO()
    Image.new("1", (8000, 8000)).save(file, "PNG")
    return file.getvalue()


def refused(job: Callable[[], Any]) -> None:
    """Passes where the job is refused with a message."""
    try:
        job()
    except RefusedError as answer:
        if not json.loads(str(answer)).get("error"):
            raise OSError(f"refused without a reason: {answer}") from answer
        return
    raise OSError("not refused")


def status_of(url: str, wanted: set[int], *request: Any) -> None:
    status, content = asked(url, *request)
    if status not in wanted or b"root:" in content:
        raise OSError(f"{request[1]}: {status}")


def jobs(url: str, draw: random.Random) -> dict[str, Callable[[], Any]]:
    """One request of each kind."""
    pixels = bytes(draw.randrange(256) for _ in range(64)).hex()
    eps, source, image = (
        draw.uniform(0, 0.5),
        draw.choice(("standard", "robust")),
        draw.randrange(99),
    )
    method = draw.choice(("fgsm", "pgd", "mim", "apgd"))
    mode = draw.choice(("Invert", "Interpolate", "Add a feature"))
    file = picture(picture_png(torch.rand(3, 40, 40)))
    attack = (pixels, -1, source, method, "linf", eps, -1, "logits")
    return {
        "choose": lambda: called(url, "choose", image),
        "attack": lambda: called(url, "attack", *attack),
        "crossover": lambda: called(url, "crossover", source, "other", 6 * eps, image % 50),
        "inside": lambda: called(url, "inside", mode, image, image + 1, image % 10),
        "unit": lambda: called(url, "unit", f"m0-unit-{image % 20}"),
        "upload": lambda: called(url, "upload", file),
    }


def hostile(url: str, draw: random.Random) -> Callable[[], Any]:
    kinds: list[Callable[[], Any]] = [
        lambda: status_of(url, {400, 403, 404}, "GET", draw.choice(PATHS)),
        lambda: status_of(url, {413}, "POST", "/gradio_api/queue/join", b"[" * (BODY + 1)),
        lambda: refused(lambda: called(url, "upload", picture(bomb()))),
        lambda: refused(lambda: called(url, "upload", picture(b"%!PS-Adobe EPSF"))),
        lambda: refused(lambda: called(url, "upload", {"path": "/etc/passwd"})),
        lambda: refused(lambda: called(url, "choose", 10**9)),
        lambda: refused(lambda: called(url, "unit", "../../etc/passwd")),
    ]
    return draw.choice(kinds)


def user(url: str, seed: int, until: float, think: float, told: list[Any]) -> None:
    draw = random.Random(seed)
    while time.monotonic() < until:
        bad = draw.random() < HOSTILE
        kind, job = (
            ("hostile", hostile(url, draw)) if bad else draw.choice([*jobs(url, draw).items()])
        )
        began, error = time.monotonic(), ""
        try:
            job()
        except Exception as failure:  # counted
            error = f"{type(failure).__name__}: {str(failure)[:200]}"
        told.append((kind, time.monotonic() - began, error))
        time.sleep(draw.uniform(0, 2 * think))


def summary(rows: list[Any]) -> dict[str, Any]:
    seconds = sorted(row[1] for row in rows)
    worst = quantiles(seconds, n=20)[-1] if len(seconds) > 1 else seconds[0]
    failures = [row[2] for row in rows if row[2]]
    return {
        "requests": len(rows), "failures": len(failures), "median": round(median(seconds), 3),
        "p95": round(worst, 3), "reasons": sorted(set(failures))[:3],
    }  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("--users", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--think", type=float, default=1.0)
    parser.add_argument("--store", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "notbugs", "explore", "--port", "0"]
        command += ["--store", str(given.store or Path(folder) / "store")]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        log = Path(folder) / "log"
        with (
            log.open("w") as errors,
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
            ) as server,
        ):
            try:
                assert server.stdout is not None
                url = next(x.split()[1] for x in server.stdout if x.startswith("Open "))
                told: list[Any] = []
                until = time.monotonic() + given.seconds
                threads = [
                    threading.Thread(target=user, args=(url, i, until, given.think, told))
                    for i in range(given.users)
                ]
                for thread in threads:
                    thread.start()
                for thread in threads:
                    thread.join()
                alive = asked(url, "GET", "/")[0] == 200 and server.poll() is None
            finally:
                server.terminate()
    kinds = {kind: [row for row in told if row[0] == kind] for kind, *_ in sorted(told)}
    found = {"all": summary(told), **{kind: summary(rows) for kind, rows in kinds.items()}}
    conditions = {"users": given.users, "seconds": given.seconds, "think": given.think}
    print(json.dumps({**conditions, "alive": alive, "kinds": found}, indent=1))
    print(f"{'kind':<10}{'requests':>9}{'failures':>9}{'median s':>9}{'95 % s':>8}")
    for kind, row in found.items():
        numbers = f"{row['requests']:>9}{row['failures']:>9}{row['median']:>9.2f}{row['p95']:>8.2f}"
        print(f"{kind:<10}{numbers}")


if __name__ == "__main__":
    main()

"""Memory and seconds of the commands against the number of images, and the checks of scale.

    .venv/bin/python benchmarks/memory.py --counts 1000 10000 100000 --out memory
    .venv/bin/python benchmarks/memory.py --check 100000 --out memory

Each row is a process of its own: random images, which the net has right, lie in a file, and a
command attacks or changes them by PGD-20, or trains on them for an epoch. Memory is what the
process holds that no file backs (Linux: RssAnon, the highest of samples every 20 ms), less that of
the same command on 300 images; pages of files do not count, for the system drops them when it needs
the room. `--check N` evaluates N images of 32x32 once, once killed halfway and resumed, and
once by two processes; verdicts must be the same. Writes JSON, a table and a picture.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch
from conditions import conditions

from notbugs.core import mapped
from notbugs.data import ImageData, save
from notbugs.models import build, save_model

NOTBUGS = (sys.executable, "-m", "notbugs")
BASE = 300
PGD = ("--threat", "linf:1/255", "--method", "pgd")
JOBS = {
    "evaluate": ("evaluate", "WEIGHTS", "--data", "SET", *PGD, "--json", "OUT.json"),
    "attack": ("attack", "WEIGHTS", "--data", "SET", *PGD, "--steps", "20", "--save", "OUT"),
    "build": ("build", "det", "WEIGHTS", "--data", "SET", "--threat", "l2:0.5", "--steps", "20",
              "--out", "OUT"),
    "train": ("train", "--data", "SET", "--epochs", "1", "--out", "OUT.model"),
}  # fmt: skip


def made(folder: Path, side: int, count: int) -> tuple[Path, Path]:
    """The files of a net, and of random images labelled as it classifies them."""
    net, rows = folder / f"net-{count}-{side}.safetensors", folder / f"{count}-{side}.safetensors"
    if not rows.exists():
        options = {"width": 4, "hidden": 16}
        model = build("cnn", shape=(3, side, side), classes=10, seed=0, options=options).eval()
        save_model(model, net, metadata={"dataset": str(rows)})
        images = mapped.empty((count, 3, side, side), torch.uint8)
        draws = torch.Generator().manual_seed(0)
        for part in images.split(500):
            part.random_(0, 256, generator=draws)
        with torch.no_grad():
            logits = torch.cat([model(part.float() / 255) for part in images.split(500)])
        labels = (logits - logits.mean(dim=0)).argmax(dim=1)  # of several classes
        model.body.head.bias.data -= logits.mean(dim=0)
        save_model(model, net, metadata={"dataset": str(rows)})
        names = tuple(map(str, range(10)))
        save(ImageData(images, labels, names, f"random-{count}"), rows)
    return net, rows


def words(job: str, net: Path, rows: Path, out: Path) -> list[str]:
    places = {"WEIGHTS": net, "SET": rows, "OUT": out, "OUT.json": out.with_suffix(".json"),
              "OUT.model": out.with_suffix("")}  # fmt: skip
    return [str(places.get(word, word)) for word in JOBS[job]]


def anonymous(process: int) -> int:
    """Bytes that a process holds and no file backs."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("RssAnon"))


def measured(command: Sequence[str]) -> tuple[int, float]:
    """The most memory that a command holds, and its seconds.

    **Raises** CalledProcessError where it fails.
    """
    began, most = time.perf_counter(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            most = max(most, anonymous(process.pid))
            time.sleep(0.02)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return most, time.perf_counter() - began


def row(folder: Path, job: str, side: int, count: int) -> dict[str, Any]:
    out = folder / f"{job}-{side}-{count}.safetensors"
    command = [*NOTBUGS, *words(job, *made(folder, side, count), out)]
    most, seconds = measured(command)
    return {"job": job, "side": side, "images": count, "bytes": most, "seconds": seconds}


def measure_all(folder: Path, jobs: Sequence[str], counts: Sequence[int]) -> list[dict[str, Any]]:
    rows = []
    for job in jobs:
        for side, sizes in ((32, counts), (224, [1000])):
            base = row(folder, job, side, BASE)
            for count in sizes:
                found = row(folder, job, side, count)
                found["beyond"] = found["bytes"] - base["bytes"]
                beyond, base_mib = found["beyond"] / 2**20, base["bytes"] / 2**20
                of = f"{job:9} {count:7} of {side}x{side}"
                memory = f"{beyond:6.0f} MiB beyond {base_mib:.0f}"
                print(f"{of}: {memory}, {found['seconds']:.1f} s", flush=True)
                rows.append(found)
    return rows


def verdict(path: Path) -> dict[str, Any]:
    """What must not depend on how an evaluation ran."""
    content = json.loads(path.read_text())
    return {name: content[name] for name in ("n", "clean_accuracy", "robust_accuracy", "outcomes")}


def check(folder: Path, count: int) -> dict[str, Any]:
    """One evaluation whole, killed and resumed, and by two processes."""
    net, rows = made(folder, 32, count)
    outs = {name: folder / f"check-{name}.safetensors" for name in ("whole", "killed", "two")}
    most, seconds = measured([*NOTBUGS, *words("evaluate", net, rows, outs["whole"])])
    found: dict[str, Any] = {"images": count, "seconds": seconds, "bytes": most}
    killed = [*NOTBUGS, *words("evaluate", net, rows, outs["killed"])]
    with subprocess.Popen(killed, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        time.sleep(seconds / 2)
        process.send_signal(signal.SIGKILL)
    found["states_left"] = len(list(folder.rglob("evaluations/*.json")))  # 0: it was not killed
    _, found["seconds_resumed"] = measured(killed)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m"]
    two = [*torchrun, "notbugs", *words("evaluate", net, rows, outs["two"])]
    _, found["seconds_two"] = measured(two)
    found["verdicts"] = {n: verdict(path.with_suffix(".json")) for n, path in outs.items()}
    whole = found["verdicts"]["whole"]
    found["same"] = all(other == whole for other in found["verdicts"].values())
    print(json.dumps(found, indent=1))
    return found


def draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for job in dict.fromkeys(r["job"] for r in rows):
        small = [r for r in rows if r["job"] == job and r["side"] == 32]
        counts = [r["images"] for r in small]
        axes[0].plot(counts, [max(r["beyond"], 0) / 2**20 for r in small], "o-", label=job)
        axes[1].plot(counts, [r["seconds"] for r in small], "o-", label=job)
    counts = sorted({r["images"] for r in rows if r["side"] == 32})
    axes[0].plot(
        counts, [4 * 3072 * n / 2**20 for n in counts], "k:", label="the images as float32"
    )
    axes[0].set(xscale="log", xlabel="images of 32x32", ylabel="memory beyond 300 images, MiB")
    axes[1].set(xscale="log", yscale="log", xlabel="images of 32x32", ylabel="seconds")
    axes[0].legend()
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--counts", type=int, nargs="*", default=[])
    parser.add_argument("--jobs", nargs="*", default=list(JOBS), choices=list(JOBS))
    parser.add_argument("--check", type=int)
    parser.add_argument("--out", type=Path, required=True, help="without its ending")
    given = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    facts = conditions(threads=int(os.environ["OMP_NUM_THREADS"]), versions={})
    found: dict[str, Any] = {"conditions": facts}
    with tempfile.TemporaryDirectory(dir=given.out.parent) as folder:
        os.environ["XDG_CACHE_HOME"] = folder
        if given.counts:
            found["rows"] = measure_all(Path(folder), given.jobs, given.counts)
            draw(found["rows"], given.out.with_suffix(".png"))
        if given.check:
            found["check"] = check(Path(folder), given.check)
    given.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()

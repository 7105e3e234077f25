"""What several processes do together, and one alone, for the tests to compare.

Started as `torchrun --nproc-per-node 2 jobs.py JOB FOLDER`.
"""

import json
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import torch
from safetensors.torch import save_file

from notbugs.attacks import apgd, square
from notbugs.core import processes
from notbugs.core.errors import DataError
from notbugs.data import Augment, load_source, split
from notbugs.engine import L2, Threat
from notbugs.features import InversionSettings, inverted_set, targeted_set
from notbugs.judge import evaluate, predictions
from notbugs.models import build
from notbugs.training import (
    Adversary,
    Awp,
    Free,
    L2Decay,
    Recipe,
    ScaledGradient,
    Trades,
    saving,
    train,
)

SHORT = Recipe(epochs=2, batch_size=32, lr=0.05, augment=Augment(crop_padding=1))
PGD = Adversary("l2:0.5", steps=2)
RECIPES = {
    "pgd": replace(SHORT, adversary=PGD, penalties=(L2Decay(1e-4),), average=0.9),
    "crafted by the batch's statistics": replace(SHORT, adversary=replace(PGD, train_mode=True)),
    "trades, moved weights": replace(SHORT, adversary=PGD, objective=Trades(), awp=Awp()),
    "through the gradient": replace(SHORT, adversary=ScaledGradient("l2:0.5")),
    "free": replace(SHORT, adversary=PGD, objective=Free(2)),
    "best of the held out": replace(SHORT, adversary=PGD, select="best", watch_every=1),
    "with extra images": replace(SHORT, adversary=PGD),
}
THREAT = Threat.parse("l2:0.3")


def digits():
    return split(load_source("digits"), seed=0, train_size=160)


def net(double=True):
    """A small net with batch norms, in float64: sums in another order then differ by 1e-12."""
    model = build("resnet8", shape=(1, 8, 8), classes=10, seed=0, options={"width": 4})
    return model.double() if double else model


def trained(name):
    """(weights, history) after a training by that recipe."""
    parts, model = digits(), net()
    extra = parts.test.select(slice(0, 50)) if name == "with extra images" else None
    done = train(model, parts.train, RECIPES[name], seed=0, val=parts.val, extra=extra)
    return model.state_dict(), done.history


def judged(model, folder):
    """A verdict by the whole ensemble, with few queries."""
    data = digits().test.select(slice(0, 21))
    attacks = [apgd(L2(), THREAT.eps, steps=10), square(L2(), THREAT.eps, steps=100, give_up=True)]
    state = folder / f"state-{processes.count()}.json"
    return evaluate(model, data, THREAT, attacks=attacks, save_to=state, diagnosis=True)


def learnt():
    """A net that knows digits."""
    model = net(double=False)
    train(model, digits().train, Recipe(epochs=6, batch_size=32), seed=0)
    return model


def sets(model):
    """Two constructed sets, by name."""
    few = digits().train.select(slice(0, 25))
    return {
        "det": targeted_set(model, few, "det", THREAT, seed=0, steps=5),
        "D_R": inverted_set(model, few, name="D_R", seed=0, settings=InversionSettings(5)),
    }


def everything(folder) -> None:
    """All of it, with what this process got written to a file of its own."""
    heard, raised = processes.all_gather(processes.rank()), ""
    try:
        processes.from_first(_refuse)
    except DataError as error:
        raised = str(error)
    found = {"heard": heard, "raised": raised, "first": processes.is_first()}
    with processes.alone():
        found["alone"] = processes.all_gather(processes.rank())
    tensors = {}
    for name in RECIPES:
        state, found[name] = trained(name)
        tensors |= {f"{name}/{k}": v for k, v in state.items()}
    with processes.alone():
        model = learnt()
    verdict = judged(model, folder)
    found["verdict"] = {"broken_by": verdict.broken_by.tolist(), "forwards": verdict.forwards}
    found["checks"] = [line["check"] for line in verdict.masking]
    tensors |= {f"set/{name}": made.pixels() for name, made in sets(model).items()}
    tensors["said"] = predictions(model, digits().val, batch_size=7)
    rank = processes.rank()
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / f"{rank}.safetensors")
    (folder / f"{rank}.json").write_text(json.dumps(found))


def _refuse() -> None:
    raise DataError("The first process says no.")


def killed(folder) -> None:
    """A training whose second process is killed, the first time it is started."""
    parts, model = digits(), net()
    saving.CHECKPOINT_SECONDS = 0.0
    first_time = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"

    def kill(fraction) -> None:
        if first_time and processes.rank() == 1 and fraction > 0.6:
            os.kill(os.getpid(), signal.SIGKILL)

    began = (folder / "checkpoint.safetensors").exists()
    recipe, path = replace(SHORT, epochs=5), folder / "checkpoint.safetensors"
    train(model, parts.train, recipe, seed=0, checkpoint_path=path, progress=kill)
    if processes.is_first():
        save_file(model.state_dict(), folder / "end.safetensors")
        (folder / "resumed").write_text(str(began))


if __name__ == "__main__":
    from accelerate import PartialState

    torch.set_num_threads(1)
    PartialState(cpu=True)
    {"everything": everything, "killed": killed}[sys.argv[1]](Path(sys.argv[2]))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()

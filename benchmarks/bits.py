"""Whether two commits give the same numbers, to the last bit: attacks, trainings, evaluations.

python benchmarks/bits.py one OUT                       # this commit's results
python benchmarks/bits.py between COMMIT COMMIT OUT     # both commits' own, compared
python benchmarks/bits.py compare OUT OUT               # two folders that are there

Everything is embedded data (digits), on one thread, and trained here by plain torch steps, so
that a change in the library's training does not change what the attacks are compared on.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

IMAGES, STEPS, FOLDED_IMAGES = 24, 20, 8
NORMS = {"linf": "linf:0.1", "l2": "l2:0.8", "l1": "l1:6", "l0": "l0:12"}
QUICK_STEPS = {
    "square": 300,
    "hop-skip-jump": 3,
    "cw-l0": 20,
    "lbfgs": 4,
    "cw": 60,
    "cw-linf": 30,
    "ead": 40,
}
ON_FOLDED = ("pgd", "apgd", "apgd-targeted", "fab", "square", "ddn", "fmn", "alma")
IN_L2 = ("rotation", "scaled-gradient")
UPSCALED = 4
"""By which digits are enlarged for jobs so large that a folded copy is taken."""


def nets() -> Iterator[tuple[str, Any, Any]]:
    """(name, model, test images): two small nets, one with batch norms, one on larger images."""
    from norm_net import norm_net
    from small_cnn import small_cnn

    import notbugs as nb

    parts = nb.split(nb.load_source("digits"), seed=0)
    for name, make in (("mlp", None), ("cnn", small_cnn), ("norms", norm_net)):
        model = (
            nb.build("mlp", shape=parts.train.shape, classes=10, seed=0)
            if make is None
            else make(parts.train.shape, 10, 0)
        )
        fit(model, parts.train)
        yield name, model, parts.test
    large = enlarged(parts.train), enlarged(parts.test)
    model = norm_net(large[0].shape, 10, 0)
    fit(model, large[0])
    yield "norms, folded", model, large[1]


def enlarged(data: Any) -> Any:
    """Every pixel as a square of `UPSCALED` pixels' side."""
    images = data.images
    wide = images.repeat_interleave(UPSCALED, 2).repeat_interleave(UPSCALED, 3)
    return replace(data, images=wide)


def fit(model: Any, data: Any, epochs: int = 6) -> None:
    """SGD in plain torch, on the running model."""
    order = torch.Generator().manual_seed(0)
    x, y = data.pixels(torch.arange(len(data))), data.labels
    optimiser = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    model.train()
    for _ in range(epochs):
        for index in torch.randperm(len(x), generator=order).split(64):
            optimiser.zero_grad()
            loss = torch.nn.functional.cross_entropy(model.logits(x[index]), y[index])
            loss.backward()
            optimiser.step()
    model.eval()


def attacks(keep: Callable[[str, dict[str, Tensor]], None]) -> None:
    """Every method of the command line in each of its norms, on each net, targeted too."""
    from notbugs.attacks.named import METHODS, attack_named
    from notbugs.engine import Threat

    for net, model, data in nets():
        index = torch.arange(FOLDED_IMAGES if net == "norms, folded" else IMAGES)
        x, y = data.pixels(index), data.labels[index]
        for method, how in METHODS.items():
            for norm in how.norms:
                folded = net == "norms, folded"
                if folded and (norm == "l1" or method not in ON_FOLDED):
                    continue
                steps = 100 if folded and method != "square" else QUICK_STEPS.get(method, STEPS)
                steps = steps if "steps" in how.takes else None
                attack = attack_named(method, Threat.parse(NORMS[norm]), steps=steps)
                goals = [{"y": y}, {"targets": (y + 1) % 10}]
                if (
                    method in ("least-likely", "apgd-targeted", "square", "fab", "deepfool")
                    or folded
                ):
                    goals = goals[:1]
                for goal in goals:
                    found = attack(model, x, seed=1, **goal)
                    name = f"attack {net} {method} {norm} {next(iter(goal))}"
                    keep(name, {"x": found.x_adv, "success": found.success, "loss": found.loss})


def trainings(keep: Callable[[str, dict[str, Tensor]], None]) -> None:
    """Two epochs of each recipe on digits."""
    from norm_net import norm_net

    import notbugs as nb
    from notbugs.training.named import PLAIN, RECIPES, named

    parts = nb.split(nb.load_source("digits"), seed=0)
    base = nb.Recipe(epochs=2, batch_size=128)
    robust = replace(base, adversary=nb.Adversary(threat="linf:0.1", steps=3))
    for recipe in RECIPES:
        threat = None if recipe in PLAIN else "l2:0.5" if recipe in IN_L2 else "linf:0.1"
        for net in ("cnn", "norms"):
            if recipe in ("airbench", "hidden") and net == "norms":
                continue
            model = (
                norm_net(parts.train.shape, 10, 0)
                if net == "norms"
                else nb.build("cnn", shape=parts.train.shape, classes=10, seed=0)
            )
            made = replace(named(recipe, base, robust, threat), epochs=2)
            nb.train(model, parts.train, made, seed=0)
            weights = {k: v.clone().contiguous() for k, v in model.state_dict().items()}
            keep(f"training {net} {recipe}", weights)


def evaluations(keep: Callable[[str, dict[str, Tensor]], None]) -> None:
    """The standard evaluation, with and without giving up."""
    import notbugs as nb

    for net, model, data in nets():
        if net == "norms, folded":
            continue
        few = data.select(torch.arange(50))
        for threat in ("linf:0.06", "l2:0.5"):
            for thorough in (False, True) if threat == "l2:0.5" else (False,):
                verdict = nb.evaluate(
                    model, few, nb.Threat.parse(threat), thorough=thorough, diagnosis=False
                )
                words = "thorough" if thorough else "default"
                keep(f"evaluate {net} {threat} {words}", {"broken_by": verdict.broken_by})


KINDS = {"attacks": attacks, "trainings": trainings, "evaluations": evaluations}


def one(out: Path, kinds: list[str]) -> None:
    """Writes digests and tensors of this commit's results."""
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    for kind in kinds:
        tensors: dict[str, Tensor] = {}

        def keep(name: str, parts: dict[str, Tensor], into: dict[str, Tensor] = tensors) -> None:
            for part, value in parts.items():
                into[f"{name} | {part}"] = value.detach().clone().contiguous()
            digest = hashlib.sha256(
                b"".join(v.detach().contiguous().numpy().tobytes() for v in parts.values())
            )
            print(f"{digest.hexdigest()[:12]}  {name}", flush=True)

        KINDS[kind](keep)
        save_file(tensors, out / f"{kind}.safetensors")


def compare(first: Path, second: Path) -> int:
    """Prints what differs and by how much; how many results do."""
    differing = total = 0
    for kind in KINDS:
        paths = [folder / f"{kind}.safetensors" for folder in (first, second)]
        if not all(path.exists() for path in paths):
            continue
        before, after = (load_file(path) for path in paths)
        for name in sorted(before.keys() ^ after.keys()):
            print(f"only in {'the first' if name in before else 'the second'}: {name}")
        for name in sorted(before.keys() & after.keys()):
            total += 1
            a, b = before[name], after[name]
            same = a.shape == b.shape and a.dtype == b.dtype
            if same and torch.equal(a.flatten().view(torch.uint8), b.flatten().view(torch.uint8)):
                continue
            differing += 1
            if a.shape != b.shape:
                print(f"shape {tuple(a.shape)} -> {tuple(b.shape)}: {name}")
                continue
            off = (a.double() - b.double()).abs()
            print(f"{int((off > 0).sum())} of {off.numel()} entries, max {off.max():.2e}: {name}")
    print(json.dumps({"results": total, "differing": differing}))
    return differing


def between(commits: list[str], out: Path, kinds: list[str]) -> int:
    """Each commit's own script in a worktree of it, then the comparison."""
    root = Path(__file__).resolve().parent.parent
    for commit in commits:
        with tempfile.TemporaryDirectory() as folder:
            tree = Path(folder) / "tree"
            subprocess.run(["git", "worktree", "add", "-q", tree, commit], cwd=root, check=True)
            try:
                there = os.environ | {"PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
                script = tree / "benchmarks" / "bits.py"
                command = [sys.executable, script, "one", out.resolve() / commit, "--only", *kinds]
                subprocess.run(command, cwd=tree / "benchmarks", env=there, check=True)
            finally:
                subprocess.run(["git", "worktree", "remove", "--force", tree], cwd=root, check=True)
    return compare(*(out / commit for commit in commits))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("one", "between", "compare"))
    parser.add_argument("names", nargs="+", help="a folder; two commits and a folder; two folders")
    parser.add_argument("--only", nargs="+", choices=tuple(KINDS), default=list(KINDS))
    wanted = parser.parse_args()
    names = wanted.names
    if wanted.what == "one":
        one(Path(names[0]), wanted.only)
    elif wanted.what == "compare":
        sys.exit(compare(Path(names[0]), Path(names[1])) > 0)
    else:
        sys.exit(between(names[:2], Path(names[2]), wanted.only) > 0)


if __name__ == "__main__":
    main()

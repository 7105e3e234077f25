"""Compiled passes: the same training up to rounding, or a word on why not."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from killed import DATA, SHORT, small
from notbugs.core.errors import DataError
from notbugs.models import folded_copy
from notbugs.training import Adversary, named, train, trainer
from notbugs.training.named import ADVERSARIAL, PLAIN

CRAFTED = replace(SHORT, epochs=1, adversary=Adversary("linf:0.05", steps=2))
ROUND = replace(SHORT, adversary=Adversary("l2:0.5", steps=2))
REFUSED = ("scaled-gradient", "rotation", "hidden")


def in_part(f, mode):
    """Compiled but for the last stage, which writes code and needs a C++ compiler."""
    return f if mode is None else torch.compile(f, backend="aot_eager", dynamic=False)


def threat_of(name):
    return None if name in PLAIN or name == "rotation" else "linf:0.05"


@pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler here"
)
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # those of the compiler itself
def test_compiled_it_learns_the_same_up_to_rounding() -> None:
    eager, other = (small(0, "mlp", width=8) for _ in range(2))
    plain = train(eager, DATA, CRAFTED, seed=3)
    done = train(other, DATA, CRAFTED, seed=3, compile_mode="default")
    assert done.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], rel=1e-3)
    ours, theirs = eager.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    for name in ours:
        torch.testing.assert_close(theirs[name], ours[name], atol=5e-3, rtol=1e-2)


@pytest.mark.filterwarnings("ignore")  # those of the compiler itself
@pytest.mark.parametrize(
    "name",
    [
        name if name in ("pgd", "free", "standard") else pytest.param(name, marks=pytest.mark.slow)
        for name in (*ADVERSARIAL, "standard", "distillation")
        if name not in REFUSED
    ],
)
def test_every_recipe_can_be_compiled(name, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (trainer, folded_copy):
        monkeypatch.setattr(module, "compiled", in_part)
    recipe = named(name, replace(SHORT, epochs=1), CRAFTED, threat_of(name))
    recipe = replace(recipe, epochs=1, batch_size=32)
    # First the plain one, which uses up the checks of annotations: they cannot be compiled.
    kind = "resnet8" if name == "pgd" else "mlp"  # with norms, which take long, once
    plain = train(small(0, kind, width=2), DATA, recipe, seed=0)
    done = train(small(0, kind, width=2), DATA, recipe, seed=0, compile_mode="default")
    assert done.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], rel=1e-3)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_compiled_is_refused_before_the_work(name) -> None:
    recipe = named(name, SHORT, ROUND if name == "rotation" else CRAFTED, threat_of(name))
    with pytest.raises(ValueError, match=r"`compile_mode` must be left out with"):
        train(small(), DATA, recipe, seed=0, compile_mode="default")


@pytest.mark.filterwarnings("ignore")  # those of the compiler itself
def test_a_checkpoint_of_another_mode_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    train(small(), DATA, replace(SHORT, epochs=1), seed=0, checkpoint_path=path)
    with pytest.raises(DataError, match="mode of compilation"):
        train(
            small(), DATA, replace(SHORT, epochs=1), seed=0, checkpoint_path=path,
            compile_mode="default",
        )  # fmt: skip


def test_an_unknown_mode_is_refused_before_the_work() -> None:
    with pytest.raises(ValueError, match="reduce-overhead"):
        train(small(), DATA, SHORT, seed=0, compile_mode="reduce-overheads")


def test_without_a_compiler_it_says_what_is_missing(tmp_path: Path) -> None:
    command = (
        "from killed import DATA, SHORT, small\n"
        "from notbugs.training import train\n"
        "train(small(0, 'mlp', width=2), DATA, SHORT, seed=0, compile_mode='default')\n"
    )
    env = {
        **{k: v for k, v in os.environ.items() if k not in ("CXX", "CC")},
        "PATH": str(tmp_path),
        "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache"),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }
    found = subprocess.run(
        [sys.executable, "-c", command], env=env, capture_output=True, text=True, check=False
    )
    assert found.returncode != 0
    last = found.stderr.strip().splitlines()[-1]
    assert "TrainingError: torch could not compile the model" in last
    assert "needs a C++ compiler such as g++" in last

"""Compiled passes: the same training up to rounding, or a word on why not."""

import os
import shutil
import subprocess
import sys
from dataclasses import replace

import pytest
import torch

from killed import DATA, SHORT, small
from notbugs.training import Adversary, train

CRAFTED = replace(SHORT, epochs=1, adversary=Adversary("linf:0.05", steps=2))


@pytest.mark.skipif(
    not (shutil.which("g++") or shutil.which("clang++")), reason="no C++ compiler here"
)
@pytest.mark.filterwarnings("ignore")  # those of the compiler itself
def test_compiled_it_learns_the_same_up_to_rounding():
    eager, other = (small(0, "resnet8", width=2) for _ in range(2))
    plain = train(eager, DATA, CRAFTED, seed=3)
    done = train(other, DATA, CRAFTED, seed=3, compile_mode="default")
    assert done.history[0]["loss"] == pytest.approx(plain.history[0]["loss"], rel=1e-3)
    ours, theirs = eager.state_dict(), other.state_dict()
    assert list(ours) == list(theirs)
    for name in ours:
        torch.testing.assert_close(theirs[name], ours[name], atol=5e-3, rtol=1e-2)


def test_an_unknown_mode_is_refused_before_the_work():
    with pytest.raises(ValueError, match="reduce-overhead"):
        train(small(), DATA, SHORT, seed=0, compile_mode="reduce-overheads")


def test_without_a_compiler_it_says_what_is_missing(tmp_path):
    command = (
        "from killed import DATA, SHORT, small\n"
        "from notbugs.training import train\n"
        "train(small(), DATA, SHORT, seed=0, compile_mode='default')\n"
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

"""What a search holds does not grow with its steps."""

import resource
import subprocess
import sys

import pytest

CHILD = """
import resource, sys, torch
from notbugs.models import build
from notbugs.representations import *
torch.set_num_threads(1)
model = build("cnn", shape=(3, 32, 32), classes=10, seed=0, options={"width": 4})
x = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
run = {
    "normalised": lambda steps: invert_images(model, x, solver=inversion(steps, 0.1)),
    "lbfgs": lambda steps: invert_images(model, x, solver=lbfgs_inversion(steps)),
    "waves": lambda steps: visualise(model, solver=fourier_solver(steps)),
}[sys.argv[1]]
run(15)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
run(150)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(not hasattr(resource, "RUSAGE_SELF"), reason="no peak memory here")
@pytest.mark.parametrize("rule", ["normalised", "lbfgs", "waves"])
def test_ten_times_the_steps_need_no_more_memory(rule) -> None:
    """One image batch more a step would be 135 x 0.75 MiB."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, rule], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 20 * 1024

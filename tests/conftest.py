"""Shape annotations are checked in every test: jaxtyping and beartype watch the package."""

import os
import sys
import tempfile
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import typecheck

typecheck.install("notbugs")
torch.set_num_threads(1)
os.environ["NOTBUGS_CACHE"] = tempfile.mkdtemp(prefix="notbugs-test-cache-")  # not the user's


@pytest.fixture(autouse=True)
def _checked_again(request: pytest.FixtureRequest) -> None:
    """Annotations are checked anew in each test function, not for each set of its parameters."""
    if request.node.originalname != getattr(request.module, "_checked", None):
        typecheck.calls.clear()
        request.module._checked = request.node.originalname


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Weights and images that a test draws without a key are the same in every run."""
    torch.manual_seed(0)


@pytest.hookimpl(optionalhook=True)  # of pytest-xdist
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """A worker runs all tests of a file, which share fixtures; of the papers' laws, a paper's."""
    from xdist.scheduler import LoadFileScheduling

    class ByPaper(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return file + nodeid.partition("[")[2] if file.endswith("test_papers.py") else file

    return ByPaper(config, log)

"""A store of its own for each file of tests."""

import pytest

from notbugs.experiments.experiment import Work
from notbugs.store import Store


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Work:
    folder = tmp_path_factory.mktemp("work")
    return Work(folder, Store(folder / "store"))

"""Weights of a small model, and an empty zoo."""

from pathlib import Path
from typing import Any

import pytest

import notbugs as nb
from notbugs.models import save_model

FACTS = {
    "dataset": "digits",
    "split": {"seed": 0, "train_size": None, "test_size": 40},
    "command": "notbugs train --out model",
    "recipe": {"epochs": 4},
}


@pytest.fixture
def facts() -> dict[str, Any]:
    """What those weights record."""
    return dict(FACTS)


@pytest.fixture(scope="session")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A linear model of digits, whose split has 40 test images."""
    parts = nb.split(nb.load_source("digits"), seed=0, train_size=400)
    model = nb.build("linear", shape=(1, 8, 8), classes=10, seed=0)
    nb.train(model, parts.train, nb.Recipe(epochs=4, lr=0.1), seed=0)
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    save_model(model, path, metadata=FACTS)
    return path


@pytest.fixture(autouse=True)
def zoo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's folder of models, empty."""
    monkeypatch.setenv("NOTBUGS_ZOO", str(tmp_path / "zoo"))
    return tmp_path / "zoo"


@pytest.fixture(scope="session")
def evaluated(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model of the name `mine` and the card of its evaluation."""
    folder = tmp_path_factory.mktemp("evaluated")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NOTBUGS_ZOO", str(folder))
        nb.zoo.add(weights, "mine", "l2:2", evaluation=True)
    return folder / "mine"


@pytest.fixture
def mine(evaluated: Path, zoo: Path) -> nb.zoo.Entry:
    """A copy of that model in the user's zoo, to be damaged."""
    (zoo / "mine").mkdir(parents=True)
    for path in evaluated.iterdir():
        (zoo / "mine" / path.name).write_bytes(path.read_bytes())
    return nb.zoo.find("mine")

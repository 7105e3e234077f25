"""Two small nets of the digits, and an explorer of them, made once for all tests here."""

import pytest

from browser import Page
from notbugs.app import QUICK, Explorer, Subjects, explored
from notbugs.data import load_source, split
from notbugs.models import build
from notbugs.store import Store
from notbugs.training import Recipe, train


@pytest.fixture(scope="session")
def subjects() -> Subjects:
    parts = split(load_source("digits"), seed=0, train_size=500)
    options, models = {"width": 8, "hidden": 16}, {}
    for seed, name in enumerate(("standard", "other <b>")):
        models[name] = build("cnn", shape=(1, 8, 8), classes=10, seed=seed, options=options)
        train(models[name], parts.train, Recipe(epochs=12, batch_size=32, lr=0.1), seed=seed)
    return Subjects(models, parts.train, parts.test)


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return Store(tmp_path_factory.mktemp("explorer") / "store")


@pytest.fixture(scope="session")
def explorer(subjects, store) -> Explorer:
    return explored(subjects, store, once=QUICK)


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory):
    """One browser for all tests."""
    page = Page(tmp_path_factory.mktemp("profile"))
    yield page
    page.close()

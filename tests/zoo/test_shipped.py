"""The models that ship with the package: small, described truly, and found."""

import re
from pathlib import Path

import pytest

import notbugs as nb
from notbugs.zoo.index import SHIPPED
from notbugs.zoo.verifying import weights_checks

NAMES = sorted(path.name for path in SHIPPED.iterdir())
MNIST = "mnist-cnn-l2"
IMAGES = 50


def test_they_are_few_small_and_of_several_kinds() -> None:
    cards = [nb.zoo.find(name).card for name in NAMES]
    assert 4 <= len(cards) <= 8
    assert all(card.evaluation is not None and card.command for card in cards)
    assert {card.threat.partition(":")[0] for card in cards} >= {"l2", "linf"}
    files = [path for path in SHIPPED.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"model.safetensors", "card.json", "card.md"}
    assert all(path.stat().st_size < 300_000 for path in files)
    assert sum(path.stat().st_size for path in files) < 1_500_000


@pytest.mark.parametrize("attacks", [1, pytest.param(None, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", [name for name in NAMES if name != MNIST])
def test_each_card_is_what_is_measured(name, attacks) -> None:
    checks = nb.zoo.verify(nb.zoo.find(name), count=IMAGES, attacks=attacks)
    assert [check for check in checks if not check.same] == []
    assert f"first {IMAGES} images" in checks[-1].name


@pytest.mark.parametrize("name", NAMES)
def test_each_card_is_of_its_weights_and_each_page_of_its_card(name) -> None:
    checks = weights_checks(nb.zoo.find(name))
    assert [check for check in checks if not check.same] == []
    assert {"SHA-256 of the weights", "parameters", "card.md"} <= {check.name for check in checks}


def test_nothing_of_the_machine_that_made_them_is_in_them() -> None:
    for path in SHIPPED.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not any(word in content for word in (b"/tmp", b"/home", b"/root"))


def test_the_python_of_the_docs_runs(capsys: pytest.CaptureFixture[str]) -> None:
    text = (Path(__file__).parents[2] / "docs" / "zoo.md").read_text()
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    names: dict = {}
    exec(code, names)
    card = names["card"]
    printed = f"{card.model_info.clean_acc} {card.robust} l2:0.5 notbugs train --recipe pgd"
    assert capsys.readouterr().out.startswith(printed)
    assert names["model"].architecture == "cnn"


def test_they_are_in_the_package() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text()
    assert '"zoo/models/*/*"' in text

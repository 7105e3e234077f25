"""`notbugs zoo` as a user meets it."""

import json
from pathlib import Path

import pytest

import notbugs as nb
from notbugs.cli import main
from notbugs.core.errors import DataError
from notbugs.engine import Threat
from notbugs.judge import evaluation_attacks, identity
from notbugs.judge.ledger import state_file
from notbugs.zoo.card import CARD, PAGE
from notbugs.zoo.evaluation import read_evaluation, sha256_of


def said(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
    if code:
        with pytest.raises(SystemExit) as caught:
            main(["zoo", *map(str, arguments)])
        assert caught.value.code == code
    else:
        main(["zoo", *map(str, arguments)])
    return "".join(capsys.readouterr())


@pytest.fixture(scope="module")
def verdict(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a standard evaluation."""
    path = tmp_path_factory.mktemp("verdict") / "v.json"
    main(["evaluate", str(weights), "--threat", "l2:2", "--json", str(path)])
    return path


def test_models_are_listed_and_shown(
    mine: nb.zoo.Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    info = mine.card.model_info
    (row,) = [line for line in said(capsys, "list").splitlines() if line.split()[:1] == ["mine"]]
    assert row.split() == ["mine", "digits", "linear", info.clean_acc, info.autoattack_acc,
                           "l2:2", f"{mine.card.bytes / 1000:.0f}"]  # fmt: skip
    for options, there in (
        (("--dataset", "digits", "--threat", "l2"), True),
        (("--threat", "l2:2.0"), True),
        (("--threat", "linf"), False),
        (("--dataset", "mnist"), False),
    ):
        assert ("mine" in said(capsys, "list", *options)) == there
    shown = said(capsys, "show", "mine")
    assert nb.zoo.page_of(mine.card) in shown
    assert str(mine.weights) in shown
    assert "Did you mean 'mine'?" in said(capsys, "show", "mime", code=2)


def test_a_damaged_card_does_not_hide_the_others(
    mine: nb.zoo.Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    (mine.folder / CARD).write_text("{}")
    shown = said(capsys, "list")
    assert "digits-linear" in shown
    assert "mine/card.json' is damaged: /" in shown


def test_an_evaluation_that_was_made_is_taken(
    weights: Path, verdict: Path, mine: nb.zoo.Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("add", weights, "--name", "given", "--threat", "l2:2")
    shown = said(capsys, *given, "--verdict", verdict)
    card = nb.zoo.find("given").card
    assert card.evaluation == mine.card.evaluation
    assert f"clean {card.model_info.clean_acc} %, robust {card.robust} % at l2:2" in shown
    both = said(capsys, *given, "--verdict", verdict, "--evaluate", code=2)
    assert "`--verdict` must be left out with --evaluate" in both


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights_sha256": "0" * 64}, "weights_sha256 is 000"),
        ({"images_digest": "0" * 64}, "images_digest is 000"),
        ({"threat": "l2:0.1"}, "threat is l2:0.1, not l2:2"),
        ({"samples": 4}, "samples is 4, not 1"),
        ({"method": ["pgd"]}, "is not of the standard evaluation"),
        ({"outcomes": "RRR"}, "images_digest is"),
        ({"seed": None}, "seed: expected an integer, got null"),
    ],
)
def test_an_evaluation_of_something_else_is_refused(
    change, words, weights: Path, verdict: Path, tmp_path: Path
) -> None:
    data = nb.split(nb.load_source("digits"), seed=0, test_size=40).test
    of = {"weights": sha256_of(weights), "data": data, "threat": Threat.parse("l2:2")}
    assert read_evaluation(verdict, **of).outcomes
    (tmp_path / "v.json").write_text(json.dumps(json.loads(verdict.read_text()) | change))
    with pytest.raises(DataError) as caught:
        read_evaluation(tmp_path / "v.json", **of)
    assert words in str(caught.value)


def test_an_interrupted_evaluation_resumes(
    weights: Path, mine: nb.zoo.Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = nb.split(nb.load_source("digits"), seed=0, test_size=40).test
    threat = Threat.parse("l2:2")
    model = nb.load_model(weights)
    state = state_file(identity(model, data, threat, evaluation_attacks("standard", threat), 0))

    def stop(fraction: float) -> None:
        if state.exists() and fraction > 0.2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        nb.zoo.add(weights, "stopped", threat, evaluation=True, progress=stop)
    assert "stopped" not in nb.zoo.entries()
    assert state.exists()
    entry = nb.zoo.add(weights, "stopped", threat, evaluation=True)
    assert not state.exists()
    assert entry.card.evaluation == mine.card.evaluation


def test_a_true_card_is_verified(mine: nb.zoo.Entry, capsys: pytest.CaptureFixture[str]) -> None:
    shown = said(capsys, "verify", "mine", "--count", "10")
    assert "All 12 statements were measured as the card says." in shown
    assert "first 10 images at l2:2" in shown
    assert "DIFFERS" not in shown
    with pytest.raises(ValueError, match="`count` must be at least 1"):
        nb.zoo.verify(mine, count=0)


@pytest.mark.parametrize(
    "what", ["outcome", "clean", "robust", "digest", "images", "weights", "recipe"]
)
def test_a_false_card_is_found_out(
    what, mine: nb.zoo.Entry, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = mine.folder / CARD
    card = json.loads(path.read_text())
    outcomes = card["evaluation"]["outcomes"]
    if what == "outcome":
        card["evaluation"]["outcomes"] = "R" + outcomes[1:]
    elif what == "clean":
        card["model_info"]["clean_acc"] = "99.99"
    elif what == "robust":
        card["model_info"]["autoattack_acc"] = "99.99"
    elif what == "digest":
        card["sha256"] = "0" * 64
    elif what == "images":
        card["trained_on"]["test_digest"] = "0" * 64
    elif what == "recipe":
        card["recipe"] = {"epochs": 5}
    else:  # the same architecture, other weights
        model = nb.build("linear", shape=(1, 8, 8), classes=10, seed=1)
        nb.save_model(model, mine.weights, metadata={"recipe": card["recipe"]})
    path.write_text(json.dumps(card))
    (mine.folder / PAGE).write_text(nb.zoo.page_of(nb.zoo.Entry(mine.folder).card))
    shown = said(capsys, "verify", "mine", "--count", "5", "--attacks", "1", code=1)
    differ = [line for line in shown.splitlines() if line.startswith("DIFFERS")]
    names = {"outcome": "first 5 images", "clean": "clean accuracy", "robust": "robust accuracy",
             "digest": "SHA-256 of the weights", "images": "test images",
             "weights": "SHA-256 of the weights", "recipe": "recipe"}  # fmt: skip
    assert any(names[what] in line for line in differ), shown
    assert "The card and what was measured differ in" in shown
    if what == "outcome":
        assert "(image 0: robust, broken by APGD-100)" in shown

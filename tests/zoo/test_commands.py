"""`notbugs zoo` as a user meets it."""

import json
import sys
from pathlib import Path

import pytest
import torch

import notbugs as nb
from notbugs.cli import main
from notbugs.core.errors import DataError, StoreError
from notbugs.engine import Threat
from notbugs.judge import evaluation_attacks, identity
from notbugs.judge.ledger import state_file
from notbugs.zoo.card import CARD, PAGE
from notbugs.zoo.evaluation import read_evaluation, sha256_of, standard_of


def output_of(capsys: pytest.CaptureFixture[str], *arguments: object, code: int = 0) -> str:
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
    lines = output_of(capsys, "list").splitlines()
    (row,) = [line for line in lines if line.split()[:1] == ["mine"]]
    assert row.split() == ["mine", "digits", "linear", info.clean_acc, info.autoattack_acc,
                           "l2:2", f"{mine.card.bytes / 1000:.0f}"]  # fmt: skip
    for options, there in (
        (("--dataset", "digits", "--threat", "l2"), True),
        (("--threat", "l2:2.0"), True),
        (("--threat", "linf"), False),
        (("--dataset", "mnist"), False),
    ):
        assert ("mine" in output_of(capsys, "list", *options)) == there
    shown = output_of(capsys, "show", "mine")
    assert nb.zoo.page_of(mine.card) in shown
    assert str(mine.weights) in shown
    assert "Did you mean 'mine'?" in output_of(capsys, "show", "mime", code=2)


def test_a_damaged_card_does_not_hide_the_others(
    mine: nb.zoo.Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    (mine.folder / CARD).write_text("{}")
    shown = output_of(capsys, "list")
    assert "digits-linear" in shown
    assert "mine/card.json' is damaged: /" in shown


def test_an_evaluation_that_was_made_is_taken(
    weights: Path, verdict: Path, mine: nb.zoo.Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("add", weights, "--name", "given", "--threat", "l2:2")
    shown = output_of(capsys, *given, "--verdict", verdict)
    card = nb.zoo.find("given").card
    assert card.evaluation == mine.card.evaluation
    assert f"clean {card.model_info.clean_acc} %, robust {card.robust} % at l2:2" in shown
    both = output_of(capsys, *given, "--verdict", verdict, "--evaluate", code=2)
    assert "`--verdict` must be left out with --evaluate" in both


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weights_sha256": "0" * 64}, "weights_sha256 is 000"),
        ({"images_digest": "0" * 64}, "images_digest is 000"),
        ({"threat": "l2:0.1"}, "threat is l2:0.1, not l2:2"),
        ({"samples": 4}, "samples is 4, not 1"),
        ({"method": ["pgd"]}, "is not of the standard evaluation"),
        ({"method": []}, "is not of the standard evaluation"),
        ({"method": ["standard", "pgd"]}, "is not of the standard evaluation"),
        ({"attacks": [{"name": "FGSM", "copy": "own"}]}, "attacks APGD-100, APGD-T-100, FAB-T"),
        ({"attacks": [{}]}, "/attacks/0/copy: expected text, got nothing"),
        ({"left_out": ["FAB-T-100"]}, "is not of the standard evaluation"),
        ({"masking": [{"check": "a"}]}, "/masking/0/evidence: expected text, got nothing"),
        ({"outcomes": "RRR"}, "images_digest is"),
        ({"seed": None}, "seed: expected an integer, got null"),
    ],
)
def test_an_evaluation_of_something_else_is_refused(
    change, words, weights: Path, verdict: Path, tmp_path: Path
) -> None:
    data = nb.split(nb.load_source("digits"), seed=0, test_size=40).test
    threat = Threat.parse("l2:2")
    of = {
        "weights": sha256_of(weights),
        "data": data,
        "threat": threat,
        "standard": standard_of(nb.load_model(weights), data, threat),
    }
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


def test_a_finished_evaluation_is_kept_until_its_card_is_written(
    weights: Path, mine: nb.zoo.Entry, zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = nb.split(nb.load_source("digits"), seed=0, test_size=40).test
    threat, model = Threat.parse("l2:2"), nb.load_model(weights)
    state = state_file(identity(model, data, threat, evaluation_attacks("standard", threat), 0))

    def appear(fraction: float) -> None:
        if fraction == 1.0 and not (zoo / "late").exists():
            (zoo / "late").mkdir()
            (zoo / "late" / "notes.txt").write_text("mine")

    with pytest.raises(StoreError, match="late' is already there"):
        nb.zoo.add(weights, "late", threat, evaluation=True, progress=appear)
    assert (zoo / "late" / "notes.txt").read_text() == "mine"
    assert sorted(path.name for path in zoo.iterdir()) == ["late", "mine"]
    assert state.exists()

    def run_again(*given, **options) -> None:
        raise AssertionError("an attack ran again")

    with monkeypatch.context() as patch:
        patch.setattr(sys.modules["notbugs.judge.evaluate"]._Run, "_batch", run_again)
        entry = nb.zoo.add(weights, "later", threat, evaluation=True)
    assert entry.card.evaluation == mine.card.evaluation
    assert not state.exists()


def test_what_cannot_be_written_is_found_out_before_the_evaluation(
    weights: Path, zoo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def evaluate(*given, **options) -> None:
        raise AssertionError("it was evaluated")

    monkeypatch.setattr("notbugs.zoo.adding.evaluate", evaluate)
    zoo.write_text("a file in the folder's place")
    with pytest.raises(StoreError, match="Cannot write"):
        nb.zoo.add(weights, "mine", "l2:2", evaluation=True)


def test_a_true_card_is_verified(mine: nb.zoo.Entry, capsys: pytest.CaptureFixture[str]) -> None:
    shown = output_of(capsys, "verify", "mine", "--count", "10")
    assert "These 17 statements are as the card says. Not measured: the outcomes" in shown
    assert "first 10 images at l2:2" in shown
    assert "DIFFERS" not in shown
    with pytest.raises(ValueError, match="`count` must be at least 1"):
        nb.zoo.verify(mine, count=0)


def forged(entry: nb.zoo.Entry, change: dict) -> None:
    """Puts other values into a card (a dict changes a part), and makes its page again."""
    path = entry.folder / CARD
    card = json.loads(path.read_text())
    for name, value in change.items():
        card[name] = (card[name] or {}) | value if isinstance(value, dict) else value
    path.write_text(json.dumps(card))
    (entry.folder / PAGE).write_text(nb.zoo.page_of(nb.zoo.Entry(entry.folder).card))


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"model_info": {"clean_acc": "99.99"}}, "clean accuracy"),
        ({"sha256": "0" * 64}, "SHA-256 of the weights"),
        ({"recipe": {"epochs": 5}}, "recipe"),
        ({"command": "notbugs train --epochs 500"}, "command"),
        ({"trained_on": {"test_digest": "0" * 64}}, "test digest"),
        ({"trained_on": {"train_digest": "0" * 64}}, "train digest"),
        ({"trained_on": {"test_images": 4000}}, "test images"),
        ({"trained_on": {"split": {"seed": 1, "train_size": None, "test_size": 40}}}, "split"),
        ({"trained_on": {"dataset": "mnist"}, "model_info": {"dataset": "mnist"}}, "dataset"),
        ({"evaluation": {"left_out": ["FAB-T-100"]}}, "left out"),
    ],
)
def test_a_false_card_is_found_out(
    change, name, mine: nb.zoo.Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    forged(mine, change)
    shown = output_of(capsys, "verify", "mine", "--count", "5", "--attacks", "1", code=1)
    (differs,) = [line for line in shown.splitlines() if line.startswith("DIFFERS")]
    assert name in differs
    assert "The card and what was measured differ in 1 of 17." in shown


def test_other_attacks_than_the_standard_ones_are_found_out(
    mine: nb.zoo.Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    forged(mine, {"evaluation": {"attacks": ["FGSM"], "copies": ["own"]}})
    shown = output_of(capsys, "verify", "mine", "--count", "5", "--attacks", "1", code=1)
    assert "DIFFERS  attacks: ('FGSM',)" in shown


@pytest.mark.parametrize(("letter", "word"), [("R", "robust"), ("U", "neither")])
def test_false_outcomes_are_found_out(
    letter, word, mine: nb.zoo.Entry, capsys: pytest.CaptureFixture[str]
) -> None:
    assert mine.card.evaluation is not None
    outcomes = letter + mine.card.evaluation.outcomes[1:]
    robust = f"{100 * outcomes.count('R') / len(outcomes):.2f}"
    forged(mine, {"evaluation": {"outcomes": outcomes}, "model_info": {"autoattack_acc": robust}})
    for attacks in ((), ("--attacks", "1")):
        shown = output_of(capsys, "verify", "mine", "--count", "5", *attacks, code=1)
        assert f"(image 0: {word}, broken by APGD-100)" in shown


def test_images_that_are_neither_broken_nor_robust_do_not_pass_as_robust(
    mine: nb.zoo.Entry, weights: Path, facts, tmp_path: Path
) -> None:
    """A model whose logits overflow under attacks: pixels that are black in all images count."""
    model = nb.load_model(weights)
    black = nb.load_source("digits").train.pixels(slice(0, None)).flatten(1).amax(dim=0) == 0
    assert black.any()
    weight = model.get_parameter("body.head.weight")
    with torch.no_grad():
        weight[:, black] = 3e38
    nb.save_model(model, tmp_path / "w.safetensors", metadata=facts)
    entry = nb.zoo.add(tmp_path / "w.safetensors", "overflows", "l2:0.5")
    stated = json.loads((mine.folder / CARD).read_text())["evaluation"]
    for outcomes, robust, differs in (
        ("UU", "0.00", []),
        ("RR", "100.00", [("2 robust", "2 neither")]),
    ):
        evaluation, info = {**stated, "outcomes": outcomes}, {"autoattack_acc": robust}
        forged(entry, {"evaluation": evaluation, "model_info": info})
        checks = nb.zoo.verify(nb.zoo.Entry(entry.folder), count=2, attacks=1)
        differ = [(c.card, str(c.measured).partition(" (image")[0]) for c in checks if not c.same]
        assert differ == differs


def test_other_weights_are_found_out(
    mine: nb.zoo.Entry, facts, capsys: pytest.CaptureFixture[str]
) -> None:
    model = nb.build("linear", shape=(1, 8, 8), classes=10, seed=1)
    nb.save_model(model, mine.weights, metadata=facts)
    shown = output_of(capsys, "verify", "mine", "--count", "5", "--attacks", "1", code=1)
    assert "DIFFERS  SHA-256 of the weights" in shown

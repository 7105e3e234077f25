"""Cards: what they say, and that damaged ones are refused."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

import notbugs as nb
from notbugs.core.errors import DataError, StoreError
from notbugs.engine import Threat
from notbugs.judge import accuracy, evaluate
from notbugs.models import read_metadata, save_model
from notbugs.zoo.card import CARD, PAGE
from notbugs.zoo.evaluation import outcomes_of

THREAT = "l2:2"
"""It breaks all images at once, so that no attack runs for long."""
ROBUSTBENCH = {
    "link", "name", "authors", "additional_data", "number_forward_passes", "dataset", "venue",
    "architecture", "eps", "clean_acc", "reported", "autoattack_acc", "footnote", "unreliable",
}  # fmt: skip
"""The fields of RobustBench's model_info/cifar10/L2/Wang2023Better_WRN-28-10.json."""
SUSPICIOUS = {"check": "zero gradients", "evidence": "in 90.0%", "verdict": "suspicious"}


def changed(entry: nb.zoo.Entry, **changes) -> nb.zoo.Entry:
    """The entry with other values in its card; a dict changes values of a part."""
    path = entry.folder / CARD
    content = json.loads(path.read_text())
    for name, value in changes.items():
        content[name] = content[name] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(content))
    return nb.zoo.Entry(entry.folder)


def test_a_card_says_what_was_measured(mine: nb.zoo.Entry, weights) -> None:
    card, facts = mine.card, read_metadata(weights)
    model = nb.load_model(weights)
    test = nb.split(nb.load_source("digits"), seed=0, test_size=40).test
    verdict = evaluate(model, test, Threat.parse(THREAT))
    info = card.model_info
    assert set(asdict(info)) == ROBUSTBENCH
    assert info.clean_acc == f"{accuracy(model, test):.2f}"
    assert info.autoattack_acc == f"{verdict.robust_accuracy:.2f}"
    assert float(info.autoattack_acc) < float(info.clean_acc)
    assert (info.eps, info.dataset, info.unreliable) == ("2", "digits", verdict.is_upper_bound)
    assert (card.threat, card.architecture, card.parameters) == (THREAT, "linear", 650)
    assert (card.trained_on.test_digest, card.trained_on.test_images) == (test.digest, 40)
    assert (card.recipe, card.command) == (facts["recipe"], facts["command"])
    assert card.evaluation is not None
    assert card.evaluation.outcomes == outcomes_of(verdict)
    assert card.evaluation.ci95 == verdict.ci95
    assert mine.weights.read_bytes() == weights.read_bytes()


def test_outcomes_count_each_image_once() -> None:
    linf = Threat.parse("linf:0.1")
    rows = {"R": (True, True, -1), "b": (True, False, 1), "W": (False, False, -1),
            "U": (True, False, -1)}  # fmt: skip
    right, robust, by = zip(*rows.values(), strict=True)
    verdict = nb.judge.Verdict(
        linf, torch.tensor(right), torch.tensor(robust), torch.tensor(by), (), 0.0, 0, 0.0,
        torch.zeros(4, dtype=torch.bool), torch.zeros(4, dtype=torch.bool),
    )  # fmt: skip
    assert outcomes_of(verdict) == "".join(rows)


def test_fewer_attacks_leave_more_robust() -> None:
    evaluation = nb.zoo.Evaluation(
        ("A", "B", "C"),
        ("own",) * 3,
        (),
        0,
        "aRbWcU",
        given_up=0,
        missed=0,
        masking=(),
        versions={},
    )
    by_first = [evaluation.by_first(n) for n in (1, 2, 3, 4)]
    assert by_first == ["aRRWRU", "aRbWRU", "aRbWcU", "aRbWcU"]
    assert evaluation.robust_accuracy == pytest.approx(100 / 6)
    with pytest.raises(ValueError, match=r"one for each attack \(ab\); got 'abc'"):
        replace(evaluation, attacks=("A", "B"), copies=("own",) * 2, outcomes="abc").check(3)
    with pytest.raises(ValueError, match=r"be named, each with its copy; got 3 and 2 of them"):
        replace(evaluation, copies=("own",) * 2).check(6)


def test_conditions_are_on_the_page(mine: nb.zoo.Entry) -> None:
    card = mine.card
    assert card.evaluation is not None
    assert card.evaluation.versions["notbugs"] == nb.__version__
    assert card.evaluation.copies == ("own",) * 4  # a linear model has no faster copy
    assert f"Versions: notbugs {nb.__version__}, torch " in nb.zoo.page_of(card)
    evaluation = replace(
        card.evaluation, copies=("bf16", "own", "own", "own"), left_out=("PGD",), given_up=1200,
        missed=3, outcomes="U" + card.evaluation.outcomes[1:],
    )  # fmt: skip
    info = replace(card.model_info, autoattack_acc=f"{evaluation.robust_accuracy:.2f}")
    page = nb.zoo.page_of(replace(card, evaluation=evaluation, model_info=info))
    for text in (
        "each success confirmed by the model itself: APGD-100 (bf16). ",
        "Left out, for the model has no gradients: PGD. ",
        "gave up 1,200 times where progress was too slow: at most 3 images count as robust",
        "1 neither broken nor robust",
    ):
        assert text in page


def test_an_upper_bound_is_said_wherever_robust_accuracy_is(mine: nb.zoo.Entry) -> None:
    entry = changed(mine, evaluation={"masking": [SUSPICIOUS]}, model_info={"unreliable": True})
    robust = entry.card.model_info.autoattack_acc
    assert entry.row[4] == f"≤ {robust}"
    assert f"is at most {robust} %" in nb.zoo.page_of(entry.card)


def test_the_page_is_made_from_the_card(mine: nb.zoo.Entry) -> None:
    page = (mine.folder / PAGE).read_text()
    assert page == nb.zoo.page_of(mine.card)
    info = mine.card.model_info
    for text in (
        f"clean accuracy is {info.clean_acc} %",
        f"{info.autoattack_acc} %",
        THREAT,
        "notbugs train --out model",
        mine.card.sha256,
        "| Recipe | epochs 4 |",
    ):
        assert text in page
    none = {"autoattack_acc": None}
    other = changed(
        mine, evaluation=None, command="", recipe=None, options={"a": "<b>*c*_"}, model_info=none
    )
    page = nb.zoo.page_of(other.card)
    assert "No robust accuracy was measured" in page
    assert "## Trained by" not in page
    assert "| Recipe | not recorded |" in page
    assert r"a=&lt;b>\*c\*\_" in page


def test_nothing_in_a_card_is_read_as_markup(mine: nb.zoo.Entry) -> None:
    nasty = "` <script> | & **b** [a](b)"
    shown = r"\` &lt;script> \| &amp; \*\*b\*\* \[a\](b)"
    entry = changed(
        mine,
        command="a\n```\n# b",
        model_info={"authors": nasty, "footnote": nasty},
        evaluation={"attacks": ["<A>", "B", "C", "D"]},
    )
    page = nb.zoo.page_of(entry.card)
    assert "\n````\na\n```\n# b\n````\n" in page
    assert f"| Made by | {shown} |" in page
    assert f"| Notes | {shown} |" in page
    assert "<script>" not in page
    assert "&lt;A>, B, C, D, each on what" in page


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"format": 2}, "`format` must be 1; got 2. Update notbugs"),
        ({"name": "../mine"}, "`name` must be up to 100 letters"),
        ({"threat": "l3:1"}, "Unknown norm 'l3'"),
        ({"sha256": "abc"}, "`digest` must be 64 hexadecimal digits; got 'abc'"),
        ({"classes": "ten"}, 'classes: expected an integer, got "ten"'),
        ({"model_info": {"clean_acc": 97.5}}, "model_info/clean_acc: expected text, got 97.5"),
        ({"model_info": {"clean": "97"}}, "no such key"),
        ({"model_info": {"clean_acc": "<b>"}}, "`clean_acc` must be percent with two decimals"),
        ({"model_info": {"autoattack_acc": "99.99"}}, "`model_info/autoattack_acc` must be "),
        (
            {"model_info": {"unreliable": True}},
            "must be False, as the rest of the card",
        ),
        ({"model_info": {"eps": "8"}}, "`model_info/eps` must be 2, as the rest of the card says"),
        ({"model_info": {"dataset": "mnist"}}, "`model_info/dataset` must be digits"),
        ({"model_info": {"architecture": "cnn"}}, "`model_info/architecture` must be linear"),
        ({"threat": "l2:2.0"}, "`threat` must be written l2:2; got 'l2:2.0'"),
        ({"trained_on": {"train_digest": "abc"}}, "`digest` must be 64 hexadecimal digits"),
        ({"evaluation": {"masking": [SUSPICIOUS]}}, "`model_info/unreliable` must be True"),
        ({"evaluation": {"masking": [{}]}}, "/evaluation/masking/0/check: expected text"),
        ({"evaluation": {"outcomes": "R" * 41}}, "the first of 40 images; got 41"),
        ({"evaluation": {"outcomes": "x" * 40}}, "`outcomes` must be letters R, W, U"),
        ({"more": 1}, "/more: expected no such key"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(mine: nb.zoo.Entry, changes, words) -> None:
    with pytest.raises(DataError) as caught:
        _ = changed(mine, **changes).card
    assert words in str(caught.value)


def test_a_missing_and_a_huge_card_are_refused(
    mine: nb.zoo.Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notbugs.zoo.card.LARGEST", 100)
    with pytest.raises(DataError, match="larger than a card: more than 100 bytes"):
        _ = mine.card
    (mine.folder / CARD).unlink()
    with pytest.raises(DataError, match=r"Cannot read .*card\.json': No such file"):
        _ = nb.zoo.Entry(mine.folder).card


def test_without_an_evaluation_there_is_the_clean_accuracy(weights) -> None:
    card = nb.zoo.add(weights, "quick", THREAT).card
    assert (card.evaluation, card.model_info.autoattack_acc, card.robust) == (None, None, "-")
    assert float(card.model_info.clean_acc) > 60
    assert card.model_info.reported is None
    about = nb.zoo.About(title="A paper", authors="Somebody", reported=56.1)
    card = nb.zoo.add(weights, "told", THREAT, about=about).card
    assert (card.model_info.name, card.model_info.authors) == ("A paper", "Somebody")
    assert card.model_info.reported == "56.10"
    with pytest.raises(ValueError, match="`reported` must be percent, 0 to 100; got 101"):
        nb.zoo.About(reported=101)


def test_a_command_is_taken_where_the_weights_record_none(weights, facts, tmp_path) -> None:
    about = nb.zoo.About(command="make it")
    with pytest.raises(ValueError, match=r"`command` must be left out.*notbugs train --out model"):
        nb.zoo.add(weights, "told", THREAT, about=about)
    del facts["command"]
    save_model(nb.load_model(weights), tmp_path / "w.safetensors", metadata=facts)
    entry = nb.zoo.add(tmp_path / "w.safetensors", "told", THREAT, about=about)
    assert entry.card.command == "make it"
    assert all(check.same for check in nb.zoo.verify(entry, count=1))


def test_the_first_images_can_be_evaluated_alone(mine: nb.zoo.Entry, weights) -> None:
    entry = nb.zoo.add(weights, "few", THREAT, evaluation=True, count=10)
    assert entry.card.evaluation is not None
    assert mine.card.evaluation is not None
    assert entry.card.evaluation.outcomes == mine.card.evaluation.outcomes[:10]
    assert entry.card.model_info.clean_acc == mine.card.model_info.clean_acc  # of all
    assert ", on the first 10 of them, " in nb.zoo.page_of(entry.card)
    checks = nb.zoo.verify(entry, count=20, attacks=1)
    assert all(check.same for check in checks)
    assert checks[-1].name == f"first 10 images at {THREAT}"
    with pytest.raises(ValueError, match="`count` must be at least 1"):
        nb.zoo.add(weights, "none", THREAT, evaluation=True, count=0)


def test_names_that_are_taken_are_refused(weights, mine: nb.zoo.Entry) -> None:
    before = (mine.folder / CARD).read_bytes()
    with pytest.raises(StoreError, match=r"mine' is already there.*--overwrite"):
        nb.zoo.add(weights, "mine", THREAT)
    with pytest.raises(DataError, match=r"Cannot read 'v\.json'"):
        nb.zoo.add(weights, "none", THREAT, evaluation="v.json")
    # The tests' own check of types sees the first two calls alone.
    with pytest.raises(TypeError, match="`evaluation` must be True, False or a path; got NoneType"):
        nb.zoo.add(weights, "none", THREAT, evaluation=None)
    assert (mine.folder / CARD).read_bytes() == before
    entry = nb.zoo.add("zoo:mine", "mine", "linf:0.1", overwrite=True)
    assert (entry.card.threat, entry.weights.read_bytes()) == ("linf:0.1", weights.read_bytes())
    assert [path.name for path in mine.folder.parent.iterdir()] == ["mine"]
    for name in ("", "..", "a/b", ".a", "a b", "a" * 101):
        with pytest.raises(ValueError, match="`name` must be up to 100 letters"):
            nb.zoo.add(weights, name, THREAT)
    with pytest.raises(ValueError, match="differ from those of models in the package"):
        nb.zoo.add(weights, "digits-linear", THREAT, overwrite=True)


@pytest.mark.parametrize("file", ["metrics.jsonl", "model.safetensors", "notes"])
def test_a_folder_that_is_no_model_of_the_zoo_is_not_replaced(
    file, weights, mine: nb.zoo.Entry
) -> None:
    folder = mine.folder
    if file == "model.safetensors":  # nothing but weights
        (folder / CARD).unlink()
        (folder / PAGE).unlink()
    else:
        (folder / file).write_text("mine")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(StoreError, match="is no model of the zoo alone: it is not replaced"):
        nb.zoo.add(weights, "mine", THREAT, overwrite=True)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in folder.parent.iterdir()] == ["mine"]


def test_a_model_stays_where_its_replacement_fails(
    weights, mine: nb.zoo.Entry, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in mine.folder.iterdir()}
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name.endswith(".new"):
            raise OSError(5, "Input/output error")
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", fail)
        with pytest.raises(StoreError, match=r"Cannot write .*mine': Input/output error"):
            nb.zoo.add(weights, "mine", "linf:0.1", overwrite=True)
    assert {path.name: path.read_bytes() for path in mine.folder.iterdir()} == before
    assert [path.name for path in mine.folder.parent.iterdir()] == ["mine"]


def test_of_a_folder_behind_a_link_the_link_alone_is_replaced(
    weights, mine: nb.zoo.Entry, tmp_path: Path
) -> None:
    mine.folder.rename(tmp_path / "elsewhere")
    mine.folder.symlink_to(tmp_path / "elsewhere")
    entry = nb.zoo.add(weights, "mine", "linf:0.1", overwrite=True)
    assert not entry.folder.is_symlink()
    assert entry.card.threat == "linf:0.1"
    assert nb.zoo.Entry(tmp_path / "elsewhere").card.threat == THREAT
    assert [path.name for path in mine.folder.parent.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"recipe": "text"}, '/recipe: expected an object or null, got "text"'),
        ({"command": 5}, "/command: expected text, got 5"),
        ({"train_digest": 5}, "/train_digest: expected text or null, got 5"),
    ],
)
def test_metadata_of_other_types_is_refused(change, words, weights, facts, tmp_path) -> None:
    save_model(nb.load_model(weights), tmp_path / "w.safetensors", metadata=facts | change)
    with pytest.raises(DataError) as caught:
        nb.zoo.add(tmp_path / "w.safetensors", "mine", THREAT, evaluation=True)
    assert words in str(caught.value)
    assert "mine" not in nb.zoo.entries()


def test_weights_that_cannot_have_a_card_are_refused(tmp_path) -> None:
    model = nb.build("linear", shape=(1, 8, 8), classes=10, seed=0)
    save_model(model, tmp_path / "a.safetensors")
    with pytest.raises(DataError, match="does not say which dataset it belongs to"):
        nb.zoo.add(tmp_path / "a.safetensors", "a", "l2:1")
    own = nb.wrap(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)),
                  torch.rand(2, 1, 8, 8))  # fmt: skip
    save_model(own, tmp_path / "b.safetensors", metadata={"dataset": "digits"})
    with pytest.raises(DataError, match="not built in"):
        nb.zoo.add(tmp_path / "b.safetensors", "b", "l2:1")

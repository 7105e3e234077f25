"""`notbugs sparsify`: what it says and records, and what follows it."""

import hashlib
from pathlib import Path

import pytest
import torch

from notbugs.cli import main
from notbugs.data import load_source, split
from notbugs.judge import accuracy
from notbugs.models import build, load, read_metadata, save
from notbugs.models.mean_sparse import operators
from notbugs.training import Recipe, recipe_as_json, train

VAL = split(load_source("digits"), seed=0, train_size=500).val


def run(*words) -> None:
    main([str(word) for word in words])


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    out = tmp_path_factory.mktemp("trained") / "m"
    parts = split(load_source("digits"), seed=0, train_size=500)
    model = build("cnn", shape=(1, 8, 8), classes=10, seed=0, options={"width": 8, "hidden": 16})
    recipe = Recipe(epochs=8, batch_size=32, lr=0.1)
    train(model, parts.train, recipe, seed=0)
    facts = {"dataset": "digits", "split": {"seed": 0, "train_size": 500, "test_size": None}}
    facts["recipe"] = recipe_as_json(recipe)
    save(model, out / "model.safetensors", metadata=facts)
    return out


def alphas(path):
    return {round(float(one.alpha), 4) for one in operators(load(path)[0]).values()}


def test_the_cost_is_said_and_the_file_is_evaluated_by_name(
    trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sparse.safetensors"
    run("sparsify", trained, "--out", out)
    said = " ".join(capsys.readouterr().out.split())
    assert "MeanSparse at alpha 0.2. Clean accuracy on 50 held-out training images" in said
    before, after = (accuracy(load(path)[0], VAL) for path in (trained, out))
    assert f"{before:.1f} % before, {after:.1f} % after" in said
    assert alphas(out) == {0.2}
    facts, old = read_metadata(out), read_metadata(trained)
    digest = hashlib.sha256((trained / "model.safetensors").read_bytes()).hexdigest()
    origin = facts["sparsified_from"]
    assert (origin["weights"], origin["digest"]) == (trained.name, digest)
    assert {k: facts[k] for k in ("dataset", "split", "recipe")} == {
        k: old[k] for k in ("dataset", "split", "recipe")
    }
    run("evaluate", out, "--threat", "l2:0.5", "--method", "pgd", "--count", 20)
    said = " ".join(capsys.readouterr().out.split())
    assert "20 images" in said
    assert "one derivative of MeanSparse" in said
    assert "Robust accuracy at most" in said


def test_both_derivatives_give_the_same_logits(trained, tmp_path: Path) -> None:
    models = []
    for gradient in ("own", "identity"):
        out = tmp_path / f"{gradient}.safetensors"
        run("sparsify", trained, "--alpha", 0.3, "--gradient", gradient, "--out", out)
        assert read_metadata(out)["mean_sparse"]["gradient"] == gradient
        models.append(load(out)[0])
    x = torch.linspace(0, 1, 4 * 64).reshape(4, 1, 8, 8)
    assert torch.equal(models[0](x), models[1](x))
    assert not torch.equal(models[0](x), load(trained)[0](x))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--alpha", -1), "`--alpha` must be a finite number above 0"),
        (("--layers", "trunk.0"), "Unknown activation layer 'trunk.0'"),
        (("--gradient", "idendity"), "Unknown gradient 'idendity'. Did you mean 'identity'?"),
    ],
)
def test_bad_options_are_refused(
    words, message, trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        run("sparsify", trained, *words, "--out", tmp_path / "a.safetensors")
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_training_does_not_start_from_a_sparsified_model(
    trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "sparse.safetensors"
    run("sparsify", trained, "--alpha", 0.1, "--out", out)
    with pytest.raises(SystemExit):
        run("train", "--start", out, "--out", tmp_path / "m")
    assert "Start from the weights before it was sparsified" in capsys.readouterr().err

"""`notbugs features` end to end, of a model and of a dataset."""

import json

import pytest
import torch
from PIL import Image

from notbugs.cli import main
from notbugs.data import Source, load, load_source, save, split
from notbugs.engine import Threat
from notbugs.features import cosine_features, features_of, usefulness
from notbugs.models import build, save_model
from notbugs.zoo import load_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory):
    path = tmp_path_factory.mktemp("features") / "m.safetensors"
    net = build("cnn", shape=(1, 8, 8), classes=10, seed=0, options={"width": 4, "hidden": 6})
    save_model(net, path, metadata={"dataset": "digits", "split": {"seed": 0}})
    return path


def features(tmp_path, *arguments):
    out = tmp_path / "f.png"
    files = ("--out", out, "--json", tmp_path / "f.json")
    main(["features", *map(str, (*arguments, *files))])
    with Image.open(out) as picture:
        assert picture.size[0] > 300
    return json.loads((tmp_path / "f.json").read_text())


def test_cosines_of_a_dataset_are_those_of_the_library(
    tmp_path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = features(tmp_path, "digits", "--cosines", "--count", 80, "--threat", "l2:0.3")
    parts = split(load_source("digits"), seed=0)
    made = cosine_features(parts.train)
    test = parts.test.select(slice(0, 80))
    wanted = usefulness(made, parts.train, test, Threat.parse("l2:0.3"))
    best = wanted.trained.abs().argmax(dim=1, keepdim=True)
    for name in ("rho", "gamma", "rho_error"):
        numbers = torch.tensor([point[name] for point in found["features"]])
        assert torch.allclose(numbers, getattr(wanted, name).gather(1, best)[:, 0].float())
    assert found["bound"] == "exact"
    assert [p["feature"] for p in found["features"]] == made.numbers.tolist()
    said = capsys.readouterr().out
    assert "gamma is exact" in said
    useful = sum(point["kind"] != "useless" for point in found["features"])
    assert f"Useful beyond the interval: {useful};" in said


def test_units_and_components_of_a_model(tmp_path, model) -> None:
    common = (model, "--count", 60, "--steps", 1)
    units = features(tmp_path, *common)
    assert units["bound"] == "upper"
    assert len(units["features"]) <= 6
    assert len(features(tmp_path, *common, "--components", 2)["features"]) == 2
    sure = features(tmp_path, *common, "--certify")
    assert sure["bound"] == "lower"
    pairs = zip(sure["features"], units["features"], strict=True)
    assert all(a["gamma"] <= b["gamma"] + 1e-4 for a, b in pairs)
    assert all(point["kind"] != "non-robust" for point in sure["features"])
    logits = features(tmp_path, *common, "--layer", "logits")
    assert len(logits["features"]) == 10
    kinds = {point["kind"] for point in logits["features"]}
    assert kinds <= {"robust", "non-robust", "useless", "undecided"}


def test_images_that_judge_are_not_those_that_fit(tmp_path, model) -> None:
    """Of a saved set too, and where a folder has the name of a dataset."""
    whole = tmp_path / "set.safetensors"
    save(load_source("digits").train, whole)
    found = features(tmp_path, model, "--data", whole, "--count", 400, "--steps", 1)
    parts = split(Source(whole.name, load(whole), None), seed=0)
    net = load_model(model)
    made = features_of(net, parts.train)
    wanted = usefulness(made, parts.train, parts.test.select(slice(0, 400)), "l2:0.5", steps=1)
    rho = torch.tensor([point["rho"] for point in found["features"]])
    assert torch.allclose(rho, wanted.at_best()["rho"].float(), atol=1e-5)


def test_a_folder_of_a_name_hides_no_dataset(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert features(tmp_path, "digits", "--cosines", "--count", 60)["bound"] == "exact"


def test_eigenfeatures_of_a_dataset(tmp_path) -> None:
    few = ("digits", "--kernel", "--components", 2, "--count", 60, "--steps", 1)
    assert len(features(tmp_path, *few)["features"]) == 2


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        (("digits", "--layer", "logits"), "--layer"),
        (("digits", "--cosines", "--kernel"), "--cosines"),
        (("digits", "--cosines", "--components", 3), "--cosines"),
        (("digits", "--components", 65), "components"),
        (("digits", "--threat", "l3:1"), "l3"),
        (("digits", "--count", 0), "--count"),
        (("digits", "--count", 8), "`--count` must leave test images of every class"),
        (("digits", "--device", "tpu"), "device"),
        (("digits", "--embedding", "trunk"), "--embedding"),
        (("digits", "--certify"), "--certify"),
        (("digits", "--data", "mnist"), "--data"),
        (("digitz",), "Did you mean 'digits'"),
        (("m.safetensors",), "m.safetensors"),
        (("MODEL", "--kernel"), "--kernel"),
        (("MODEL", "--layer", "trunk.77"), "trunk.77"),
        (("digits", "--out", "x.pdf"), "--out"),
    ],
)
def test_bad_input_is_named(
    tmp_path,
    model,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    wrong,
    words,
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as error:
        main(["features", *(str(model) if word == "MODEL" else str(word) for word in wrong)])
    assert error.value.code == 2
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert not (tmp_path / "features.png").exists()

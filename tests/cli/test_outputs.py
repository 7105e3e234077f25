"""No command writes over what it reads, or over what somebody else wrote."""

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from notbugs.cli import main
from notbugs.cli.outputs import inputs_of
from notbugs.core.errors import StoreError
from notbugs.data import export_npz, load_source, save, split
from notbugs.experiments import ilyas2019
from notbugs.experiments.config import config_for
from notbugs.experiments.results import check_files, replace_files
from notbugs.experiments.running import Machine, run
from notbugs.models import build
from notbugs.models import save as save_model
from notbugs.store import SilentObserver, Store
from notbugs.training import Recipe, train

QUICK = ("--threat", "l2:0.5", "--count", "30")
PGD = ("--method", "pgd", "--steps", "1")
SHORT = ("--train-size", "100", "--epochs", "1")
OURS = "model.safetensors"
ILYAS = ("reproduce", "ilyas2019")


@pytest.fixture(scope="module")
def source_files(tmp_path_factory: pytest.TempPathFactory):
    """A model, a set, and a module, none of which has cost much."""
    folder = tmp_path_factory.mktemp("source")
    model = build("linear", shape=(1, 8, 8), classes=10, seed=0)
    some = split(load_source("digits"), seed=0, train_size=400).train
    train(model, some, Recipe(epochs=4, lr=0.1), seed=0)
    facts = {"dataset": "digits", "split": {"seed": 0, "train_size": 400, "test_size": None}}
    save_model(model, folder / OURS, metadata=facts)
    net = build("mlp", shape=(1, 8, 8), classes=10, seed=0, options={"width": 4})
    save_model(net, folder / "deep.safetensors", metadata=facts)
    save(load_source("digits").train.select(slice(0, 20)), folder / "set.safetensors")
    export_npz(load_source("digits").train.select(slice(0, 20)), folder / "set.npz")
    (folder / "net.py").write_text("raise RuntimeError('never imported')\n")
    return folder


@pytest.fixture
def copied_files(source_files, tmp_path: Path):
    """Copies of them, to be hit."""
    for path in source_files.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def refused(capsys: pytest.CaptureFixture[str], *arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error:"), said
    return said


def contents(folder):
    return {p.name: p.read_bytes() for p in sorted(folder.iterdir()) if p.is_file()}


def writers(model, out):
    """Every flag of every command that writes a file: the command, and a file of that kind."""
    attack, look = (
        ("attack", model, *QUICK, *PGD),
        ("look", model, "--invert", "--steps", 1, "--image", 0),
    )
    build_det = ("build", "det", model, *QUICK, "--steps", 1)
    yield "attack --save", (*attack, "--save"), out / "a.safetensors"
    yield "attack --save's recipe", (*attack, "--save", out / "a.safetensors"), out / "a.json"
    yield "attack --json", (*attack, "--json"), out / "a.json"
    yield "attack --plot", (*attack, "--plot"), out / "a.png"
    yield "evaluate --json", ("evaluate", model, *QUICK, *PGD, "--json"), out / "a.json"
    yield "build --out", (*build_det, "--out"), out / "a.safetensors"
    yield "build's recipe", (*build_det, "--out", out / "a.safetensors"), out / "a.json"
    yield "look --out", (*look, "--out"), out / "a.png"
    yield "look --json", (*look, "--out", out / "b.png", "--json"), out / "a.json"
    yield "look --save", (*look, "--out", out / "b.png", "--save"), out / "a.safetensors"
    plane = ("features", model, "--steps", 1, "--count", 60)
    yield "features --out", (*plane, "--out"), out / "a.png"
    yield "features --json", (*plane, "--out", out / "b.png", "--json"), out / "a.json"
    deep = Path(model).parent / "deep.safetensors"  # a linear model has no activations
    yield "sparsify --out", ("sparsify", deep, "--alpha", 0.1, "--out"), out / "a.safetensors"
    yield "data export npz", ("data", "export", "digits", "--to"), out / "a.npz"
    yield "data export set", ("data", "export", "digits", "--to"), out / "a.safetensors"
    archive = Path(model).parent / "set.npz"
    yield "data import", ("data", "import", archive, "--to"), out / "a.safetensors"
    for name in ("metrics.jsonl", "training.png", "checkpoint.safetensors"):
        yield f"train, {name}", ("train", *SHORT, "--out", out), out / name


NAMES = [name for name, *_ in writers(".", Path())]
FOREIGN = {
    ".json": b'{"mine": 1}',
    ".jsonl": b'{"epoch": 1, "loss": 0.5, "accuracy": 3}\n',
    ".png": b"\x89PNG\r\n\x1a\nmine",
    ".npz": b"mine",
    ".safetensors": b"mine",
}
"""A file of somebody else's for each suffix."""


OTHERS = ("recipe", "train", "port", "sparsify")  # sparsify reads another model, see below
READERS = [n for n in NAMES if not any(word in n for word in OTHERS)]


def _call(arguments, target):
    named = any(str(a) == str(target.with_suffix(".safetensors")) for a in arguments)
    return arguments if named or arguments[0] == "train" else (*arguments, target)


@pytest.mark.parametrize("name", NAMES)
def test_a_foreign_file_is_replaced_only_if_asked_and_ones_own_at_once(
    name, copied_files, tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path_factory.mktemp("out")
    arguments, target = next(
        (given, path) for of, given, path in writers(copied_files / OURS, out) if of == name
    )
    target.write_bytes(FOREIGN[target.suffix])
    call = [str(a) for a in _call(arguments, target)]
    said = refused(capsys, *call)
    assert "already there" in said, said
    assert "--overwrite" in said, said
    assert contents(out) == {target.name: FOREIGN[target.suffix]}
    if arguments[0] == "train":  # what it replaces is the same whichever of its files that is
        return
    main([*call, "--overwrite"])
    assert target.read_bytes() != FOREIGN[target.suffix]
    main(call)


def links(path):
    """Other names of a file: by way of a folder, a soft link and a hard one."""
    roundabout = path.parent / "nowhere" / ".." / path.name
    soft, hard = path.with_name(f"soft{path.suffix}"), path.with_name(f"hard{path.suffix}")
    soft.symlink_to(path)
    os.link(path, hard)
    return path, roundabout, soft, hard


@pytest.mark.parametrize("name", READERS)
def test_what_is_read_is_never_written_over(
    name, copied_files, capsys: pytest.CaptureFixture[str]
) -> None:
    model = copied_files / OURS
    names = links(model)
    before = contents(copied_files)
    arguments = next(given for of, given, _ in writers(model, copied_files / "x") if of == name)
    for target in names:
        for more in ((), ("--overwrite",)):
            said = refused(capsys, *arguments, target, *more)
            assert "read" in said or "must end in" in said or "Unknown format" in said, said
    assert contents(copied_files) == before


def test_the_set_and_the_module_that_are_read_are_not_written_over(
    copied_files, capsys: pytest.CaptureFixture[str]
) -> None:
    data, code, before = (
        copied_files / "set.safetensors",
        copied_files / "net.py",
        contents(copied_files),
    )
    own = ("--model", f"{code}:make", "--embedding", "1", "--data", "digits")
    attack = ("attack", copied_files / OURS, *QUICK, *PGD)
    calls = [
        (*attack, "--data", data, "--save", data),
        (*attack, "--data", data, "--json", data),
        (*attack, *own, "--json", code),
        ("evaluate", copied_files / OURS, *QUICK, *PGD, *own, "--json", code),
        ("build", "det", copied_files / OURS, *QUICK, "--data", data, "--out", data),
        ("data", "export", data, "--to", data),
        ("train", "--distil", copied_files / OURS, "--out", copied_files, *SHORT),
        ("train", "--distil", copied_files, "--out", copied_files, *SHORT),
        ("train", "--start", copied_files, "--out", copied_files, *SHORT),
        ("sparsify", copied_files / OURS, "--out", copied_files / OURS),
        ("data", "import", data, "--to", data),
    ]
    for call in calls:
        assert "files that are read" in refused(capsys, *call, "--overwrite"), call
    assert contents(copied_files) == before


def test_nothing_is_written_among_the_images_that_are_read(
    copied_files, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = copied_files / "photos"
    (photos / "cat").mkdir(parents=True)
    attack = ("attack", copied_files / OURS, *QUICK, *PGD, "--data", f"folder:{photos}")
    for flag, target in (("--png", photos / "adv"), ("--json", photos / "cat" / "a.json")):
        assert "lie outside the images" in refused(capsys, *attack, flag, target)
    said = refused(
        capsys, *ILYAS, "--data", f"folder:{photos}", "--preset", "smoke", "--out",
        photos / "run",
    )  # fmt: skip
    assert "lie outside the images" in said
    assert [p.name for p in photos.iterdir()] == ["cat"]


def test_a_training_replaces_foreign_files_of_its_names_if_asked(tmp_path: Path) -> None:
    for name in ("metrics.jsonl", "training.png", "checkpoint.safetensors"):
        (tmp_path / name).write_bytes(FOREIGN[Path(name).suffix])
    main(["train", *SHORT, "--out", str(tmp_path), "--overwrite"])
    assert json.loads((tmp_path / "metrics.jsonl").read_text())["epoch"] == 1
    assert sorted(contents(tmp_path)) == ["metrics.jsonl", "model.safetensors", "training.png"]


def test_outputs_lie_apart(copied_files, capsys: pytest.CaptureFixture[str]) -> None:
    attack = ("attack", copied_files / OURS, *QUICK, *PGD)
    for name in ("a.safetensors", "A.safetensors"):
        said = refused(
            capsys, *attack, "--json", copied_files / "a.json", "--save", copied_files / name
        )
        assert "`--json` must differ from --save's recipe" in said
    said = refused(
        capsys, *attack, "--png", copied_files / "p", "--json", copied_files / "p" / "a.json"
    )
    assert "must lie apart from" in said


def test_one_commands_numbers_are_not_anothers(
    copied_files, capsys: pytest.CaptureFixture[str]
) -> None:
    path, data = copied_files / "n.json", copied_files / "n.safetensors"
    main(["evaluate", str(copied_files / OURS), *QUICK, *PGD, "--json", str(path)])
    attack = ("attack", copied_files / OURS, *QUICK, *PGD)
    assert "numbers of `notbugs attack`" in refused(capsys, *attack, "--json", path)
    assert "a set's recipe" in refused(capsys, *attack, "--save", data)
    save_file({"a": torch.zeros(1)}, data)
    path.unlink()
    assert "is not a set that notbugs wrote" in refused(capsys, *attack, "--save", data)


@pytest.mark.parametrize("named", ["by the user", "by the weights"])
def test_a_datasets_files_are_inputs(
    named, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    names = [*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin", "batches.meta.txt"]
    for name in names:
        (folder / name).write_bytes(b"mine")
    model = tmp_path / OURS
    net = build("linear", shape=(3, 32, 32), classes=10, seed=0)
    save_model(net, model, metadata={"dataset": "cifar10"})
    data = {"data": "cifar10"} if named == "by the user" else {}
    found = inputs_of(weights=model, data_dir=tmp_path, **data)
    assert sorted(p.name for p in found.files) == sorted([*names, OURS])
    target = folder / "test_batch.bin"
    more = () if not data else ("--data", "cifar10")
    said = refused(
        capsys, "evaluate", model, *QUICK, *PGD, *more, "--data-dir", tmp_path, "--json", target,
        "--overwrite",
    )  # fmt: skip
    assert "differ from the files that are read" in said
    assert target.read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"dataset": 5}, "/dataset: expected text or null, got 5"),
        ({"split": [1]}, "/split: expected an object or null, got a list of 1"),
        ({"split": {"seed": "a"}}, '/split/seed: expected an integer, got "a"'),
        ({"split": {"train_size": 0.5}}, "/split/train_size: expected an integer or null, got 0.5"),
    ],
)
def test_what_weights_say_of_their_images_is_checked(
    facts, words, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / OURS
    net = build("linear", shape=(1, 8, 8), classes=10, seed=0)
    save_model(net, model, metadata={"dataset": "digits"} | facts)
    assert words in refused(capsys, "evaluate", model, *QUICK, *PGD)


def test_a_run_replaces_no_file_that_it_did_not_list(tmp_path: Path) -> None:
    mine, ours = (
        tmp_path / "models" / "robust-seed0.safetensors",
        "models/standard-seed0.safetensors",
    )
    replace_files(tmp_path, [ours])
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    (tmp_path / ours).write_bytes(b"ours")
    check_files(tmp_path, [ours])
    for refuse in (check_files, replace_files):
        with pytest.raises(StoreError, match=r"robust-seed0.* was not written by this run"):
            refuse(tmp_path, [ours, f"models/{mine.name}"])
    assert mine.read_bytes() == b"mine"
    assert (tmp_path / ours).exists()


@pytest.mark.parametrize("name", ["results.json", "pictures.safetensors"])
def test_a_run_is_refused_before_its_work_where_a_file_of_its_name_lies(
    name, tmp_path: Path
) -> None:
    """Called as a function, where no command has claimed the folder."""
    mine = tmp_path / "out" / name
    mine.parent.mkdir()
    mine.write_bytes(b"mine")
    with pytest.raises(StoreError, match=rf"{name}' was not written by this run"):
        run(
            ilyas2019.EXPERIMENT,
            config_for("digits", "smoke"),
            Store(tmp_path / "store"),
            out=mine.parent,
            machine=Machine(),
            observer=SilentObserver(),
        )
    assert mine.read_bytes() == b"mine"
    assert not list((tmp_path / "store").rglob("*.safetensors"))

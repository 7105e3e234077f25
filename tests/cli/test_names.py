"""What users and foreign files are called is shown as it is, and does nothing to the terminal."""

import ast
import contextlib
from pathlib import Path

import pytest
import torch

import notbugs
from notbugs.cli import main
from notbugs.data import ImageData, save

ROOT = Path(notbugs.__file__).parent
NASTY = "[b]x[/b] :smile: \x1b[31m \u202e"
SHOWN = r"[b]x[/b] :smile: \x1b[31m \u202e"
ALLOCATOR = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
WORDS = "[b]x :smile: \x1b[31m \udcff"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory):
    """A model in a folder of such a name."""
    folder = tmp_path_factory.mktemp("names") / NASTY
    main(["train", "--out", str(folder), "--train-size", "100", "--epochs", "1"])
    return folder


@pytest.fixture
def oddly_named_folder(trained, tmp_path: Path):
    """A folder of such a name, with a set in it whose name and classes are such too."""
    data = ImageData(
        torch.rand(20, 1, 8, 8), torch.arange(20) % 10, tuple(f"{i}{NASTY}" for i in range(10)),
        NASTY, {"recipe": NASTY},
    )  # fmt: skip
    folder = tmp_path / NASTY
    save(data, folder / "set.safetensors")
    return folder


COMMANDS = [
    "attack {model} --threat l2:1 --steps 1 --data {set} --save {out}.safetensors",
    "attack {model} --threat l2:1 --steps 1 --data {set} --plot {out}.png --radii 1",
    "evaluate {model} --threat l2:1 --method pgd --steps 1 --data {set} --json {out}.json",
    "compare {model} --threat l2:1 --method fgsm --data {set} --out {out}",
    "look {model} --invert --steps 1 --image 1 --data {set} --out {out}.png",
    "features {model} --steps 1 --data {set} --out {out}.png",
    "build rand {model} --threat l2:1 --steps 1 --data {set} --out {out}.safetensors",
    "sparsify {model} --alpha 0.1 --out {out}.safetensors",
    "data show {set}",
    "data export {set} --to {out}",
    "data import {out}.npz --to {out}.safetensors",
    "explore {out}",
    "lecture --out {set}",
    "photo sheet {set} {set} --out {out}",
    "zoo add {model} --name {out} --threat l2:1",
    "zoo show {out}",
    "zoo push digits-linear --to {out}",
    "photo read {out}.jpg --sheet {out} --model {model}",
    "evaluate {out} --threat l2:1",
    "train --out {set}",
    "data show {out}.safetensors",
    "look {model} --invert --image {out}",
    "{out}",
    "attack {model} --threat l2:1 --{out}",
]


@pytest.mark.parametrize("command", COMMANDS)
def test_no_command_obeys_a_name(
    command, trained, oddly_named_folder, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "model": trained,
        "set": oddly_named_folder / "set.safetensors",
        "out": oddly_named_folder / "out",
    }
    words = [word.format(**files) for word in command.split()]
    with contextlib.suppress(SystemExit):
        main(words)
    said = "".join(capsys.readouterr())
    assert "\x1b" not in said
    assert "\u202e" not in said
    assert "😄" not in said
    shown = "".join(said.split())
    assert r"\x1b[31m\u202e" in shown  # all of it is there, and no markup was taken out
    assert "[b]x" in shown
    assert ":smile:" in shown


def test_a_file_name_that_is_not_utf8_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["evaluate", WORDS, "--threat", "l2:1"])
    assert r"No weights file '[b]x :smile: \x1b[31m \xff'" in capsys.readouterr().err


def test_only_the_plain_console_prints() -> None:
    """No other console is made, nothing is printed past it, and nowhere is markup asked for."""
    # The screen of help is text of ours alone, and must not wait for the console's packages.
    first = ROOT / "cli/__init__.py"
    for file in [*({*(ROOT / "cli").glob("*.py")} - {first}), *(ROOT / "report").glob("*.py")]:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call):
                name = ast.unparse(node.func)
                assert name not in ("Console", "print", "Text.from_markup"), file
                assert not name.endswith(("stdout.write", "stderr.write")), file
                if name == "Text" and node.args:  # Text is not escaped by the console
                    assert isinstance(node.args[0], ast.Constant | ast.JoinedStr) or (
                        ast.unparse(node.args[0]).startswith("visible(")
                    ), f"{file}: {ast.unparse(node)}"
                asked = {k.arg: ast.unparse(k.value) for k in node.keywords}
                assert asked.get("markup") != "True", file
                assert asked.get("emoji") != "True", file
                if name == "TextColumn" and "description" in ast.unparse(node):
                    assert asked["markup"] == "False", file


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError(), "error: Out of memory. Work on fewer images at once"),
        (RuntimeError(ALLOCATOR), "error: Out of memory ("),
        (ValueError(), "error: ValueError"),
    ],
    ids=["Python", "torch", "empty"],
)  # fmt: skip
def test_an_error_without_words_is_explained(
    error, words, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*given) -> None:
        raise error

    monkeypatch.setattr("notbugs.cli.sets.ListData.run", fail)
    with pytest.raises(SystemExit) as caught:
        main(["data", "list"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(words)


@pytest.mark.parametrize(
    ("words", "near"), [(["trian"], "train"), (["data", "shwo"], "show"), (["evalute"], "evaluate")]
)
def test_the_nearest_command_is_suggested(words, near, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(words)
    assert f"Did you mean '{near}'?" in capsys.readouterr().err


def test_a_misspelled_option_is_suggested(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["train", "--epocs", "3", "--out", str(tmp_path)])
    assert "--epochs" in capsys.readouterr().err


def test_a_factory_that_exits_is_explained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "net.py").write_text("import sys\n\ndef make():\n    sys.exit(0)\n")
    (tmp_path / "gone.py").write_text("import sys\nsys.exit(0)\n")
    for name, words in (("net", "return a module; got SystemExit"), ("gone", "SystemExit from")):
        with pytest.raises(SystemExit) as caught:
            main(["train", "--out", str(tmp_path / "a"), "--model", f"{tmp_path}/{name}.py:make",
                  "--embedding", "x"])  # fmt: skip
        assert caught.value.code == 2
        assert words in capsys.readouterr().err

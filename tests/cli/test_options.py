"""Options that several commands share, and what help makes of the texts below them."""

import json
import subprocess
import sys
from dataclasses import fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

import notbugs as nb
from notbugs import cli
from notbugs.cli import main
from notbugs.cli.console import PlainConsole
from notbugs.cli.running import PLACES, device_of, parsed
from notbugs.data import ImageData, export_folder, load_source


def call(*arguments) -> None:
    main([str(a) for a in arguments])


@pytest.fixture
def photos(tmp_path: Path) -> str:
    """Thirty digits of two classes in class folders, without parts."""
    digits = load_source("digits").train
    both = digits.select((digits.labels < 2).nonzero()[:30, 0])
    export_folder(ImageData(both.images, both.labels, ("0", "1"), "mine"), tmp_path / "photos")
    return f"folder:{tmp_path / 'photos'}"


@pytest.fixture
def of_two(tmp_path: Path) -> Path:
    """Weights of an untrained net for such images, which name no dataset."""
    path = tmp_path / "two.safetensors"
    nb.models.save_model(nb.build("linear", shape=(1, 8, 8), classes=2, seed=0), path, metadata={})
    return path


def options_of(kind):
    """The options of a command, its groups and its actions."""
    for option in fields(kind):
        hint = get_type_hints(kind)[option.name]
        groups = [k for k in (hint, *get_args(hint)) if is_dataclass(k)]
        yield from (found for group in groups for found in options_of(group))
        if not groups:
            yield option


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_every_option_has_a_text_that_help_breaks_where_it_likes(command) -> None:
    with pytest.raises(SystemExit):
        call(command, "--help")
    module, name = PLACES[command]
    options = list(options_of(getattr(import_module(f"notbugs.cli.{module}"), name)))
    assert options
    for option in options:
        text = option.metadata["help"]
        assert text == " ".join(text.split())
        assert text.endswith((".", ":", ")", "...")), option.name


@pytest.mark.parametrize("command", ["attack", "evaluate", "compare", "build", "look", "features"])
def test_options_of_model_and_data_are_one_group(
    command, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call(command, "--help")
    _, box = capsys.readouterr().out.split("model and data options")
    assert all(f"--{flag}" in box for flag in ("data", "data-dir", "model", "embedding", "device"))


def test_a_switch_has_one_flag() -> None:
    given = ["compare", "a", "--threat", "l2:1"]
    assert parsed(given, PlainConsole()).curves
    assert not parsed([*given, "--no-curves"], PlainConsole()).curves
    with pytest.raises(SystemExit):
        parsed(["attack", "a", "--threat", "l2:1", "--no-overwrite"], PlainConsole())


def test_a_folder_without_parts_is_cut_and_that_is_said(
    photos, of_two, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    numbers = tmp_path / "found.json"
    given = ("attack", of_two, "--threat", "l2:1", "--method", "fgsm", "--json", numbers)
    call(*given, "--data", photos)
    said = capsys.readouterr()
    assert "has no parts: these are the 10 of its 30 images that make the test part" in said.err
    assert "10 images" in said.out
    for part, count in (("train", 18), ("val", 2), ("test", 10), ("all", 30)):
        call(*given, "--data", photos, "--part", part)
        said = capsys.readouterr()
        assert not said.err
        assert f"{count} images" in said.out


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (("--part", "trian"), "trian"),
        (("--data", "digits", "--part", "both"), "Unknown --part 'both'"),
        (("--data", "set.safetensors", "--part", "all"), "must be left out for a saved set"),
    ],
)
def test_parts_that_are_not_there_are_refused(
    more, message, of_two, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        call("attack", of_two, "--threat", "l2:1", *more)
    assert message in capsys.readouterr().err


def test_without_packages_that_draw_nothing_else_is_missed(of_two, photos, tmp_path: Path) -> None:
    """What draws says so before it works; what does not works, and a training leaves its picture
    out."""
    attack = ["attack", str(of_two), "--threat", "l2:1", "--data", photos, "--method", "fgsm"]
    calls = [
        ["look", str(of_two), "--data", photos, "--invert"],
        [*attack, "--plot", "curves.png"],
        [*attack, "--json", "a.json"],
        ["train", "--out", "m", "--epochs", "1", "--train-size", "100"],
    ]
    script = tmp_path / "without.py"
    script.write_text(
        "import sys\n"
        "sys.modules['matplotlib'] = sys.modules['jinja2'] = None\n"
        "from notbugs.cli import main\n"
        f"for words in {calls!r}:\n"
        "    try:\n"
        "        main(words)\n"
        "    except SystemExit as end:\n"
        "        print('exit', words[0], end.code, file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, script], cwd=tmp_path, text=True, capture_output=True, check=True
    )
    ends = [line for line in done.stderr.splitlines() if line.startswith("exit")]
    assert ends == ["exit look 2", "exit attack 2"]
    assert done.stderr.count("`pip install 'notbugs[report]'`") == 3
    assert not (tmp_path / "curves.png").exists()
    assert json.loads((tmp_path / "a.json").read_text())
    assert "training.png is not drawn" in done.stderr
    assert (tmp_path / "m" / "model.safetensors").exists()


def test_the_weights_need_not_name_a_dataset(of_two, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        call("attack", of_two, "--threat", "l2:1")
    assert "do not say which dataset" in capsys.readouterr().err


def test_commands_that_share_work_say_their_device() -> None:
    """Each process of a distributed run takes its GPU by it (`running.run`)."""
    given = {"train": ["--out", "m"], "build": ["det", "a", "--out", "b"]}
    shared = 0
    for name, (module, kind) in PLACES.items():
        if getattr(getattr(import_module(f"notbugs.cli.{module}"), kind), "shares_work", False):
            words = given.get(name, ["a", "--threat", "l2:1"])
            command = parsed([name, *words, "--device", "cuda:1"], PlainConsole())
            assert device_of(command) == "cuda:1"
            shared += 1
    assert shared >= 3


def test_the_first_of_all_images_of_a_folder_are_of_every_class(photos, of_two) -> None:
    command = parsed(
        ["attack", str(of_two), "--threat", "l2:1", "--data", photos, "--part", "all",
         "--count", "10"],
        PlainConsole(),
    )  # fmt: skip
    images = command.given.chosen("test", {})
    assert len(images) == 10
    assert images.labels.unique().tolist() == [0, 1]

"""What `notbugs reproduce` makes of its options, and the command that repeats a run."""

import shlex
from pathlib import Path

import pytest

from notbugs.cli import running
from notbugs.cli.console import PlainConsole
from notbugs.cli.reproduce import Reproduce
from notbugs.experiments.config import config_for
from notbugs.experiments.papers import PAPERS


def parsed(words) -> Reproduce:
    command = running.parsed([str(word) for word in words], PlainConsole(stderr=True))
    assert isinstance(command, Reproduce)
    return command


def planned(*words):
    """The settings of a command line, and the command that is said to repeat it."""
    command = parsed(("reproduce", *words))
    return command._config(PAPERS[command.experiment or ""])


def repeated(*words):
    """The settings, which those of the command that it says must equal."""
    config, text = planned(*words)
    program, *again = shlex.split(text)
    assert program == "notbugs"
    assert planned(*again[1:]) == (config, text)
    return config, text


@pytest.fixture
def net(tmp_path: Path) -> str:
    folder = tmp_path / "a b"
    folder.mkdir()
    (folder / "net.py").write_text("never imported\n")
    return f"{folder}/net.py:make"


@pytest.mark.parametrize("name", sorted(PAPERS))
def test_every_preset_of_every_paper_repeats_itself(name) -> None:
    paper = PAPERS[name]
    for preset in paper.presets:
        for data in paper.datasets:
            config, text = repeated(name, "--data", data, "--preset", preset)
            assert config == paper.settings(data, preset)
            assert text == f"notbugs reproduce {name} --data {data} --preset {preset}"


@pytest.mark.parametrize("name", sorted(PAPERS))
def test_what_all_papers_take_is_repeated(name) -> None:
    given = ("--seeds", 5, "--train-size", 300, "--test-size", 90)
    config, text = repeated(name, *given)
    assert (config.seeds, config.train_size, config.test_size) == (5, 300, 90)
    for part in ("seeds=5", "train_size=300", "test_size=90"):
        assert part in text
    if name == "gaussians":  # which trains nothing
        with pytest.raises(ValueError, match="`--epochs` must be left out with this experiment"):
            repeated(name, "--epochs", 3)
    else:
        assert "epochs=3" in repeated(name, "--epochs", 3)[1]


CHANGES = [
    ("eps_sets=[1, 2.5]", "eps_sets", (1.0, 2.5)),
    ("eps_sets=[1,2]", "eps_sets", (1.0, 2.0)),
    ("eps_eval=0.75", "eps_eval", 0.75),
    ("push_steps=7", "push_steps", 7),
    ("push_step_size=0.1", "push_step_size", 0.1),
    ("push_step_size=null", "push_step_size", None),
    ("norm=linf", "norm", "linf"),
    ('norm="linf"', "norm", "linf"),
    ("standard.lr=0.123", "standard.lr", 0.123),
    ("robust.adversary.threat=l2:0.7", "robust.adversary.threat", "l2:0.7"),
    ('net.options=[["width", 3]]', "net.options", (("width", 3),)),
    ("student.augment.flip=true", "student.augment.flip", True),
]


@pytest.mark.parametrize(("change", "place", "value"), CHANGES, ids=[c for c, *_ in CHANGES])
def test_any_setting_is_changed_and_repeated(change, place, value) -> None:
    config, text = repeated("ilyas2019", "--set", change)
    assert text.endswith(f"--set {shlex.quote(change)}")
    for name in place.split("."):
        config = getattr(config, name)
    assert config == value


def test_several_changes_are_repeated_in_their_order() -> None:
    given = ("--set", "push_steps=7", "--seeds", 2, "--set", "push_steps=9", "--set", "seeds=4")
    config, _ = repeated("ilyas2019", *given)
    assert (config.push_steps, config.seeds) == (9, 4)


def test_epochs_of_all_models_are_one_flag() -> None:
    config, _ = repeated("ilyas2019", "--epochs", 3)
    assert {r.epochs for r in (config.standard, config.robust, config.student)} == {3}
    usual = config_for("digits", "laptop")
    assert config.robust.adversary == usual.robust.adversary
    later, _ = repeated("ilyas2019", "--epochs", 3, "--set", "robust.epochs=5")
    assert (later.standard.epochs, later.robust.epochs) == (3, 5)


def test_another_architecture_is_repeated() -> None:
    config, text = repeated("ilyas2019", "--architecture", "mlp")
    assert text.endswith("--preset laptop --architecture mlp")
    assert (config.net.architecture, config.net.options) == ("mlp", ())


def test_a_users_model_and_folder_are_quoted(net) -> None:
    given = ("--data", "folder:my photos", "--model", net, "--embedding", "trunk")
    config, text = repeated("ilyas2019", *given)
    assert "--data 'folder:my photos'" in text
    assert text.endswith(f"--model '{net}' --embedding trunk")
    options = dict(config.net.options)
    assert (options["spec"], options["embedding"]) == (net, "trunk")
    assert config.data == "folder:my photos"


@pytest.mark.parametrize("flag", ["data", "preset", "digest"])
def test_what_has_a_flag_of_its_own_is_refused_as_a_setting(flag) -> None:
    with pytest.raises(ValueError, match="own flags"):
        planned("ilyas2019", "--set", f"{flag}=planted")


def test_a_model_without_an_embedding_has_that_of_its_last_layer(net) -> None:
    config, text = repeated("ilyas2019", "--model", net)
    assert dict(config.net.options)["embedding"] == ""
    assert text.endswith(f"--model '{net}'")

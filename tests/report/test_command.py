import json
from dataclasses import asdict, replace

import pytest

from notbugs.experiments.config import config_for
from notbugs.report.command import reproduction


def settings(config):
    return json.loads(json.dumps(asdict(config)))


def test_a_preset_needs_no_flags() -> None:
    made = reproduction("ilyas2019", settings(config_for("digits", "laptop")))
    assert made.text == "notbugs reproduce ilyas2019 --data digits --preset laptop"
    assert made.complete


@pytest.mark.parametrize(
    ("change", "flags"),
    [
        ({"seeds": 5}, "--seeds 5"),
        ({"eps_sets": (1.0, 2.5)}, "--eps 1.0 2.5"),
        ({"eps_eval": 0.75, "train_size": 300}, "--train-size 300 --eps-eval 0.75"),
        ({"test_size": 90}, "--test-size 90"),
        ({"architecture": "mlp", "options": {}}, "--architecture mlp"),
    ],
)
def test_what_differs_from_the_preset_becomes_a_flag(change, flags) -> None:
    config = replace(config_for("digits", "laptop"), **change)
    made = reproduction("ilyas2019", settings(config))
    assert made.text.endswith(f"--preset laptop {flags}")
    assert made.complete


def test_epochs_of_all_models_are_one_flag() -> None:
    made = reproduction("ilyas2019", settings(config_for("digits", "laptop").with_epochs(3)))
    assert made.text.endswith("--epochs 3")
    assert made.complete


def test_a_users_model_and_folder_are_quoted() -> None:
    config = replace(
        config_for("folder:my photos", "laptop"),
        architecture="user",
        options={"spec": "/a b/net.py:make", "embedding": "trunk", "digest": "0"},
    )
    made = reproduction("ilyas2019", settings(config))
    assert "--data 'folder:my photos'" in made.text
    assert made.text.endswith("--model '/a b/net.py:make' --embedding trunk")
    assert made.complete


@pytest.mark.parametrize(
    "change",
    [{"push_steps": 7}, {"norm": "linf"}, {"architecture": "cnn", "options": {"width": 3}}],
)
def test_what_no_flag_can_say_is_owned_up_to(change) -> None:
    config = replace(config_for("digits", "laptop"), **change)
    made = reproduction("ilyas2019", settings(config))
    assert made.text == "notbugs reproduce ilyas2019 --data digits --preset laptop"
    assert not made.complete


def test_a_dataset_of_another_version() -> None:
    made = reproduction("ilyas2019", {"data": "moons", "preset": "laptop"})
    assert made.text == "notbugs reproduce ilyas2019 --data moons --preset laptop"
    assert not made.complete

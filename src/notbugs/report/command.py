"""The command that reproduces a run's results."""

import json
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from notbugs.experiments.config import USER, config_for

ROLES = ("standard", "robust", "student")
FLAGS = {
    "seeds": "--seeds",
    "train_size": "--train-size",
    "test_size": "--test-size",
    "eps_sets": "--eps",
    "eps_eval": "--eps-eval",
}


@dataclass(frozen=True)
class Reproduction:
    """The command, and whether it expresses all settings of the run."""

    text: str
    complete: bool


def reproduction(experiment: str, config: Mapping[str, Any]) -> Reproduction:
    """The command line whose settings are `config`, the preset's own values left out.

    It is incomplete if some settings, given from Python, have no flag.
    """
    name, preset = str(config.get("data")), str(config.get("preset"))
    words = ["notbugs", "reproduce", experiment, "--data", name, "--preset", preset]
    try:
        usual = json.loads(json.dumps(asdict(config_for(name, preset))))
    except ValueError:  # a dataset or a preset that this version does not know
        return Reproduction(shlex.join(words), False)
    reached: dict[str, Any] = dict(usual)
    for key, flag in FLAGS.items():
        if config.get(key) != usual[key] and config.get(key) is not None:
            words += [flag, *_values(config[key])]
            reached[key] = config[key]
    words += _epochs(config, reached)
    words += _architecture(config, reached)
    return Reproduction(shlex.join(words), reached == dict(config))


def engstrom_reproduction(
    experiment: str, config: Mapping[str, Any], usual: Mapping[str, Any]
) -> Reproduction:
    """The command of a run of engstrom2019; flags can change its models only."""
    inner = reproduction(experiment, config["models"])
    rest = {k: v for k, v in config.items() if k != "models"}
    same = rest == {k: v for k, v in usual.items() if k != "models"}
    return Reproduction(inner.text, inner.complete and same)


def _values(value: Any) -> Iterable[str]:
    return [f"{v!r}" for v in value] if isinstance(value, list) else [f"{value!r}"]


def _epochs(config: Mapping[str, Any], reached: dict[str, Any]) -> list[str]:
    """One flag sets the epochs of all three recipes."""
    epochs = {_of(config, role) for role in ROLES}
    if len(epochs) != 1 or epochs == {_of(reached, role) for role in ROLES} or None in epochs:
        return []
    (number,) = epochs
    reached |= {role: {**reached[role], "epochs": number} for role in ROLES}
    return ["--epochs", str(number)]


def _of(config: Mapping[str, Any], role: str) -> Any:
    return dict(config.get(role) or {}).get("epochs")


def _architecture(config: Mapping[str, Any], reached: dict[str, Any]) -> list[str]:
    name, options = config.get("architecture"), config.get("options") or {}
    if (name, options) == (reached["architecture"], reached["options"]):
        return []
    if name == USER:
        reached |= {"architecture": name, "options": options}
        spec, embedding = options.get("spec", ""), options.get("embedding", "")
        return ["--model", str(spec), "--embedding", str(embedding)]
    if options:
        return []
    reached |= {"architecture": name, "options": {}}
    return ["--architecture", str(name)]

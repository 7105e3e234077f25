import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from notbugs.core.errors import DataError
from notbugs.models import load_user_model, save

SOURCE = """
from dataclasses import dataclass
from torch import nn
from beside_this_file import CLASSES

@dataclass
class Settings:
    hidden: int = 5

class Net(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Flatten(), nn.Linear(64, Settings().hidden), nn.Linear(5, CLASSES))

def factory():
    return Net()

def needs(width):
    return Net()

def number():
    return 3

def breaks():
    raise RuntimeError("no luck")

instance = Net()
"""


@pytest.fixture
def model_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "beside_this_file.py").write_text("CLASSES = 3\n")
    monkeypatch.delitem(sys.modules, "beside_this_file", raising=False)
    path = tmp_path / "my_model.py"
    path.write_text(SOURCE)
    return path


def user(spec, **others):
    settings = {"embedding": "1", "shape": (1, 8, 8), "classes": 3} | others
    return load_user_model(str(spec), **settings)


def test_a_users_file_becomes_a_classifier(model_file) -> None:
    path = list(sys.path)
    state = torch.get_rng_state()
    model = user(f"{model_file}:factory", mean=[0.5])
    assert sys.path == path
    assert torch.equal(torch.get_rng_state(), state)
    assert model(torch.rand(2, 1, 8, 8)).shape == (2, 3)
    assert model.embed(torch.rand(2, 1, 8, 8)).shape == (2, 5)
    assert not model.training
    same, other = user(f"{model_file}:Net"), user(f"{model_file}:factory", seed=1)
    assert same.classes == 3
    assert not torch.equal(other.body[1].weight, model.body[1].weight)
    assert torch.equal(user(f"{model_file}:factory").body[1].weight, model.body[1].weight)


def test_our_weights_bring_their_mean(model_file, tmp_path: Path) -> None:
    model = user(f"{model_file}:factory", seed=1, mean=[0.25])
    weights = tmp_path / "w.safetensors"
    save(model, weights)
    again = user(f"{model_file}:factory", weights=weights)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(again(x), model(x))


@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.", "module._orig_mod."])
def test_plain_state_dicts_fit_with_or_without_a_prefix(model_file, tmp_path: Path, prefix) -> None:
    model = user(f"{model_file}:factory", seed=1)
    weights = tmp_path / "w.safetensors"
    save_file({prefix + k: v for k, v in model.body.state_dict().items()}, weights)
    again = user(f"{model_file}:factory", weights=weights)
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(again(x), model(x))


@pytest.mark.parametrize("zipped", [True, False])
def test_a_file_of_torch_save_is_read_without_running_it(
    model_file, tmp_path: Path, zipped
) -> None:
    model = user(f"{model_file}:factory", seed=1)
    content = {"net": model.body.state_dict(), "epoch": 3}
    torch.save(content, tmp_path / "w.pt", _use_new_zipfile_serialization=zipped)
    again = user(f"{model_file}:factory", weights=tmp_path / "w.pt")
    x = torch.rand(2, 1, 8, 8)
    assert torch.equal(again(x), model(x))


def test_the_normalisation_of_a_checkpoint_is_used_and_other_names_are_refused(
    model_file, tmp_path: Path
) -> None:
    state = user(f"{model_file}:factory", seed=1).body.state_dict()
    norm = {"norm.mean": torch.tensor([0.5]), "norm.std": torch.tensor([0.25])}
    torch.save({f"module.{k}": v for k, v in state.items()} | norm, tmp_path / "w.pt")
    model = user(f"{model_file}:factory", weights=tmp_path / "w.pt")
    assert (float(model.mean), float(model.std)) == (0.5, 0.25)
    given = user(f"{model_file}:factory", weights=tmp_path / "w.pt", mean=0.1, std=1.0)
    assert (float(given.mean), float(given.std)) == (pytest.approx(0.1), 1.0)
    torch.save({f"x{k}": v for k, v in state.items()}, tmp_path / "w.pt")
    with pytest.raises(DataError, match=r"its names are others.*notbugs convert"):
        user(f"{model_file}:factory", weights=tmp_path / "w.pt")


def test_weights_that_do_not_fit_are_refused(model_file, tmp_path: Path) -> None:
    pickled = tmp_path / "w.pt"
    torch.save(nn.Linear(2, 2).state_dict(), pickled)
    with pytest.raises(DataError, match=r"does not fit the model: weight \(2, 2\) instead"):
        user(f"{model_file}:factory", weights=pickled)
    other = tmp_path / "w.safetensors"
    save_file(dict(nn.Linear(2, 2).state_dict()), other)
    with pytest.raises(DataError, match=r"does not fit the model: bias \(2,\) instead of"):
        user(f"{model_file}:factory", weights=other)
    with pytest.raises(DataError, match=r"No weights file"):
        user(f"{model_file}:factory", weights=tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("factry", ValueError, r"Unknown factory in my_model.py: 'factry'. Did you mean 'factory'"),
        ("needs", ValueError, r"`factory` must take no arguments; got .*width"),
        ("number", TypeError, r"must be a torch.nn.Module; got int"),
        ("breaks", ValueError, r"must return a module; got RuntimeError .* no luck"),
        ("instance", TypeError, r"must be a function that makes a module; got Net"),
        ("no-name", ValueError, r"must have the form path/to/file.py:factory"),
    ],
)
def test_factories_that_do_not_fit_are_refused(model_file, name, error, message) -> None:
    with pytest.raises(error, match=message):
        user(f"{model_file}:{name}")


def test_files_that_do_not_fit_are_refused(model_file, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must have the form path/to/file.py:factory"):
        user(model_file)
    with pytest.raises(ValueError, match=r"must name a Python file; got no file"):
        user(tmp_path / "none.py:factory")
    (tmp_path / "text.txt").write_text("hello")
    with pytest.raises(ValueError, match=r"Its name must end in .py"):
        user(tmp_path / "text.txt:factory")
    (tmp_path / "broken.py").write_text("import nothing_of_this_name")
    before = set(sys.modules)
    with pytest.raises(ValueError, match=r"can be imported; got ModuleNotFoundError"):
        user(tmp_path / "broken.py:factory")
    assert set(sys.modules) == before


def test_the_contract_is_checked(model_file) -> None:
    with pytest.raises(ValueError, match=r"logits of shape \(1, 4\)"):
        user(f"{model_file}:factory", classes=4)

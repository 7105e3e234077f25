"""MeanSparse: the operator, its derivatives, where it is put, and its weights' files."""

from pathlib import Path

import pytest
import torch
from torch import nn

from notbugs.core import random
from notbugs.core.errors import DataError
from notbugs.core.strict_json import parse_json, to_json
from notbugs.data import ImageData, safefile
from notbugs.judge import evaluate
from notbugs.models import build, load, load_user_model, save, with_gradient, wrap
from notbugs.models.folded_copy import FoldedCopy
from notbugs.models.mean_sparse import MeanSparse, insert_operators, operators, set_alpha
from notbugs.models.weights import KEY
from notbugs.training import Recipe, mean_sparse, train

SHAPE = (1, 8, 8)
X = random.uniform(random.row_keys(24, "sparse"), SHAPE)
DATA = ImageData(X, torch.arange(24) % 3, ("a", "b", "c"), "tiny")
NAMES = ("mlp", "fc", "cnn", "resnet8", "wide", "vit", "airbench")
SMALL = {
    "mlp": {"width": 8},
    "wide": {"depth": 10, "widen": 1},
    "cnn": {"width": 4, "hidden": 8},
    "resnet8": {"width": 4},
}


def net(name="cnn", seed=0):
    return build(name, shape=SHAPE, classes=3, seed=seed, options=SMALL.get(name, {})).eval()


def operator(gradient="own"):
    """On two channels of mean 1 and 2 and deviation 0.5 and 1, with alpha 0.5."""
    made = MeanSparse(nn.Identity(), torch.zeros(1, 2), gradient)
    made.mean.copy_(torch.tensor([1.0, 2.0]))
    made.deviation.copy_(torch.tensor([0.5, 1.0]))
    made.alpha.fill_(0.5)
    return made


FEATURES = torch.tensor([[1.24, 1.51], [1.26, 1.49], [0.76, 2.49], [-5.0, 2.51]])
SPARSE = torch.tensor([[1.0, 2.0], [1.26, 1.49], [1.0, 2.0], [-5.0, 2.51]])


@pytest.mark.parametrize("gradient", ["own", "identity"])
def test_features_near_the_mean_become_it_and_others_stay(gradient) -> None:
    x = FEATURES.clone().requires_grad_()
    found = operator(gradient)(x)
    assert torch.equal(found, SPARSE)
    found.sum().backward()
    kept = (SPARSE == FEATURES).float()
    assert torch.equal(x.grad, kept if gradient == "own" else torch.ones(4, 2))


@pytest.mark.parametrize("name", NAMES)
def test_statistics_are_those_of_the_activations_inputs(name) -> None:
    model, seen = net(name), {}
    sparse = mean_sparse(model, DATA, 0.0)
    found = operators(sparse)
    for layer in found:
        original = model.body.get_submodule(layer)
        original.register_forward_pre_hook(lambda m, x, layer=layer: seen.update({layer: x[0]}))
    with torch.no_grad():
        torch.testing.assert_close(sparse(X), model(X), rtol=0, atol=0)
    for layer, one in found.items():
        features = seen[layer].double()
        dims = (0, 2, 3) if features.ndim == 4 else tuple(range(features.ndim - 1))
        for value, buffer in (
            (features.mean(dims), one.mean),
            (features.std(dims, correction=0), one.deviation),
        ):
            torch.testing.assert_close(buffer.flatten().double(), value, rtol=1e-4, atol=1e-5)
    assert not operators(model)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("gradient", ["own", "identity"])
def test_saved_and_opened_again_by_name(name, gradient, tmp_path: Path) -> None:
    sparse = mean_sparse(net(name), DATA, 0.3, gradient=gradient)
    save(sparse, tmp_path / "w.safetensors")
    again, facts = load(tmp_path / "w.safetensors")
    assert torch.equal(again(X), sparse(X))
    assert not torch.equal(again(X), net(name)(X))
    assert facts["mean_sparse"] == {"layers": list(operators(sparse)), "gradient": gradient}
    assert {one.gradient for one in operators(again).values()} == {gradient}
    assert FoldedCopy(again, "float32").agrees(again(X), X)


NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.act, self.last = nn.Linear(64, 8), nn.ReLU(inplace=True), nn.Linear(8, 3)

    def forward(self, x):
        return self.last(self.act(self.first(x.flatten(1))))
"""


def test_weights_of_a_users_module(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(NET)
    spec = f"{tmp_path / 'net.py'}:Net"
    model = load_user_model(spec, shape=SHAPE, classes=3, seed=5)
    sparse = mean_sparse(model, DATA, 0.5, layers=["act"])
    save(sparse, tmp_path / "w.safetensors")
    again = load_user_model(spec, weights=tmp_path / "w.safetensors", shape=SHAPE, classes=3)
    assert torch.equal(again(X), sparse(X))
    module, _ = load(tmp_path / "w.safetensors", load_user_model(spec, shape=SHAPE, classes=3).body)
    assert torch.equal(module(X), sparse(X))


def test_the_derivative_changes_no_value_and_not_the_model() -> None:
    model = mean_sparse(net(), DATA, 0.5, gradient="own")
    other, x = with_gradient(model, "identity"), X.clone().requires_grad_()
    assert torch.equal(model(X), other(X))
    (own,) = torch.autograd.grad(model(x).sum(), x)
    (identity,) = torch.autograd.grad(other(x).sum(), x)
    assert not torch.equal(own, identity)
    assert {one.gradient for one in operators(model).values()} == {"own"}


class Twice(nn.Module):
    """Uses one activation for two layers, and a function for a third."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.act = nn.Linear(64, 8), nn.Linear(8, 3), nn.ReLU()

    def forward(self, x):
        return self.act(self.b(torch.tanh(self.act(self.a(x.flatten(1))))))


class Functions(Twice):
    def forward(self, x):
        return self.b(torch.relu(self.a(x.flatten(1))))


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (Twice(), {}, r"`layers` must name activations that run once in a pass, .* got 'act'"),
        (Functions(), {}, r"`model` must have activation layers; got none that runs"),
        (None, {"layers": ["trunk.0"]}, r"Unknown activation layer 'trunk.0'"),
        (None, {"alpha": -1.0}, r"`alpha` must be a finite number above 0"),
        (None, {"gradient": "one"}, r"Unknown gradient 'one'"),
    ],
    ids=["twice", "functions", "no activation", "alpha", "gradient"],
)
def test_what_cannot_be_sparsified_is_refused(module, options, message) -> None:
    model = net() if module is None else wrap(module, shape=SHAPE, classes=3, embedding="a")
    with pytest.raises(ValueError, match=message):
        mean_sparse(model, DATA, **options)
    assert not operators(model)


def test_it_is_not_trained_and_a_verdict_by_one_derivative_is_an_upper_bound() -> None:
    sparse = mean_sparse(net(), DATA, 0.3)
    with pytest.raises(ValueError, match=r"Train first, then `mean_sparse`"):
        train(sparse, DATA, Recipe(epochs=1, batch_size=8), seed=0)
    verdict = evaluate(sparse, DATA, "l2:0.1", attacks="pgd-2")
    (check,) = [c for c in verdict.masking if c["check"] == "one derivative of MeanSparse"]
    assert check["evidence"] == "identity alone"
    assert verdict.is_upper_bound
    plain = evaluate(net(), DATA, "l2:0.1", attacks="pgd-2")
    assert "one derivative" not in str(plain.masking)


def test_operators_are_put_in_once_and_needed() -> None:
    model = net()
    with pytest.raises(ValueError, match=r"`model` must have MeanSparse operators; got none"):
        set_alpha(model, 0.2)
    insert_operators(model)
    with pytest.raises(ValueError, match=r"`model` must have no MeanSparse yet"):
        mean_sparse(model, DATA)


@pytest.mark.parametrize(
    "content",
    [
        {"layers": ["trunk.77"], "gradient": "own"},
        {"layers": ["trunk.1"], "gradient": "none"},
        {"layers": "trunk.1", "gradient": "own"},
        {"gradient": "own"},
    ],
)
def test_damaged_descriptions_are_refused(content, tmp_path: Path) -> None:
    save(mean_sparse(net(), DATA), tmp_path / "w.safetensors")
    tensors, header = safefile.read_tensors(tmp_path / "w.safetensors")
    text = to_json({**parse_json(header[KEY]), "mean_sparse": content})
    safefile.write_tensors(tmp_path / "bad.safetensors", tensors, {KEY: text})
    with pytest.raises(DataError, match=r"bad.safetensors"):
        load(tmp_path / "bad.safetensors")

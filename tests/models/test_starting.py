"""Weights as the start of a training: what is loaded, what is left, and what is refused."""

from pathlib import Path

import pytest
import torch

from notbugs.core.errors import DataError
from notbugs.models import build, load_start, save

SHAPE = (1, 8, 8)


def net(name="cnn", classes=10, seed=0, **options):
    return build(name, shape=SHAPE, classes=classes, seed=seed, mean=0.2, std=0.5, options=options)


@pytest.mark.parametrize("name", ["cnn", "resnet8", "vit", "fc", "densenet"])
@pytest.mark.parametrize("classes", [10, 3])
def test_all_is_loaded_but_a_last_layer_of_other_classes(name, classes, tmp_path: Path) -> None:
    old, new = net(name), net(name, classes, seed=1)
    fresh = {k: v.clone() for k, v in new.state_dict().items()}
    new.mean.zero_()
    save(old, tmp_path / "w.safetensors")
    left = load_start(new, tmp_path / "w.safetensors")
    assert bool(left) == (classes != 10)
    for key, value in new.state_dict().items():
        if key in left:
            assert len(value) == classes
            assert torch.equal(value, fresh[key])
        else:
            assert torch.equal(value, old.state_dict()[key])
    if left:
        assert all(key.startswith("body.head.") for key in left)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (net("cnn", 3, width=8), "of another shape: body.trunk.0.weight"),
        (net("mlp", 3), "holds the weights of another model: missing: "),
        (net("mlp", 10), "holds the weights of another model: missing: "),
        (
            build("cnn", shape=(1, 9, 8), classes=3, seed=0),
            r"of images of shape \(1, 8, 8\), not \(1, 9, 8\)",
        ),
    ],
    ids=["width", "architecture", "architecture of the same classes", "images"],
)
def test_a_model_that_differs_in_more_is_refused_and_unchanged(
    other, message, tmp_path: Path
) -> None:
    save(net(), tmp_path / "w.safetensors")
    before = {k: v.clone() for k, v in other.state_dict().items()}
    with pytest.raises(DataError, match=message):
        load_start(other, tmp_path / "w.safetensors")
    assert all(torch.equal(v, before[k]) for k, v in other.state_dict().items())

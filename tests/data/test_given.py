"""Data as others hold it: pairs, loaders, and datasets of tensors, arrays or pictures."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

import notbugs as nb
from notbugs.data.given import given

NAMES = ("zero", "one", "two")


def pair(count: int = 9) -> tuple[Tensor, Tensor]:
    x = torch.randint(0, 256, (count, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    return x.to(torch.uint8), torch.arange(count) % 3


class Pictures:
    """As torchvision: (picture, label), with `classes`; as Hugging Face: dictionaries."""

    def __init__(self, kind: str) -> None:
        self.kind, (self.x, self.y) = kind, pair()
        if kind == "torchvision":
            self.classes = list(NAMES)
        if kind == "hugging face":
            self.features = {"img": None, "label": SimpleNamespace(names=list(NAMES))}

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int):
        array = self.x[i].permute(1, 2, 0).numpy()
        if self.kind == "arrays":
            return array, int(self.y[i])
        picture, label = Image.fromarray(array), int(self.y[i])
        return (picture, label) if self.kind == "torchvision" else {"img": picture, "label": label}


def loader(size: int = 4) -> DataLoader:
    x, y = pair()
    return DataLoader(TensorDataset(x / 255, y), batch_size=size)


@pytest.mark.parametrize(
    ("value", "names"),
    [
        (pair(), None),
        (list(pair()), None),
        (TensorDataset(*pair()), None),
        (Pictures("arrays"), None),
        (Pictures("torchvision"), NAMES),
        (Pictures("hugging face"), NAMES),
    ],
)
def test_all_kinds_hold_the_same(value, names) -> None:
    x, y = pair()
    found = given(value)
    assert torch.equal(found.images, x)
    assert torch.equal(found.labels, y)
    assert found.class_names == names
    assert found.named().class_names == (names or ("0", "1", "2"))
    assert found.shape == (3, 8, 8)


def test_batches_of_a_loader_are_joined() -> None:
    found = given(loader())
    assert torch.equal(found.images, pair()[0] / 255)
    dictionaries = DataLoader(
        [{"image": x / 255, "label": int(y)} for x, y in zip(*pair(), strict=True)],  # type: ignore[arg-type]
        batch_size=2,
    )
    assert torch.equal(given(dictionaries).images, found.images)
    assert torch.equal(given(dictionaries).labels, found.labels)


def test_a_module_is_judged_on_data_as_it_is() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(192, 5))
    x, y = pair()
    whole = nb.ImageData(x / 255, y, tuple("01234"), "mine")
    attack = nb.pgd(nb.Linf(), 0.05, steps=2)
    verdicts = [
        nb.evaluate(net, data, "linf:0.05", attacks=[attack])
        for data in (whole, (x / 255, y), (x, y), loader(), TensorDataset(x / 255, y))
    ]
    rates = {(v.clean_accuracy, v.robust_accuracy) for v in verdicts}
    assert len(rates) == 1
    made = nb.train(net, (x / 255, y), nb.Recipe(epochs=1, batch_size=4), seed=0)
    assert made.model.classes == 5


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (3, r"`data` must be images and labels; got int\. Pass \(images, labels\)"),
        ("digits", "images and labels"),
        (pair()[0], "items"),
        ((pair()[0][0], pair()[1]), r"hold images \[n, channels, height, width\]"),
        ([], "one size; got none"),
        ([{"pixels": 1}], r"the columns \['pixels'\]"),
        ([(np.zeros((4, 4)), 1)], r"arrays \[h, w\] or \[h, w, c\] in 0..255.*float64"),
        ([("a.png", 1)], "images as tensors, arrays or of PIL"),
        ([(torch.zeros(1, 4, 4), 0), (torch.zeros(1, 5, 4), 1)], "one size.*Resize"),
        (
            [(torch.zeros(1, 4, 4).byte(), 0), (torch.rand(1, 4, 4), 1)],
            "one type; got torch.float32 and",
        ),
    ],
)
def test_what_is_no_data_is_refused_by_name(value, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        given(value)

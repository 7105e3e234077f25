"""Plain modules: taken as they are where images tell the rest, and given an embedding."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from notbugs.attacks import pgd
from notbugs.data import ImageData
from notbugs.engine import Linf
from notbugs.features import features_of
from notbugs.judge import accuracy, evaluate
from notbugs.models import Classifier, load, save_model, wrap
from notbugs.models.validation import check_classifier
from notbugs.representations import invert_images, layer_of

SHAPE, CLASSES = (1, 8, 8), 3


def plain(*heads: nn.Module) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.5),
        nn.Linear(16, CLASSES), *heads,
    )  # fmt: skip


def images(count: int = 12) -> tuple[Tensor, Tensor]:
    x = torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))
    return x, torch.arange(count) % CLASSES


@dataclass
class Output:
    loss: Tensor | None
    logits: Tensor


class Wrapped(nn.Module):
    """Gives its logits in a dataclass, a dictionary or a pair."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.net, self.kind = plain(), kind

    def forward(self, x: Tensor) -> object:
        logits = self.net(x)
        return {
            "dataclass": Output(None, logits),
            "dictionary": {"logits": logits},
            "pair": (logits, x),
        }[self.kind]


def test_attacks_and_judges_take_a_module_as_it_is() -> None:
    net, (x, y) = plain().train(), images()
    before = [p.clone() for p in net.parameters()]
    model = wrap(net, shape=SHAPE, classes=CLASSES, embedding="3")
    attack = pgd(Linf(), 0.1, steps=3)
    assert torch.equal(attack(net, x, y).x_adv, attack(model, x, y).x_adv)
    data = ImageData(x, y, ("a", "b", "c"), "mine")
    assert accuracy(net, data) == accuracy(model, data)
    verdicts = [evaluate(m, data, "linf:0.1", attacks=[attack]) for m in (net, model)]
    assert verdicts[0].robust_accuracy == verdicts[1].robust_accuracy
    assert all(module.training for module in net.modules())
    assert all(torch.equal(p, q) for p, q in zip(net.parameters(), before, strict=True))
    assert all(p.requires_grad and p.grad is None for p in net.parameters())
    assert not net[5]._forward_pre_hooks


@pytest.mark.parametrize("kind", ["dataclass", "dictionary", "pair"])
def test_outputs_that_hold_the_logits_are_taken(kind: str) -> None:
    net, (x, y) = Wrapped(kind), images()
    found = pgd(Linf(), 0.1, steps=3)(net, x, y)
    assert torch.equal(found.x_adv, pgd(Linf(), 0.1, steps=3)(net.net, x, y).x_adv)


def test_the_embedding_is_what_goes_into_the_last_linear_layer() -> None:
    net, (x, y) = plain().eval(), images()
    model = wrap(net, x)
    assert (model.classes, model.shape, model.embedding) == (CLASSES, SHAPE, "5.input")
    torch.testing.assert_close(model.embed(x), net[:5](x))
    logits, embedding = model.both(x)
    torch.testing.assert_close(net[5](embedding), logits)
    torch.testing.assert_close(layer_of(model, "1.input")(x), x.flatten(1))
    assert len(features_of(net, ImageData(x, y, ("a", "b", "c"), "mine"))) <= 16
    assert invert_images(model, x[:2], start=x[2:4], batch_size=2).x.shape == (2, *SHAPE)


def test_a_layer_of_that_name_is_meant_before_an_input() -> None:
    class Odd(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(64, 4)
            self.fc.input = nn.Linear(4, CLASSES)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc.input(self.fc(x.flatten(1)))

    net, (x, _) = Odd(), images()
    model = wrap(net, x, embedding="fc.input")
    torch.testing.assert_close(model.embed(x), net(x))
    assert wrap(net, x).embedding == "fc.input.input"


def test_without_a_linear_layer_only_the_embedding_is_missing() -> None:
    torch.manual_seed(0)
    net, (x, y) = nn.Sequential(nn.Conv2d(1, CLASSES, 8), nn.Flatten()), images()
    model = wrap(net, x)
    assert model.embedding is None
    assert bool(pgd(Linf(), 0.1, steps=3)(net, x, y).x_adv.isfinite().all())
    with pytest.raises(ValueError, match=r"have an embedding.*wrap\(module, embedding="):
        model.embed(x)
    for of in (net, model):
        with pytest.raises(ValueError, match=r"embedding.*wrap\(module, embedding="):
            invert_images(of, x[:1], start=x[1:2])


def test_a_layer_that_runs_twice_is_no_embedding() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.again = nn.Linear(64, 64), nn.Linear(64, 64)
            self.out = nn.Conv1d(64, CLASSES, 1)

        def forward(self, x: Tensor) -> Tensor:
            x = self.again(self.again(self.first(x.flatten(1))))
            return self.out(x[:, :, None])[:, :, 0]

    assert wrap(Twice(), images()[0]).embedding == "first.input"


def test_what_cannot_be_told_is_asked_for() -> None:
    net = plain()
    with pytest.raises(ValueError, match=r"`shape`.*wrap\(module, images\)"):
        wrap(net)
    with pytest.raises(ValueError, match=r"lie in \[0, 1\].*mean and std"):
        pgd(Linf(), 0.1)(net, 4 * images()[0] - 2, images()[1])
    with pytest.raises(ValueError, match="logits of shape"):
        wrap(nn.Conv2d(1, 2, 3), images()[0])
    with pytest.raises(ValueError, match="Unknown embedding layer '9'"):
        wrap(net, images()[0], embedding="9.input")


def test_weights_remember_the_embedding(tmp_path) -> None:
    for net in (plain(), nn.Sequential(nn.Conv2d(1, CLASSES, 8), nn.Flatten())):
        model = wrap(net, images()[0])
        save_model(model, tmp_path / "m.safetensors")
        loaded, _ = load(tmp_path / "m.safetensors", net)
        assert isinstance(loaded, Classifier)
        assert loaded.embedding == model.embedding


def test_a_module_beside_arrays_is_told_what_to_give() -> None:
    with pytest.raises(TypeError, match=r"Give the images as a tensor \[n, c, h, w\]"):
        check_classifier(nn.Linear(2, 2))

"""Models for the masking diagnosis: honest ones of many kinds, and ones that hide gradients."""

import io
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from notbugs.attacks.transforms import Resized
from notbugs.core import random
from notbugs.data import ImageData, Splits, load_source, split
from notbugs.judge.masked_models import anti_adversary_model
from notbugs.models import Classifier, build, wrap
from notbugs.training import Adversary, Recipe, train

SMALL = {"width": 8, "hidden": 32}
PLAIN = Recipe(epochs=12, batch_size=32, lr=0.1, warmup=0.2)
LEVELS = 8
"""Values of a pixel where it is quantised, and bits of its thermometer code."""


@dataclass(frozen=True)
class Judged:
    """A model with the images and the threat by which it is judged.

    `twin`: logits whose gradient serves an adaptive attack on a model that hides its own.
    """

    name: str
    model: Classifier
    data: ImageData
    threat: str
    twin: Callable[[Tensor], Tensor] | None = None
    samples: int = 1


class Cases:
    """Digits and the nets that several models share, trained on demand."""

    def __init__(self) -> None:
        self.parts = split(load_source("digits"), seed=0, train_size=700)

    def sigmoid(self) -> Classifier:
        """Sigmoid units, which want larger steps."""
        body = nn.Sequential(nn.Flatten(), nn.Linear(64, 64), nn.Sigmoid(), nn.Linear(64, 10))
        model = wrap(body, shape=(1, 8, 8), classes=10, embedding="2")
        recipe = replace(PLAIN, epochs=40, lr=0.5)
        return train(model, self.parts.train, recipe, seed=0).model.eval()

    def vit(self) -> Classifier:
        """Attention, which learns by Adam; SGD leaves it at chance on so few images."""
        data, order = self.parts.train, random.generator(0, "vit")
        options = {"patch": 2, "width": 32, "heads": 4}
        model = build("vit", shape=(1, 8, 8), classes=10, seed=0, options=options)
        adam = torch.optim.Adam(model.parameters(), lr=2e-3)
        for _ in range(40):
            for index in torch.randperm(len(data), generator=order).split(32):
                adam.zero_grad()
                F.cross_entropy(model.logits(data.pixels(index)), data.labels[index]).backward()
                adam.step()
        return model.eval()

    def trained(
        self, name: str, parts: Splits | None = None, recipe: Recipe = PLAIN, **options: object
    ) -> Classifier:
        """A built-in architecture, trained on digits."""
        given = parts or self.parts
        shape, classes = given.train.shape, given.train.classes
        model = build(name, shape=shape, classes=classes, seed=0, options=options)  # pyright: ignore
        return train(model, given.train, recipe, seed=0).model.eval()

    def fitted(self, body: nn.Module, parts: Splits | None = None, seed: int = 0) -> Classifier:
        """A module of one's own, trained on digits."""
        given = parts or self.parts
        torch.manual_seed(seed)
        for module in body.modules():
            if isinstance(module, nn.Linear | nn.Conv2d):
                module.reset_parameters()
        first = next(name for name, module in body.named_modules() if name and module is not body)
        shape, classes = given.train.shape, given.train.classes
        model = wrap(body, shape=shape, classes=classes, embedding=first)
        return train(model, given.train, PLAIN, seed=0).model.eval()


def dense(activation: type[nn.Module], pixels: int = 64, classes: int = 10) -> nn.Sequential:
    """Two hidden layers of 64 units."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(pixels, 64),
        activation(),
        nn.Linear(64, 64),
        activation(),
        nn.Linear(64, classes),
    )


def some(data: ImageData, classes: int) -> ImageData:
    """The images of the first classes."""
    kept = data.select((data.labels < classes).nonzero()[:, 0])
    return replace(kept, class_names=kept.class_names[:classes])


def in_parts(parts: Splits, change: Callable[[ImageData], ImageData]) -> Splits:
    """Every part, changed."""
    return replace(parts, train=change(parts.train), val=change(parts.val), test=change(parts.test))


def shrunk(data: ImageData) -> ImageData:
    """4x4 pixels: means of 2x2."""
    return ImageData(
        F.avg_pool2d(data.pixels(), 2), data.labels, data.class_names, f"{data.name} 4x4"
    )


def pairs(data: ImageData) -> ImageData:
    """Two digits side by side, 100 classes."""
    other = torch.randperm(len(data), generator=random.generator(0, "pairs"))
    x = torch.cat([data.pixels(), data.pixels()[other]], dim=3)
    names = tuple(f"{i:02d}" for i in range(100))
    return ImageData(x, data.labels * 10 + data.labels[other], names, "pairs of digits")


def two_pixels(data: ImageData) -> ImageData:
    """1x2 images: which pixel is the brighter, with a gap between the classes."""
    x = random.uniform(random.row_keys(len(data), data.name, len(data)), (1, 1, 2))
    gap = x[:, 0, 0, 0] - x[:, 0, 0, 1]
    kept = (gap.abs() > 0.1).nonzero()[:, 0]
    return ImageData(x[kept], (gap[kept] > 0).long(), ("left", "right"), "two pixels")


def honest(cases: Cases) -> dict[str, Callable[[], Judged]]:
    """Models that hide nothing: the diagnosis must be clear."""
    parts, digits = cases.parts, cases.parts.test
    two, three = (in_parts(parts, lambda data, k=k: some(data, k)) for k in (2, 3))
    small, hundred, pixels = (in_parts(parts, f) for f in (shrunk, pairs, two_pixels))
    robust = Recipe(
        epochs=12, lr=0.1, warmup=0.2, batch_size=32,
        adversary=Adversary("linf:0.1", steps=3, eps_warmup=0.5),
    )  # fmt: skip
    robust_l2 = replace(robust, adversary=Adversary("l2:0.8", steps=3, eps_warmup=0.5))
    overfit = replace(PLAIN, epochs=150)
    few = replace(parts, train=parts.train.select(slice(0, 100)))

    def on(threat: str, make: Callable[[], Classifier], data: ImageData = digits) -> Judged:
        return Judged("", make(), data, threat)

    def cnn(recipe: Recipe = PLAIN, given: Splits | None = None) -> Classifier:
        return cases.trained("cnn", given, recipe, **SMALL)

    return {
        "linear, Linf": lambda: on("linf:0.1", lambda: cases.trained("linear")),
        "linear, L2": lambda: on("l2:0.5", lambda: cases.trained("linear")),
        "mlp, Linf": lambda: on("linf:0.1", lambda: cases.trained("mlp", width=64)),
        "mlp, L1": lambda: on("l1:4", lambda: cases.trained("mlp", width=64)),
        "cnn, Linf": lambda: on("linf:0.1", cnn),
        "cnn, L2": lambda: on("l2:0.6", cnn),
        "cnn, L1": lambda: on("l1:4", cnn),
        "vit, Linf": lambda: on("linf:0.05", cases.vit),
        "vit, L2": lambda: on("l2:0.4", cases.vit),
        "resnet8, Linf": lambda: on("linf:0.05", lambda: cases.trained("resnet8", width=8)),
        "tanh, Linf": lambda: on("linf:0.1", lambda: cases.fitted(dense(nn.Tanh))),
        "sigmoid, L2": lambda: on("l2:0.6", cases.sigmoid),
        "gelu, Linf": lambda: on("linf:0.1", lambda: cases.fitted(dense(nn.GELU))),
        "robust, Linf": lambda: on("linf:0.1", lambda: cnn(robust)),
        "robust, L2": lambda: on("l2:0.8", lambda: cnn(robust_l2)),
        "robust, L1": lambda: on("l1:4", lambda: cnn(robust)),
        "overfit, Linf": lambda: on("linf:0.1", lambda: cnn(overfit, few)),
        "2 classes, Linf": lambda: on("linf:0.2", lambda: cnn(PLAIN, two), two.test),
        "3 classes, L2": lambda: on("l2:1", lambda: cnn(PLAIN, three), three.test),
        "100 classes, Linf": lambda: on(
            "linf:0.05", lambda: cases.trained("mlp", hundred, width=256), hundred.test
        ),
        "4x4 images, L2": lambda: on(
            "l2:0.2", lambda: cases.trained("mlp", small, width=64), small.test
        ),
        "1x2 images, Linf": lambda: on(
            "linf:0.15", lambda: cases.trained("mlp", pixels, width=16), pixels.test
        ),
    }


class After(nn.Module):
    """A net with something done to its logits."""

    def __init__(self, net: Callable[[Tensor], Tensor], after: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.after, self.flat = net, after, nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        return self.after(self.net(x))


class Before(nn.Module):
    """A net with something done to its images."""

    def __init__(self, net: Callable[[Tensor], Tensor], front: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.net, self.front, self.flat = net, front, nn.Flatten()

    def forward(self, x: Tensor) -> Tensor:
        return self.net(self.front(x))


class KWinners(nn.Module):
    """The largest tenth of the units, zero elsewhere (Xiao et al. 2019, arXiv 1905.10510)."""

    def forward(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        least = flat.topk(max(flat.shape[1] // 10, 1), dim=1).values[:, -1:]
        return (flat * (flat >= least)).reshape(x.shape)


class Thermometer(nn.Module):
    """Each pixel as `LEVELS` bits (Buckman et al. 2018)."""

    def forward(self, x: Tensor) -> Tensor:
        steps = torch.arange(1, LEVELS + 1, device=x.device) / (LEVELS + 1)
        hard = (x.flatten(1)[:, :, None] > steps).float().flatten(1)
        soft = (((x.flatten(1)[:, :, None] - steps) * 10).sigmoid()).flatten(1)
        return hard if not self.training else hard + soft - soft.detach()


class Dropped(nn.Module):
    """Dropout that draws in eval mode too."""

    def forward(self, x: Tensor) -> Tensor:
        return F.dropout(x, 0.3, training=True)


def jpeg(x: Tensor) -> Tensor:
    """Through JPEG at quality 50; no gradient passes."""
    made = []
    for image in (255 * x.detach()).round().clamp(0, 255).to(torch.uint8).cpu():
        file = io.BytesIO()
        Image.fromarray(image[0].numpy()).save(file, "JPEG", quality=50)
        pixels = torch.frombuffer(bytearray(Image.open(file).tobytes()), dtype=torch.uint8)
        made.append(pixels.reshape(image.shape) / 255)
    return torch.stack(made).to(x)


def dishonest(cases: Cases) -> dict[str, Callable[[], Judged]]:
    """Models whose robustness is false, or whose logits mislead what judges by rounding."""
    digits, cnn = cases.parts.test, cases.trained("cnn", **SMALL)
    other = cases.fitted(dense(nn.Tanh))
    more = replace(digits, class_names=(*digits.class_names, "a", "b"))
    resized = Resized(1.0, 0.8)

    def of(body: nn.Module, data: ImageData = digits, twin: object = cnn.logits) -> Judged:
        model = Classifier(body, shape=data.shape, classes=data.classes, embedding="flat").eval()
        return Judged("", model, data, "linf:0.1", twin)  # pyright: ignore

    def after(change: Callable[[Tensor], Tensor], data: ImageData = digits) -> Judged:
        return of(After(cnn, change), data)

    def before(front: Callable[[Tensor], Tensor]) -> Judged:
        return of(Before(cnn, front))

    def own(body: nn.Module, straight: bool = False) -> Judged:
        model = cases.fitted(body)
        return Judged("", model, digits, "linf:0.1", soft(model) if straight else model.logits)

    def batch_norms() -> nn.Module:
        norms = [nn.BatchNorm2d(8, track_running_stats=False) for _ in range(2)]
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, 2, 1), norms[0], nn.ReLU(),
            nn.Conv2d(8, 8, 3, 2, 1), norms[1], nn.ReLU(),
            nn.Flatten(), nn.Linear(32, 10),
        )  # fmt: skip

    def half_detached(x: Tensor) -> Tensor:
        return torch.cat([x[:, :, :4].detach(), x[:, :, 4:]], dim=2)

    def keyed(x: Tensor) -> Tensor:
        return resized(x, torch.randint(2**62, (len(x),), device=x.device))

    def masked(z: Tensor) -> Tensor:
        return torch.cat([z, torch.full_like(z[:, :2], -1e9)], dim=1)

    def winners() -> nn.Module:
        return nn.Sequential(nn.Conv2d(1, 16, 3, 1, 1), KWinners(), nn.Flatten(),
                             nn.Linear(1024, 128), KWinners(), nn.Linear(128, 10))  # fmt: skip

    def codes() -> nn.Module:
        return nn.Sequential(Thermometer(), nn.Linear(64 * LEVELS, 64), nn.ReLU(),
                             nn.Linear(64, 10))  # fmt: skip

    def dropped() -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 128), nn.ReLU(), Dropped(),
                             nn.Linear(128, 10))  # fmt: skip

    def surrogate(x: Tensor) -> Tensor:
        back = other.logits(x)
        return cnn.logits(x).detach() + back - back.detach()

    return {
        "masked classes": lambda: after(masked, more),
        "offset 1e4": lambda: after(lambda z: z + 1e4),
        "sigmoid": lambda: after(torch.sigmoid),
        "softmax at 0.05": lambda: after(lambda z: (z / 0.05).softmax(dim=1)),
        "softmax at 1e-3": lambda: after(lambda z: (z / 1e-3).softmax(dim=1)),
        "quantised input": lambda: before(lambda x: (x * (LEVELS - 1)).round() / (LEVELS - 1)),
        "JPEG": lambda: before(jpeg),
        "k-WTA": lambda: own(winners()),
        "thermometer": lambda: own(codes(), straight=True),
        "random resizing": lambda: before(keyed),
        "dropout": lambda: own(dropped()),
        "random resizing, 8 samples": lambda: replace(before(keyed), samples=8),
        "batch statistics": lambda: own(batch_norms()),
        "detached half": lambda: before(half_detached),
        "no gradient at all": lambda: after(torch.Tensor.detach),
        "surrogate backward": lambda: of(After(surrogate, lambda z: z)),
        "anti-adversary": lambda: Judged(
            "", anti_adversary_model(cnn), digits, "linf:0.1", cnn.logits
        ),
    }


def soft(model: Classifier) -> Callable[[Tensor], Tensor]:
    """The model with the straight-through gradient that it was trained by."""

    def logits(x: Tensor) -> Tensor:
        codes = [m for m in model.modules() if isinstance(m, Thermometer)]
        for module in codes:
            module.training = True
        try:
            return model.logits(x)
        finally:
            for module in codes:
                module.training = False

    return logits

"""Stand-ins for timm and torchvision: their doors, with small nets behind them."""

from types import SimpleNamespace

import torch
from torch import nn


class Net(nn.Module):
    """A net in the manner of both packages: a function, not a layer, flattens before `fc`."""

    def __init__(self, channels=3, classes=1000, size=8) -> None:
        super().__init__()
        self.size = size
        self.conv = nn.Conv2d(channels, 6, 3, stride=2, padding=1, bias=False)
        self.bn = nn.BatchNorm2d(6)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.fc = nn.Linear(6, classes)

    def features(self, x):
        if x.shape[-1] < self.size:
            raise RuntimeError("Output size is too small")
        return torch.flatten(self.pool(torch.relu(self.bn(self.conv(x)))), 1)

    def forward(self, x):
        return self.fc(self.features(x))

    def get_classifier(self):
        return self.fc


class Probabilities(Net):
    """Gives more than the last linear layer's output."""

    def forward(self, x):
        return super().forward(x).softmax(dim=1)


class Two(Net):
    """Gives two outputs in train mode, as nets with auxiliary heads do."""

    def forward(self, x):
        logits = super().forward(x)
        return (logits, logits) if self.training else logits


class Convolutional(Net):
    """Ends in a convolution."""

    def __init__(self, channels=3, classes=1000) -> None:
        super().__init__(channels, classes)
        self.fc = nn.Conv2d(6, classes, 1)

    def features(self, x):
        return super().features(x)[:, :, None, None]

    def forward(self, x):
        return super().forward(x).flatten(1)


NETS = {"resnet18": Net, "probs": Probabilities, "aux": Two, "squeezenet": Convolutional}
NETS["large"] = lambda channels=3, classes=1000: Net(channels, classes, size=32)


def timm() -> SimpleNamespace:
    """The part of timm that is used."""
    return SimpleNamespace(
        list_models=lambda: sorted(NETS),
        create_model=lambda name, *, pretrained, num_classes, in_chans: NETS[name](
            in_chans, num_classes
        ),
    )


def torchvision() -> SimpleNamespace:
    """The part of torchvision that is used; its nets take 3 channels and have no door for it."""

    def get_model(name, *, weights, num_classes):
        net = NETS[name](3, num_classes)
        net.get_classifier = None
        return net

    models = SimpleNamespace(get_model=get_model)
    models.list_models = lambda module: sorted(NETS) if module is models else ["maskrcnn"]
    return SimpleNamespace(models=models)


MADE = {"timm": timm, "torchvision": torchvision}

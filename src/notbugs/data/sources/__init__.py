"""The publishers' formats: digits, MNIST, Fashion-MNIST, CIFAR-10/100, folders of images."""

from notbugs.data.sources.load import SOURCES, load_source
from notbugs.data.sources.source import Source

__all__ = ["SOURCES", "Source", "load_source"]

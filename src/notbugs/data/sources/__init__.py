"""The publishers' formats: digits, MNIST, Fashion-MNIST, CIFAR-10/100, folders of images."""

from notbugs.data.sources.load import SOURCES, files_of, load_source
from notbugs.data.sources.source import Source
from notbugs.data.sources.synsets import load_synset_folder, read_synsets

__all__ = ["SOURCES", "Source", "files_of", "load_source", "load_synset_folder", "read_synsets"]

"""Image datasets: published, planted and user's own; splits, files, batches."""

from notbugs.data.dataset import JSON, ImageData
from notbugs.data.download import fetch
from notbugs.data.exchange import export_npz, import_npz, import_torch_lists
from notbugs.data.files import load, save
from notbugs.data.loader import Augment, DeviceData, batches, rows_at_once, streamed
from notbugs.data.pictures import ExportSummary, export_folder, read_picture
from notbugs.data.planted import Planted
from notbugs.data.sources import (
    SOURCES,
    Source,
    load_source,
    load_synset_folder,
    read_synsets,
)
from notbugs.data.splits import Splits, split
from notbugs.data.stars import StarsAndMoons
from notbugs.data.summary import channel_stats, summary

__all__ = [
    "JSON",
    "SOURCES",
    "Augment",
    "DeviceData",
    "ExportSummary",
    "ImageData",
    "Planted",
    "Source",
    "Splits",
    "StarsAndMoons",
    "batches",
    "channel_stats",
    "export_folder",
    "export_npz",
    "fetch",
    "import_npz",
    "import_torch_lists",
    "load",
    "load_source",
    "load_synset_folder",
    "read_picture",
    "rows_at_once",
    "read_synsets",
    "save",
    "split",
    "streamed",
    "summary",
]

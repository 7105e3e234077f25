"""Models: images in [0, 1] in, logits and an embedding out."""

from notbugs.models.classifier import Classifier
from notbugs.models.converted import Loaded, load_checkpoint
from notbugs.models.ensemble import ensemble
from notbugs.models.fast import half, prepare
from notbugs.models.folded_copy import Fast, FoldedCopy
from notbugs.models.frozen import frozen
from notbugs.models.layers import Body, capture, layer_names
from notbugs.models.mean_sparse import with_gradient
from notbugs.models.predictions import predicted_clean
from notbugs.models.prepared import prepared
from notbugs.models.starting import load_start
from notbugs.models.synced import synced
from notbugs.models.user import load_user_model
from notbugs.models.validation import check_fits
from notbugs.models.views import of_views
from notbugs.models.weights import load, load_into, read_metadata, save
from notbugs.models.weights import save as save_model
from notbugs.models.wrap import wrap
from notbugs.models.zoo import ARCHITECTURES, build, default_options

__all__ = [
    "ARCHITECTURES",
    "Body",
    "Classifier",
    "Fast",
    "FoldedCopy",
    "Loaded",
    "build",
    "capture",
    "check_fits",
    "default_options",
    "ensemble",
    "frozen",
    "half",
    "layer_names",
    "load",
    "load_checkpoint",
    "load_into",
    "load_start",
    "load_user_model",
    "of_views",
    "predicted_clean",
    "prepare",
    "prepared",
    "read_metadata",
    "save",
    "save_model",
    "synced",
    "with_gradient",
    "wrap",
]

"""Robust and non-robust features: constructed training sets and their controls."""

from notbugs.features.build import InversionSettings, inverted_set, require_skill, targeted_set
from notbugs.features.classifier import feature_classifier, feature_weights
from notbugs.features.controls import (
    DIRECTIONS,
    class_patterns,
    direction_control,
    leakage_control,
    noise_images,
    shuffled_labels,
    without_class_means,
)
from notbugs.features.encoded import encoded_set
from notbugs.features.families import cosine_features, cosine_frequencies, kernel_features
from notbugs.features.observers import (
    Observer,
    nearest_image,
    nearest_in,
    nearest_mean,
    observed,
    seen,
    turned,
)
from notbugs.features.shortcuts import Shortcut
from notbugs.features.size import Sized, to_size
from notbugs.features.sparse import SparseAutoencoder, matched, train_sparse_autoencoder
from notbugs.features.targets import TARGET_KINDS, choose_targets
from notbugs.features.usefulness import (
    Features,
    Usefulness,
    features_of,
    pixel_features,
    restricted,
    usefulness,
)

__all__ = [
    "DIRECTIONS",
    "TARGET_KINDS",
    "Features",
    "InversionSettings",
    "Observer",
    "Shortcut",
    "Sized",
    "SparseAutoencoder",
    "Usefulness",
    "choose_targets",
    "class_patterns",
    "direction_control",
    "cosine_features",
    "cosine_frequencies",
    "encoded_set",
    "feature_classifier",
    "feature_weights",
    "features_of",
    "inverted_set",
    "kernel_features",
    "leakage_control",
    "matched",
    "nearest_image",
    "nearest_in",
    "nearest_mean",
    "noise_images",
    "observed",
    "pixel_features",
    "require_skill",
    "restricted",
    "seen",
    "shuffled_labels",
    "targeted_set",
    "to_size",
    "train_sparse_autoencoder",
    "turned",
    "usefulness",
    "without_class_means",
]

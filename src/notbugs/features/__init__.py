"""Robust and non-robust features: constructed training sets and their controls."""

from notbugs.features.build import InversionSettings, inverted_set, require_skill, targeted_set
from notbugs.features.controls import class_patterns, leakage_control
from notbugs.features.size import Sized, to_size
from notbugs.features.targets import TARGET_KINDS, choose_targets

__all__ = [
    "TARGET_KINDS",
    "InversionSettings",
    "Sized",
    "choose_targets",
    "class_patterns",
    "inverted_set",
    "leakage_control",
    "require_skill",
    "targeted_set",
    "to_size",
]

"""What a representation holds: inversion (more to come: interpolation, visualisation)."""

from notbugs.representations.invert import EmbeddingDistance, inversion, invert, relative_error

__all__ = ["EmbeddingDistance", "inversion", "invert", "relative_error"]

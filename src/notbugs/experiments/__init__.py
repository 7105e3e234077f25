"""Experiments: one file a paper; a frozen config, claims, and a run."""

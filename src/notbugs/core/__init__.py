"""Shared basics: types, errors, per-row randomness. Imports torch and numpy only."""

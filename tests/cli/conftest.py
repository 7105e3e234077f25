"""Fixtures of several commands' tests."""

from pathlib import Path

import pytest

from notbugs.cli import main


@pytest.fixture(scope="module")
def trained_file(tmp_path_factory) -> Path:
    """A small model of digits that `train` wrote."""
    out = tmp_path_factory.mktemp("models") / "first"
    main(["train", "--out", str(out), "--train-size", "300", "--epochs", "12"])
    return out / "model.safetensors"

"""Shape annotations are checked in every test: jaxtyping and beartype watch the package."""

import sys
from pathlib import Path

import torch
from jaxtyping import install_import_hook

sys.path.insert(0, str(Path(__file__).parent))
install_import_hook("notbugs", "typecheck.check")
torch.set_num_threads(1)

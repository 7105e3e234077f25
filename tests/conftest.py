"""Shape annotations are checked in every test: jaxtyping and beartype watch the package."""

import os
import sys
import tempfile
from pathlib import Path

import torch
from jaxtyping import install_import_hook

sys.path.insert(0, str(Path(__file__).parent))
install_import_hook("notbugs", "typecheck.check")
torch.set_num_threads(1)
os.environ["NOTBUGS_CACHE"] = tempfile.mkdtemp(prefix="notbugs-test-cache-")  # not the user's

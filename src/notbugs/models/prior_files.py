"""Denoisers and generators as safetensors files."""

import json
from pathlib import Path

from notbugs.core.errors import DataError
from notbugs.data import safefile
from notbugs.models.denoiser import Denoiser
from notbugs.models.generator import ImageGenerator
from notbugs.models.state import put_state

FORMAT = "notbugs-prior"
KINDS = {"denoiser": Denoiser, "generator": ImageGenerator}


def save_prior(net: Denoiser | ImageGenerator, path: Path) -> None:
    """Writes a trained net, with what makes it again.

    **Raises** StoreError where the file cannot be written; an older one stays as it was.
    """
    kind = "denoiser" if isinstance(net, Denoiser) else "generator"
    facts = {"format": FORMAT, "kind": kind, "facts": json.dumps(net.facts)}
    safefile.write_tensors(path, net.state_dict(), facts)


def load_prior(path: Path) -> Denoiser | ImageGenerator:
    """The net that `save_prior` wrote, on the CPU, in eval mode, without parameter gradients.

    **Raises** DataError where the file is missing, damaged or of another kind.
    """
    tensors, metadata = safefile.read_tensors(path)
    try:
        if metadata["format"] != FORMAT:
            raise KeyError(metadata["format"])
        facts = json.loads(metadata["facts"])
        shape = tuple(facts.pop("shape"))
        net = KINDS[metadata["kind"]](shape, seed=0, **facts)
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"'{path}' holds no denoiser or generator of notbugs ({error}). "
            "Make one with `train_denoiser` or `train_generator` and `save_prior`."
        ) from error
    put_state(net, tensors, path)
    return net.eval().requires_grad_(False)

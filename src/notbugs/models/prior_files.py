"""Denoisers, generators and principal components as safetensors files."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

from notbugs.core.errors import DataError
from notbugs.core.schema import fit
from notbugs.core.strict_json import parse_json, to_json
from notbugs.data import safefile
from notbugs.models.denoiser import Denoiser
from notbugs.models.generator import ImageGenerator
from notbugs.models.principal import PrincipalComponents
from notbugs.models.state import put_state

FORMAT = "notbugs-prior"


@dataclass(frozen=True)
class Facts:
    """The arguments of any of them."""

    shape: tuple[int, int, int]


@dataclass(frozen=True)
class DenoiserFacts(Facts):
    """The arguments of a denoiser."""

    width: int


@dataclass(frozen=True)
class PrincipalFacts(Facts):
    """The arguments of principal components."""

    codes: int


@dataclass(frozen=True)
class GeneratorFacts(DenoiserFacts):
    """The arguments of a generator."""

    codes: int
    upsample: str
    layers: str = "convolutional"


Prior: TypeAlias = Denoiser | ImageGenerator | PrincipalComponents
KINDS: Mapping[str, tuple[type[Prior], type[Facts]]] = {
    "denoiser": (Denoiser, DenoiserFacts),
    "generator": (ImageGenerator, GeneratorFacts),
    "principal": (PrincipalComponents, PrincipalFacts),
}


def save_prior(net: Prior, path: Path) -> None:
    """Writes a trained net, with the arguments to make it again.

    **Raises** StoreError where the file cannot be written; an older file is kept.
    """
    kind = next(name for name, (made, _) in KINDS.items() if isinstance(net, made))
    facts = {"format": FORMAT, "kind": kind, "facts": to_json(net.facts)}
    safefile.write_tensors(path, net.state_dict(), facts)


def load_prior(path: Path) -> Prior:
    """The net that `save_prior` wrote, on the CPU, in eval mode, without parameter gradients.

    **Raises** DataError where the file is missing, damaged or of another kind.
    """
    metadata = safefile.read_header(path)
    try:
        if metadata["format"] != FORMAT:
            raise KeyError(metadata["format"])
        make, schema = KINDS[metadata["kind"]]
        facts = fit(schema, parse_json(metadata["facts"]))
        tensors, _ = safefile.read_tensors(path)
        net = make(seed=0, **asdict(facts))
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        raise DataError(
            f"'{path}' holds no denoiser or generator of notbugs ({error}). "
            "Make one with `train_denoiser` or `train_generator` and `save_prior`."
        ) from error
    put_state(net, tensors, path)
    return net.eval().requires_grad_(False)

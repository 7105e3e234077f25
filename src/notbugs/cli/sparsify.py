"""`notbugs sparsify`: MeanSparse operators put into a trained model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from notbugs.cli.kinds import WEIGHTS
from notbugs.cli.outputs import Output, check_outputs
from notbugs.cli.subject import OfModel, Subject
from notbugs.core.errors import bad_value, check_positive
from notbugs.data.files import SUFFIX
from notbugs.judge import accuracy
from notbugs.models import save_model
from notbugs.models.weights import RESERVED
from notbugs.store.digests import Digests
from notbugs.training import mean_sparse
from notbugs.zoo.addresses import public_name, weights_at


@dataclass(frozen=True)
class Sparsify:
    """Set features near their channel's mean to the mean, before activations (MeanSparse).

    Of an adversarially trained model (Amini et al. 2024). Inside the interval the operator is
    constant: attacks by its own derivative (--gradient own) may miss what attacks that pass through
    it find. Write both files and evaluate both: an image is robust if it is under both, so that
    each number alone is an upper bound.

    Try:
      notbugs sparsify robust --out sparse.safetensors
      notbugs sparsify robust --alpha 0.2 --gradient own --out own.safetensors
    """

    weights: Annotated[Path, tyro.conf.Positional]
    """A .safetensors file, the folder that train wrote, zoo:NAME or hub:OWNER/REPO."""
    out: Path
    """The .safetensors file to write."""
    alpha: float = 0.2
    """Half the width of the interval, in deviations of the channel."""
    layers: tuple[str, ...] = ()
    """Activation layers; all without it."""
    gradient: str = "identity"
    """What attacks see of the operators: identity, or their own derivative."""
    overwrite: bool = False
    """Replace a file of that name that notbugs did not write."""
    given: OfModel = Subject()

    def run(self, console: Console) -> None:
        """Measures the statistics, says what clean accuracy they cost, and writes."""
        if self.out.suffix != SUFFIX:
            raise bad_value("--out", f"end in {SUFFIX}", f"'{self.out}'", f"Add {SUFFIX}.")
        check_positive(self.alpha, "--alpha")
        inputs = self.given.inputs(self.weights)
        check_outputs({"--out": Output(self.out, WEIGHTS)}, inputs, overwrite=self.overwrite)
        original, facts = self.given.opened(self.weights)
        parts = self.given.splits(facts)
        sparse = mean_sparse(
            original, parts.train, self.alpha, layers=self.layers or None, gradient=self.gradient
        )
        before, after = (accuracy(model, parts.val) for model in (original, sparse))
        # Nobody knows which images a converted model was trained on.
        kind = "training" if "converted_from" in facts else "held-out training"
        console.print(
            f"MeanSparse at alpha {self.alpha:g}. Clean accuracy on {len(parts.val)} {kind} "
            f"images: {before:.1f} % before, {after:.1f} % after.",
            soft_wrap=True,
        )
        origin = {
            "weights": public_name(self.weights),
            "digest": Digests().of(weights_at(self.weights)),
            "alpha": self.alpha,
        }
        kept = {name: value for name, value in facts.items() if name not in (*RESERVED, "command")}
        user = {} if self.given.model is None else {"model": self.given.model}
        save_model(sparse, self.out, metadata=kept | user | {"sparsified_from": origin})
        console.print(f"Model: {self.out}", soft_wrap=True)

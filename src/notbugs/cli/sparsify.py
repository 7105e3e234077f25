"""`notbugs sparsify`: MeanSparse operators put into a trained model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from notbugs.cli.kinds import WEIGHTS
from notbugs.cli.outputs import Output, check_outputs
from notbugs.cli.subject import OfModel, Subject
from notbugs.core.errors import bad_value
from notbugs.data.files import SUFFIX
from notbugs.judge import accuracy
from notbugs.models import save_model
from notbugs.models.mean_sparse import set_alpha
from notbugs.models.weights import RESERVED
from notbugs.store.digests import Digests
from notbugs.training import largest_alpha, mean_sparse
from notbugs.zoo.addresses import public_name, weights_at


@dataclass(frozen=True)
class Sparsify:
    """Set features near their channel's mean to the mean, before activations (MeanSparse).

    Of an adversarially trained model (Amini et al. 2024). Inside the interval the operator is
    constant: attacks by its own derivative (--gradient own) may miss what attacks that pass through
    it find. Write both files, evaluate both, and believe the lower number.

    Try:
      notbugs sparsify robust --out sparse.safetensors
      notbugs sparsify robust --alpha 0.2 --gradient own --out own.safetensors
    """

    weights: Annotated[Path, tyro.conf.Positional]
    """A .safetensors file, the folder that train wrote, zoo:NAME or hub:OWNER/REPO."""
    out: Path
    """The .safetensors file to write."""
    alpha: float | None = None
    """Half the width of the interval in deviations of the channel; without it the largest of 0.05,
    0.1, ... 1 up to which accuracy on held-out training images falls by at most --most."""
    most: float = 0.5
    """Without --alpha: percentage points of held-out clean accuracy that may be lost."""
    layers: tuple[str, ...] = ()
    """Activation layers; all without it."""
    gradient: str = "identity"
    """What attacks see of the operators: identity, or their own derivative."""
    overwrite: bool = False
    """Replace a file of that name that notbugs did not write."""
    given: OfModel = Subject()

    def run(self, console: Console) -> None:
        """Measures the statistics, chooses the width, says what it costs, and writes."""
        if self.out.suffix != SUFFIX:
            raise bad_value("--out", f"end in {SUFFIX}", f"'{self.out}'", f"Add {SUFFIX}.")
        inputs = self.given.inputs(self.weights)
        check_outputs({"--out": Output(self.out, WEIGHTS)}, inputs, overwrite=self.overwrite)
        original, facts = self.given.opened(self.weights)
        parts = self.given.splits(facts)
        sparse = mean_sparse(
            original, parts.train, 0.0, layers=self.layers or None, gradient=self.gradient
        )
        alpha = self.alpha
        if alpha is None:
            alpha = largest_alpha(sparse, parts.val, most=self.most)
        set_alpha(sparse, alpha)
        before, after = (accuracy(model, parts.val) for model in (original, sparse))
        how = f", the largest that costs at most {self.most:g} points" * (self.alpha is None)
        console.print(
            f"MeanSparse at alpha {alpha:g}{how}. Clean accuracy on {len(parts.val)} held-out "
            f"training images: {before:.1f} % before, {after:.1f} % after.",
            soft_wrap=True,
        )
        origin = {
            "weights": public_name(self.weights),
            "digest": Digests().of(weights_at(self.weights)),
            "alpha": alpha,
        }
        kept = {name: value for name, value in facts.items() if name not in RESERVED}
        user = {} if self.given.model is None else {"model": self.given.model}
        save_model(sparse, self.out, metadata=kept | user | {"sparsified_from": origin})
        console.print(f"Model: {self.out}", soft_wrap=True)

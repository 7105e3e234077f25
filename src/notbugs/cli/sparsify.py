"""`notbugs sparsify`: MeanSparse operators put into a trained model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from notbugs.cli.common import moved, open_model, splits_for
from notbugs.cli.kinds import WEIGHTS
from notbugs.cli.outputs import Output, check_outputs, inputs_of
from notbugs.core.errors import bad_value
from notbugs.data.files import SUFFIX
from notbugs.judge import accuracy
from notbugs.models import save_model
from notbugs.models.mean_sparse import set_alpha
from notbugs.models.weights import RESERVED, weights_in
from notbugs.store.digests import Digests
from notbugs.training import largest_alpha, mean_sparse


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
    """A .safetensors file, or the folder that train wrote."""
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
    data: str | None = None
    """Another dataset than the weights name."""
    data_dir: Path | None = None
    """Where the dataset's files lie."""
    model: str | None = None
    """Your own model: path/to/file.py:factory."""
    embedding: str | None = None
    """With --model: the layer whose output is the embedding; without it what the weights
    name, or the input of the last linear layer."""
    overwrite: bool = False
    """Replace a file of that name that notbugs did not write."""
    device: str = "auto"
    """auto, cpu or cuda."""

    def run(self, console: Console) -> None:
        """Measures the statistics, chooses the width, says what it costs, and writes."""
        if self.out.suffix != SUFFIX:
            raise bad_value("--out", f"end in {SUFFIX}", f"'{self.out}'", f"Add {SUFFIX}.")
        inputs = inputs_of(
            weights=self.weights, model=self.model, data=self.data, data_dir=self.data_dir
        )
        check_outputs({"--out": Output(self.out, WEIGHTS)}, inputs, overwrite=self.overwrite)
        original, facts = open_model(
            self.weights, self.model, self.embedding, self.data, self.data_dir
        )
        parts = splits_for(facts, self.data, self.data_dir, None)
        original = moved(original, self.device)
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
            "weights": str(weights_in(self.weights)),
            "digest": Digests().of(weights_in(self.weights)),
            "alpha": alpha,
        }
        kept = {name: value for name, value in facts.items() if name not in RESERVED}
        user = {} if self.model is None else {"model": self.model}
        save_model(sparse, self.out, metadata=kept | user | {"sparsified_from": origin})
        console.print(f"Model: {self.out}", soft_wrap=True)

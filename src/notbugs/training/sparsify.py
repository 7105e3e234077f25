"""MeanSparse after training: its statistics are of training images."""

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from notbugs.data import DeviceData, ImageData
from notbugs.models import Classifier, frozen, prepared
from notbugs.models.layers import INPUT, recorded
from notbugs.models.mean_sparse import insert_operators, operators, set_alpha

CHUNK = 512


@prepared()
def mean_sparse(
    model: Classifier,
    data: ImageData,
    alpha: float = 0.2,
    *,
    layers: Sequence[str] | None = None,
    gradient: str = "identity",
) -> Classifier:
    """A copy of a trained model with `MeanSparse` before its activations.

    The threshold of a channel is alpha times its deviation over the images `data` and positions.

    - `data`: training images
    - `alpha`: at least 0, in deviations. Clean accuracy is no guide to it: choose it by robust
      accuracy under both derivatives, on held-out images
    - `layers`: names of activation layers inside the model's body; None: all
    - `gradient`: what attacks see of the operators: "identity", or their "own" derivative, which
      is 0 where a feature is near its mean and can mask gradients. Evaluate both
      (`with_gradient`): an image is robust if it is under both

    **Source**: Amini et al. 2024 (arXiv 2406.05927), for adversarially trained models.
    **Differs from the paper**: exact statistics of all images, for its mean over batches.

    **Raises** ValueError for a negative alpha, and as `insert_operators`.
    """
    copied = copy.deepcopy(model)
    insert_operators(copied, layers, gradient)
    sums = _moments(copied, data)
    for name, operator in operators(copied).items():
        count, total, squares = sums[name]
        mean = total / count
        operator.mean.copy_(mean.view_as(operator.mean))
        variance = (squares / count - mean.square()).clamp(min=0)
        operator.deviation.copy_(variance.sqrt().view_as(operator.mean))
    set_alpha(copied, alpha)
    return copied


def _moments(model: Classifier, data: ImageData) -> dict[str, tuple[int, Tensor, Tensor]]:
    """For each operator's input: how many, their sum and sum of squares by channel, in float64."""
    found, device_data = operators(model), DeviceData(data, model.device)
    sums: dict[str, tuple[int, Tensor, Tensor]] = {}

    def record(name: str, features: object) -> None:
        assert isinstance(features, Tensor)
        rows = features.double().movedim(1 if features.ndim == 4 else -1, -1)
        rows = rows.reshape(-1, rows.shape[-1])
        layer = name.removesuffix(INPUT)
        count, total, squares = sums.get(layer, (0, 0.0, 0.0))
        new = (count + len(rows), total + rows.sum(dim=0), squares + rows.square().sum(dim=0))
        sums[layer] = new

    names = [name + INPUT for name in found]
    with frozen(model), torch.no_grad(), recorded(model.body, names, record):
        for index in torch.arange(len(data)).split(CHUNK):
            model(device_data.batch(index)[0].to(model.mean.dtype))
    return sums

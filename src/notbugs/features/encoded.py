"""A constructed set whose perturbations move codes: of an encoder that never saw a label."""

from collections.abc import Callable
from itertools import chain

import torch
from torch import Tensor, nn

from notbugs.attacks.latent import Encoder, frozen_encoder, latent
from notbugs.core import processes, random
from notbugs.core.errors import bad_value, check_count
from notbugs.core.types import Labels
from notbugs.data import JSON, ImageData
from notbugs.engine import Threat
from notbugs.features.build import only_reached, origin
from notbugs.features.size import to_size
from notbugs.features.targets import choose_targets
from notbugs.models import prepared


@prepared(model="encoder", kind=object)
def encoded_set(
    encoder: Encoder,
    data: ImageData,
    threat: Threat,
    *,
    seed: int,
    name: str = "D_code",
    steps: int = 40,
    batch_size: int = 256,
    device: torch.device | str | None = None,
    progress: Callable[[float], None] = lambda fraction: None,
) -> ImageData:
    """A set of images whose codes are moved towards those of images of a wrong class, its label.

    For each image x of class y: a class t != y is drawn, and an image z of it;
    x' = argmin over the threat of ||encoder(x') - encoder(z)||_2 (`latent`). Every perturbation is
    then brought to norm eps exactly (within 1 %); images that cannot reach it are dropped and
    counted. As D_other (`targeted_set`), with an encoder in the place of the classifier.

    - `encoder`: differentiable, images [n, c, h, w] to codes [n, ...], e.g. `autoencoder.code`
    - `steps`: of Auto-PGD
    - `device`: where it computes; None: where the weights of a module, or of a method's, are
    - columns: `true_labels`, `source_rows`, `target_rows` (of z), `distance`, `closed` (the share
      of the codes' distance that the change closes)

    **Raises** ValueError for an encoder without gradients, a threat that is not a norm, counts
    below 1, and a threat that no image reaches.
    **Source**: Ilyas et al. 2019 (arXiv 1905.02175), section 3.2, for the set; the encoder in it is
    asked for in the post "The Structure of Adversarial Perturbations".
    """
    check_count(steps, "steps")
    check_count(batch_size, "batch_size")
    norm = threat.as_norm("this set")
    targets = choose_targets("other", data.labels, data.classes, seed=seed)
    partners = of_classes(data, targets, seed=seed)
    keys = random.row_keys(len(data), seed, "encoded-set")
    device = device_of(encoder) if device is None else device

    def moved(index: Tensor) -> tuple[Tensor, ...]:
        x = data.pixels(index).to(device)
        with torch.no_grad():
            code = encoder(data.pixels(partners[index]).to(device))
        found = latent(encoder, x, code, norm, threat.eps, steps=steps, keys=keys[index].to(device))
        sized = to_size(x, found.x_adv, norm, threat.eps)
        with torch.no_grad():
            after = encoder(sized.x)
        left = (after - code).flatten(1).norm(dim=1) / found.before.clamp(min=1e-12)
        return sized.x.cpu().float(), sized.reached.cpu(), (1 - left).cpu()

    with frozen_encoder(encoder):
        images, reached, closed = processes.in_batches(len(data), batch_size, moved, progress)
    columns = {
        "true_labels": data.labels,
        "source_rows": torch.arange(len(data)),
        "target_rows": partners,
        "distance": norm.size(images - data.pixels()),
        "closed": closed,
    }
    facts: dict[str, JSON] = {
        "recipe": name,
        "source": origin(data),
        "norm": norm.name,
        "eps": threat.eps,
        "steps": steps,
        "seed": seed,
    }
    made = ImageData(images, targets, data.class_names, name, facts, columns)
    return only_reached(made, reached, threat)


def of_classes(data: ImageData, classes: Labels, *, seed: int) -> Tensor:
    """For each class of `classes` [n] the row of a drawn image of it, [n].

    **Raises** ValueError for a class without images.
    """
    rows = torch.empty(len(classes), dtype=torch.int64)
    keys = random.row_keys(len(classes), seed, "partners")
    for c in classes.unique().tolist():
        members, asked = (data.labels == c).nonzero()[:, 0], classes == c
        if not len(members):
            raise bad_value(
                "data", "hold images of every class", f"none of '{data.class_names[c]}'"
            )
        rows[asked] = members[random.integers(keys[asked], len(members))]
    return rows


def device_of(encoder: Encoder) -> torch.device:
    """Where an encoder computes: the place of its weights; the processor for one without."""
    owner = getattr(encoder, "__self__", encoder)
    parts = chain(owner.parameters(), owner.buffers()) if isinstance(owner, nn.Module) else ()
    return next((part.device for part in parts), torch.device("cpu"))

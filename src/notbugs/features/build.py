"""The constructed training sets of Ilyas et al.: D_R, D_NR, D_rand, D_det and D_other."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from notbugs.attacks import pgd, predicted
from notbugs.core import processes, random
from notbugs.core.errors import TrainingError, bad_value, check_count, unknown_name
from notbugs.core.types import Images, Labels, Mask
from notbugs.data import JSON, ImageData, rows_at_once
from notbugs.engine import L2, Last, Threat
from notbugs.features.size import to_size
from notbugs.features.targets import choose_targets
from notbugs.judge import accuracy
from notbugs.models import Classifier, frozen, half, prepared
from notbugs.models.validation import check_gradients
from notbugs.representations import inversion, invert

Progress = Callable[[float], None]


def _silent(fraction: float) -> None:
    return None


STARTS = ("images", "noise")
"""What an inverted image can begin as."""


@dataclass(frozen=True)
class InversionSettings:
    """Settings of the inversion: `steps` normalised L2 steps of length `step_size`.

    With "cosine" the step shrinks to zero over the solve. The paper's settings are 1000
    constant steps of 0.1 (CIFAR-10).

    - `start`: "images", each another of the data, or "noise", uniform in [0, 1]

    **Raises** ValueError for an unknown start.
    """

    steps: int = 200
    step_size: float = 0.5
    schedule: str = "cosine"
    start: str = "images"

    def __post_init__(self) -> None:
        if self.start not in STARTS:
            raise unknown_name("start", self.start, STARTS)


@prepared()
def inverted_set(
    model: Classifier,
    data: ImageData,
    *,
    name: str,
    seed: int,
    settings: InversionSettings = InversionSettings(),
    batch_size: int = 256,
    precision: str = "float32",
    progress: Progress = _silent,
) -> ImageData:
    """A set of images with the embeddings of `data`'s images, optimised from unrelated images.

    For each image x: minimise ||g(x_r) - g(x)||_2 over x_r in [0, 1], where g is the
    model's embedding and the first x_r is another random image of `data` (or noise: see
    `InversionSettings`); the label is that of x. With a robust model this is D_R, with a standard
    one D_NR: the recipe is the same, only the matched representation differs.

    - `data`: n images with true labels; `name`: "D_R" or "D_NR"
    - returns n float images; columns: `true_labels`, `source_rows` (row of the start, or, from
      noise, of x),
      `relative_error` (||g(x_r) - g(x)|| / ||g(x)||), `from_original` (||x_r - x||_2: if near
      0, the embedding determines the whole image and the set is a copy)

    **Raises** TrainingError when `model` is at chance on `data`; ValueError when they do not
    fit each other, or a step or batch is not positive.
    **Source**: Ilyas et al. 2019 (arXiv 1905.02175), section 3.1 and Appendix C.1, eq. 5-6.
    **Differs from the paper**: the step length may shrink (see `InversionSettings`).
    """
    check_count(batch_size, "batch_size")
    batch_size = rows_at_once(data.shape, batch_size, model.device)
    require_skill(model, data)
    solver = inversion(settings.steps, settings.step_size, schedule=settings.schedule)
    noisy = settings.start == "noise"
    starts = torch.arange(len(data)) if noisy else random.cycle(len(data), seed, "invert-start")
    keys = random.row_keys(len(data), seed, "invert")
    device = next(model.parameters()).device
    embed = half(model.embed, precision)

    def matched(index: Tensor) -> tuple[Tensor, ...]:
        x = data.pixels(index).to(device)
        start = (
            random.uniform(random.fold(keys[index], "start"), data.shape)
            if noisy
            else data.pixels(starts[index])
        ).to(device)
        with torch.no_grad():
            target = embed(x)
        result = invert(embed, target, start, solver=solver, keys=keys[index].to(device))
        length = torch.linalg.vector_norm(target, dim=1).clamp(min=1e-12)
        return result.x.cpu().float(), (result.value / length).cpu(), L2().size(result.x - x).cpu()

    with frozen(model):
        _check_embedding(model, data, embed, batch_size)
        images, error, moved = processes.in_batches(len(data), batch_size, matched, progress)
    columns = {
        "true_labels": data.labels,
        "source_rows": starts,
        "relative_error": error,
        "from_original": moved,
    }
    facts: dict[str, JSON] = {
        "recipe": name,
        "source": origin(data, model),
        "steps": settings.steps,
        "step_size": settings.step_size,
        "schedule": settings.schedule,
        "start": settings.start,
        "seed": seed,
        "relative_error": float(columns["relative_error"].mean()),
        "from_original": float(columns["from_original"].mean()),
    }
    return ImageData(images, data.labels, data.class_names, name, facts, columns)


@torch.no_grad()
def _check_embedding(
    model: Classifier, data: ImageData, embed: Callable[[Images], Tensor], batch_size: int
) -> None:
    """Refuses an embedding of zeros."""
    embedding = embed(data.pixels(slice(0, batch_size)).to(model.device))
    if not bool(embedding.any()):
        raise TrainingError(
            f"The embedding '{model.embedding}' is zero for the images of '{data.name}': "
            "every image matches it. Name another layer, or train the model again."
        )


@prepared()
def targeted_set(
    model: Classifier,
    data: ImageData,
    kind: str,
    threat: Threat,
    *,
    seed: int,
    steps: int = 100,
    step_size: float | None = None,
    batch_size: int = 256,
    precision: str = "float32",
    at_chance: bool = False,
    progress: Progress = _silent,
) -> ImageData:
    """A set of images pushed towards a wrong class t within `threat`, and labelled t.

    For each image x: x_adv = argmin over the threat of the cross-entropy of `model`
    towards t, by PGD from x itself; the last point is taken, as in the paper (the first of
    zero loss would stop short of eps). `kind` chooses t (see `choose_targets`): "rand" is
    D_rand, "det" D_det, "other" D_other. For "other" every perturbation is then brought
    to norm eps exactly (within 1 %); images that cannot reach it are dropped and counted.

    - `step_size`: pixel units of [0, 1]; None means 2.5 * eps / steps
    - `at_chance`: take a model that is at chance too (a control: what do the perturbations
      of an untrained model carry?)
    - columns: `true_labels`, `source_rows`, `success` (the model predicts t), `distance`

    **Raises** TrainingError when `model` is at chance on `data`, unless `at_chance`; ValueError
    when they do not fit each other, `kind` is unknown, no image can reach eps ("other"), or a
    step or batch is not positive.
    **Source**: Ilyas et al. 2019 (arXiv 1905.02175), section 3.2 and Appendix C.2.
    """
    check_count(steps, "steps")
    check_count(batch_size, "batch_size")
    batch_size = rows_at_once(data.shape, batch_size, model.device)
    if not at_chance:
        require_skill(model, data)
    targets = choose_targets(kind, data.labels, data.classes, seed=seed)
    size = 2.5 * threat.eps / steps if step_size is None else step_size
    other = kind == "other"
    x_adv, reached = _pushed(
        model, data, targets, threat, steps, size, batch_size, precision, progress, sized=other
    )
    name = f"D_{kind}"
    facts: dict[str, JSON] = {
        "recipe": name,
        "source": origin(data, model),
        "norm": threat.norm.name,
        "eps": threat.eps,
        "steps": steps,
        "step_size": size,
        "seed": seed,
        "targets": {
            "rand": "uniform over all classes",
            "det": "(y + 1) mod classes",
            "other": "uniform over the classes that are not y",
            "cycle": "the next class in an order drawn by the seed",
        }[kind],
    }
    if at_chance:
        facts |= {"at_chance": True}
    made = _labelled(model, data, x_adv, targets, threat, name, facts, batch_size)
    return only_reached(made, reached, threat) if other else made


@prepared()
def require_skill(model: Classifier, data: ImageData) -> None:
    """Refuses a source model that is at chance: its features mean nothing.

    At chance: accuracy within three standard errors of always guessing one class.

    **Raises** TrainingError for such a model; ValueError for images of one class alone.
    """
    counts = torch.bincount(data.labels)
    if int(counts.max()) == len(data):
        raise bad_value(
            "data",
            "hold images of at least two classes, to compare the model with a constant guess",
            f"'{data.class_names[int(counts.argmax())]}' alone in '{data.name}'",
            "Add images of other classes, and select this one from the set that is made.",
        )
    share = 100 * float(counts.max()) / len(data)
    spread = 3 * (share * (100 - share) / len(data)) ** 0.5
    got = accuracy(model, data)
    if got <= share + spread:
        raise TrainingError(
            f"The source model is at chance on '{data.name}': {got:.1f} % right where always "
            f"guessing one class gives {share:.1f} %. Its features mean nothing: train it longer "
            "or with a lower learning rate."
        )


def _pushed(
    model: Classifier,
    data: ImageData,
    targets: Labels,
    threat: Threat,
    steps: int,
    step_size: float,
    batch_size: int,
    precision: str,
    progress: Progress,
    *,
    sized: bool,
) -> tuple[Images, Mask]:
    """(the perturbed images, which of them have distance eps: all unless `sized`)."""
    norm = threat.as_norm("this set" if sized else "PGD")
    attack = pgd(
        norm,
        threat.eps,
        steps=steps,
        step_size=step_size,
        random_start=False,
        keep=Last(),
    )
    device = next(model.parameters()).device
    keys = random.row_keys(len(data), "targeted-set")
    logits = half(model, precision)

    def pushed(index: Tensor) -> tuple[Tensor, Tensor]:
        x, t = data.pixels(index).to(device), targets[index].to(device)
        x_adv = attack.craft(logits, x, targets=t, keys=keys[index].to(device)).x.float()
        if not sized:
            return x_adv.cpu(), torch.ones(len(x), dtype=torch.bool)
        result = to_size(x, x_adv, norm, threat.eps)
        return result.x.cpu(), result.reached.cpu()

    with frozen(model):
        check_gradients(model, data.pixels(slice(0, 1)).to(device), "targeted_set")
        images, reached = processes.in_batches(len(data), batch_size, pushed, progress)
    lost = torch.cat([~part.flatten(1).isfinite().all(dim=1) for part in images.split(batch_size)])
    if bool(lost.any()):
        raise TrainingError(
            f"The source model's gradients are not finite on {int(lost.sum())} of {len(data)} "
            "images, which are lost in steps along them. The square root or the norm of a zero "
            "has such a gradient: add a small number under it."
        )
    return images, reached


def _labelled(
    model: Classifier,
    data: ImageData,
    x_adv: Images,
    targets: Labels,
    threat: Threat,
    name: str,
    facts: dict[str, JSON],
    batch_size: int,
) -> ImageData:
    """The finished set, with the source model's success measured on what is returned."""
    device = next(model.parameters()).device

    def measured(index: Tensor) -> tuple[Tensor, Tensor]:
        made = x_adv[index]
        distance = threat.norm.size(made - data.pixels(index).cpu())
        return predicted(model.logits(made.to(device))).cpu(), distance

    with frozen(model), torch.no_grad():
        predictions, distance = processes.in_batches(len(x_adv), batch_size, measured)
    columns = {
        "true_labels": data.labels,
        "source_rows": torch.arange(len(data)),
        "success": predictions == targets,
        "distance": distance,
    }
    return ImageData(x_adv, targets, data.class_names, name, facts, columns)


def origin(data: ImageData, model: Classifier | None = None) -> dict[str, JSON]:
    """From what a set was made, for its provenance."""
    made_by: dict[str, JSON] = {} if model is None else {"architecture": model.architecture}
    return {"data": data.name, "digest": data.digest, **made_by}


def only_reached(made: ImageData, reached: Mask, threat: Threat) -> ImageData:
    """The images of a set that reached the radius; the others are counted as "dropped".

    **Raises** ValueError where there are none.
    """
    if not bool(reached.any()):
        raise bad_value(
            "threat",
            "be reachable inside [0, 1] by changes that are not zero",
            f"{threat}, which no image of {made.name} reaches",
            "Use a smaller eps, or leave this set out.",
        )
    facts = {**made.provenance, "dropped": int((~reached).sum())}
    return replace(made, provenance=facts).select(reached.nonzero()[:, 0])

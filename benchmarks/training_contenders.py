"""Who trains robustly: ours, the peers, and the loops that users write by hand."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from craft import Craft, Setting
from peers import prepare
from pgd_contenders import plain
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from notbugs.data import ImageData
from notbugs.models import Classifier
from notbugs.models import prepare as on_device
from notbugs.training import Adversary, Recipe, train


@dataclass(frozen=True)
class Course:
    """What all are told alike: SGD with Nesterov momentum, and PGD from a random start.

    The learning rate rises over the first tenth of the steps and falls as a cosine; `eps` in
    pixel units of [0, 1], for Linf.
    """

    epochs: int
    batch_size: int
    lr: float
    eps: float
    steps: int = 7
    momentum: float = 0.9
    weight_decay: float = 5e-4

    @property
    def attack(self) -> Setting:
        """The PGD that crafts."""
        return Setting("linf", self.eps, self.steps, 2.5 * self.eps / self.steps, True)

    @property
    def recipe(self) -> Recipe:
        """All of it, as we write it."""
        return Recipe(
            epochs=self.epochs,
            batch_size=self.batch_size,
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            warmup=0.1,
            adversary=Adversary(
                f"linf:{self.eps:g}", steps=self.steps, step_size=self.attack.step_size
            ),
        )

    def image_gradients(self, images: int) -> int:
        """Passes forward and backward: `steps` to craft an image and one to learn from it."""
        return images * self.epochs * (self.steps + 1)


Teach = Callable[[Classifier, ImageData, Course, int], None]
"""(model, data, course, seed): trains the model in place; as many images as fill the batches."""

TUTORIAL, CAREFUL, LINED_UP = "tutorial loop", "careful loop", "careful loop, channels last"
PLAIN = "notbugs"
OURS = (PLAIN, "notbugs, channels last", "notbugs, bf16", "notbugs, bf16, channels last")
PEERS = ("ART", "ART, whole batches", "torchattacks")


def contenders(*, peers: bool = True) -> dict[str, Teach]:
    """Everyone, by the name in the tables; `peers` need benchmarks/.venv."""
    own: dict[str, Teach] = {
        TUTORIAL: tutorial,
        CAREFUL: by_batch(careful),
        LINED_UP: in_channels_last(by_batch(careful)),
        PLAIN: ours(),
        OURS[1]: in_channels_last(ours()),
        OURS[2]: ours("bf16"),
        OURS[3]: in_channels_last(ours("bf16")),
    }
    if not peers:
        return own
    return own | {PEERS[0]: art_madry, PEERS[1]: art_whole, PEERS[2]: by_batch(torchattacks)}


def ours(precision: str = "float32") -> Teach:
    """`train`, with nothing watched on the way."""

    def teach(model: Classifier, data: ImageData, course: Course, seed: int) -> None:
        train(model, data, replace(course.recipe, precision=precision), seed=seed)

    return teach


def in_channels_last(teach: Teach) -> Teach:
    """The same after the model's weights were laid out channels last."""

    def lined_up(model: Classifier, data: ImageData, course: Course, seed: int) -> None:
        teach(on_device(model, "cpu", channels_last=True), data, course, seed)

    return lined_up


def tutorial(model: Classifier, data: ImageData, course: Course, seed: int) -> None:
    """As tutorials write it: train mode throughout, and `backward` in the inner loop as well.

    Gradients by the parameters are computed with every step of PGD, and thrown away before
    the model learns.
    """
    optimiser, scheduler = optimised(model, data, course)
    model.train()
    batches = loader(data, course)
    for _ in range(course.epochs):
        for x, y in batches:
            noise = torch.empty_like(x).uniform_(-course.eps, course.eps)
            x_adv = torch.clamp(x + noise, 0, 1)
            for _ in range(course.steps):
                x_adv = x_adv.detach().requires_grad_()
                F.cross_entropy(model(x_adv), y).backward()
                moved = x_adv.detach() + course.attack.step_size * x_adv.grad.sign()
                delta = torch.clamp(moved - x, -course.eps, course.eps)
                x_adv = torch.clamp(x + delta, 0, 1)
            optimiser.zero_grad()
            F.cross_entropy(model(x_adv), y).backward()
            optimiser.step()
            scheduler.step()
    model.eval()


def careful(model: Classifier, course: Course) -> Craft:
    """Crafting as one who knows writes it: eval mode, and no gradients by the parameters."""
    return plain(course.attack)


def torchattacks(model: Classifier, course: Course) -> Craft:
    """Its PGD, which puts the model in eval mode and back."""
    prepare()
    import torchattacks as library

    given = course.attack
    attack = library.PGD(model, eps=given.eps, alpha=given.step_size, steps=given.steps)
    return lambda net, x, y: attack(x, y)


def by_batch(make: Callable[[Classifier, Course], Craft]) -> Teach:
    """A loop that has each batch crafted by an attack, and learns from it."""

    def teach(model: Classifier, data: ImageData, course: Course, seed: int) -> None:
        optimiser, scheduler = optimised(model, data, course)
        craft, batches = make(model, course), loader(data, course)
        model.train()
        for _ in range(course.epochs):
            for x, y in batches:
                x_adv = craft(model, x, y)
                optimiser.zero_grad()
                F.cross_entropy(model(x_adv), y).backward()
                optimiser.step()
                scheduler.step()
        model.eval()

    return teach


def art_madry(model: Classifier, data: ImageData, course: Course, seed: int) -> None:
    """AdversarialTrainerMadryPGD as it comes: its PGD crafts 32 images at a time."""
    prepare()
    from art.defences.trainer import AdversarialTrainerMadryPGD

    given, (classifier, scheduler) = course.attack, art_classifier(model, data, course)
    trainer = AdversarialTrainerMadryPGD(
        classifier,
        nb_epochs=course.epochs,
        batch_size=course.batch_size,
        eps=given.eps,
        eps_step=given.step_size,
        max_iter=given.steps,
        num_random_init=1,
    )
    trainer.fit(data.pixels().numpy(), data.labels.numpy(), scheduler=scheduler)
    model.eval()


def art_whole(model: Classifier, data: ImageData, course: Course, seed: int) -> None:
    """AdversarialTrainer with a PGD that crafts the whole batch at once."""
    prepare()
    from art.attacks.evasion import ProjectedGradientDescentPyTorch
    from art.defences.trainer import AdversarialTrainer

    given, (classifier, scheduler) = course.attack, art_classifier(model, data, course)
    attack = ProjectedGradientDescentPyTorch(
        classifier,
        eps=given.eps,
        eps_step=given.step_size,
        max_iter=given.steps,
        num_random_init=1,
        batch_size=course.batch_size,
        verbose=False,
    )
    AdversarialTrainer(classifier, attack, ratio=1.0).fit(
        data.pixels().numpy(),
        data.labels.numpy(),
        batch_size=course.batch_size,
        nb_epochs=course.epochs,
        scheduler=scheduler,
    )
    model.eval()


def art_classifier(model: Classifier, data: ImageData, course: Course) -> tuple[object, object]:
    """(the model with its optimiser as ART wants it, the schedule).

    Its trainers fit a batch a call, and a schedule moves on after each call: per step, as
    everyone else's.
    """
    from art.estimators.classification import PyTorchClassifier

    optimiser, scheduler = optimised(model, data, course)
    classifier = PyTorchClassifier(
        model,
        loss=nn.CrossEntropyLoss(),
        optimizer=optimiser,
        input_shape=model.shape,
        nb_classes=model.classes,
        clip_values=(0.0, 1.0),
        device_type="cpu",
    )
    return classifier, scheduler


def optimised(
    model: Classifier, data: ImageData, course: Course
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LambdaLR]:
    """SGD as torch gives it by default, and the recipe's schedule, a step at a time."""
    optimiser = torch.optim.SGD(
        model.parameters(),
        lr=course.lr,
        momentum=course.momentum,
        weight_decay=course.weight_decay,
        nesterov=True,
    )
    recipe, steps = course.recipe, course.epochs * (len(data) // course.batch_size)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: recipe.rate(step, steps) / course.lr
    )
    return optimiser, scheduler


def loader(data: ImageData, course: Course) -> DataLoader[tuple[Tensor, ...]]:
    """Batches, shuffled anew in every epoch by the global generator."""
    pairs = TensorDataset(data.pixels(), data.labels)
    return DataLoader(pairs, batch_size=course.batch_size, shuffle=True)

"""The way into every public function of a model and images: checked, and made ready for torch."""

import functools
import inspect
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from notbugs.core.errors import bad_type, check_images
from notbugs.core.types import Images
from notbugs.data import ImageData
from notbugs.models.classifier import Classifier, check_no_finer
from notbugs.models.validation import check_classifier, check_fits, check_precision, dtype_of

P = ParamSpec("P")
R = TypeVar("R")

DEVICES = ("cpu", "cuda")
"""Where autocast may be on."""

PREPARED = "__prepared__"
"""The mark of a decorated function."""


def prepared(
    *images: str, model: str = "model", kind: type = Classifier
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Makes a public function see only models and images that it can work with.

    While the function runs, inference mode and autocast are off and gradients on: its results
    do not depend on where it is called. Before that,

    - the model is refused where it is not of the `kind`, computes in half precision, or was
      made in inference mode;
    - images are refused where they do not lie in [0, 1] or are finer than the model; coarser
      ones are raised to what it computes in, which changes no value, and so is the result;
    - `ImageData` is refused where it does not fit the model;
    - what is asked to be `ImageData` or a `Threat` is refused where it is not; a threat may
      be written, as `"l2:0.5"`;
    - tensors made in inference mode are copied, for torch saves none of them for a gradient.

    Args:
        images: names of the arguments that are images [n, c, h, w] in [0, 1]. One that is
            None or a word is left alone.
        model: name of the argument that is the model.
        kind: of the model: `Classifier`, `nn.Module` or, for any callable, `object`.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        asked = {
            name: parameter.annotation
            for name, parameter in signature.parameters.items()
            if parameter.annotation is ImageData or hasattr(parameter.annotation, "parse")
        }

        @functools.wraps(function)
        def call(*arguments: P.args, **options: P.kwargs) -> R:
            bound = signature.bind(*arguments, **options)
            with plainly():
                for name, wanted in asked.items():
                    if name in bound.arguments:
                        bound.arguments[name] = _of_kind(bound.arguments[name], name, wanted)
                _prepare(bound.arguments, images, model, kind)
                return function(*bound.args, **bound.kwargs)

        vars(call)[PREPARED] = True  # kept by whatever else wraps the function
        return call

    return decorate


@contextmanager
def plainly() -> Generator[None, None, None]:
    """Runs the block with inference mode and autocast off, and gradients on."""
    with torch.inference_mode(False), without_autocast():
        yield


@contextmanager
def without_autocast() -> Generator[None, None, None]:
    """Runs the block with autocast off: what is measured is measured in full precision."""
    with ExitStack() as stack:
        for device in DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def _prepare(given: dict[str, Any], images: tuple[str, ...], name: str, kind: type) -> None:
    """Checks the arguments `given`, and replaces those that have to be of another form."""
    _check_kind(given[name], name, kind)
    for argument, value in given.items():
        owner = _owner(value)
        if isinstance(owner, nn.Module):
            check_precision(owner, argument)
        elif isinstance(value, ImageData):
            check_fits(given[name], value, argument)
        elif isinstance(value, Tensor) and value.is_inference():
            given[argument] = value.clone()
    for argument in images:
        if not isinstance(given.get(argument), str | None):
            given[argument] = raised(given[argument], given[name], argument)


def _of_kind(value: object, name: str, kind: Any) -> object:
    """The value, of that kind: a threat that is written is read."""
    if isinstance(value, kind):
        return value
    if kind is ImageData:
        remedy = "Make one: ImageData(images, labels, class_names, name)."
        raise bad_type(name, "an ImageData", value, remedy)
    if isinstance(value, str):
        return kind.parse(value)
    raise bad_type(
        name, f"a {kind.__name__}", value, f"Write one: {kind.__name__}.parse('l2:0.5')."
    )


def _owner(value: object) -> object:
    """The model of a method such as `model.embed`, else the value itself."""
    return getattr(value, "__self__", value)


def _check_kind(model: object, name: str, kind: type) -> None:
    if kind is Classifier:
        check_classifier(model)
    elif not isinstance(model, kind):
        raise bad_type(name, "a torch module", model, "For plain functions use `invert`.")


def raised(x: Tensor, model: object, argument: str = "x") -> Images:
    """The images in what the model computes in, or where that is not known in at least float32.

    No value changes. **Raises** ValueError for images outside [0, 1], and for those of more
    precision than the model's.
    """
    check_images(x, argument)
    owner = _owner(model)
    dtype = dtype_of(owner) if isinstance(owner, nn.Module) else None
    wanted = torch.promote_types(x.dtype, torch.float32) if dtype is None else dtype
    check_no_finer(x, wanted, argument)
    return x.detach().to(wanted)

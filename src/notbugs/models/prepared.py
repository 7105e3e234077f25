"""A decorator for public functions of models and images: checks and converts the arguments."""

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
from notbugs.data.given import Given, given
from notbugs.models.classifier import Classifier, Shape, check_no_finer
from notbugs.models.validation import check_classifier, check_fits, check_precision, dtype_of
from notbugs.models.wrap import wrap

P = ParamSpec("P")
R = TypeVar("R")

DEVICES = ("cpu", "cuda")
"""Device types on which autocast may be on."""

PREPARED = "__prepared__"
"""The attribute that marks a decorated function."""


def prepared(
    *images: str, model: str = "model", kind: type = Classifier
) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Checks and converts the models and images that a public function is called with.

    While the function runs, inference mode and autocast are off and gradients on, so results do
    not depend on the caller's context. Before that,

    - a plain module in the place of a `Classifier` is taken as one of the images' shape
      (`wrap`); the model is refused if it is not of type `kind`, computes in half precision, or
      was made in inference mode;
    - images are refused if they do not lie in [0, 1] or have a higher precision than the
      model; those of lower precision are converted to the model's, which changes no value;
    - `ImageData` is refused if it does not fit the `Classifier`;
    - arguments annotated as `ImageData` may also be a pair (images, labels), a `DataLoader` or a
      dataset (`data.given`); a `Threat` may be text, `"l2:0.5"`; what is neither is refused;
    - tensors made in inference mode are copied, as torch cannot save them for a gradient.

    Args:
        images: names of the arguments that are images [n, c, h, w] in [0, 1]. None and strings
            are left unchanged.
        model: name of the argument that is the model.
        kind: type of the model: `Classifier`, `nn.Module` or, for any callable, `object`.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        signature = inspect.signature(function)
        checked = {
            name: parameter.annotation
            for name, parameter in signature.parameters.items()
            if parameter.annotation is ImageData or hasattr(parameter.annotation, "parse")
        }

        @functools.wraps(function)
        def call(*arguments: P.args, **options: P.kwargs) -> R:
            bound = signature.bind(*arguments, **options)
            with plainly():
                for name, annotation in checked.items():
                    if name in bound.arguments:
                        bound.arguments[name] = _of_kind(bound.arguments[name], name, annotation)
                _prepare(bound.arguments, images, model, kind)
                return function(*bound.args, **bound.kwargs)

        vars(call)[PREPARED] = True  # `functools.wraps` copies it to outer wrappers
        return call

    return decorate


@contextmanager
def plainly() -> Generator[None, None, None]:
    """Runs the block with inference mode and autocast off, and gradients on."""
    with torch.inference_mode(False), without_autocast():
        yield


@contextmanager
def without_autocast() -> Generator[None, None, None]:
    """Runs the block with autocast off, in full precision."""
    with ExitStack() as stack:
        for device in DEVICES:
            if torch.is_autocast_enabled(device):
                stack.enter_context(torch.autocast(device, enabled=False))
        yield


def _prepare(arguments: dict[str, Any], images: tuple[str, ...], name: str, kind: type) -> None:
    """Checks the arguments, and converts them in place where needed."""
    if kind is Classifier and _is_plain(arguments[name]):
        shape = _shape_in(arguments, images)
        if shape is not None:
            arguments[name] = classifier_of(arguments[name], shape)
    _check_kind(arguments[name], name, kind)
    for argument, value in arguments.items():
        if isinstance(value, Given):
            arguments[argument] = value.named(getattr(arguments[name], "classes", None))
    for argument, value in arguments.items():
        owner = _owner(value)
        if isinstance(owner, nn.Module):
            check_precision(owner, argument)
        elif isinstance(value, ImageData) and kind is Classifier:
            check_fits(arguments[name], value, argument)
        elif isinstance(value, Tensor) and value.is_inference():
            arguments[argument] = value.clone()
    for argument in images:
        if not isinstance(arguments.get(argument), str | None):
            arguments[argument] = raised(arguments[argument], arguments[name], argument)


def classifier_of(model: nn.Module, shape: Shape) -> Classifier:
    """The model itself, or a plain module as a classifier of images of that shape.

    **Raises** TypeError for what is no module; ValueError as `wrap`.
    """
    if _is_plain(model):
        return wrap(model, shape=shape)
    check_classifier(model)
    assert isinstance(model, Classifier)
    return model


def _is_plain(model: object) -> bool:
    return isinstance(model, nn.Module) and not isinstance(model, Classifier)


def _shape_in(arguments: dict[str, Any], images: tuple[str, ...]) -> Shape | None:
    """The shape of the images that a function is called with; None without any."""
    for name, value in arguments.items():
        if isinstance(value, ImageData | Given):
            return value.shape
        if name in images and isinstance(value, Tensor):
            check_images(value, name)
            return (value.shape[1], value.shape[2], value.shape[3])
    return None


def _of_kind(value: object, name: str, kind: Any) -> object:
    """The value, which must be of type `kind`, or something that can be made one."""
    if isinstance(value, kind):
        return value
    if kind is ImageData:
        return given(value, name)
    if isinstance(value, str):
        return kind.parse(value)
    raise bad_type(name, f"a {kind.__name__}", value, f"Make one: {kind.__name__}.parse('l2:0.5').")


def _owner(value: object) -> object:
    """The model of a method such as `model.embed`, else the value itself."""
    return getattr(value, "__self__", value)


def _check_kind(model: object, name: str, kind: type) -> None:
    if kind is Classifier:
        check_classifier(model)
    elif not isinstance(model, kind):
        raise bad_type(name, "a torch module", model, "For plain functions use `invert`.")


def raised(x: Tensor, model: object, argument: str = "x") -> Images:
    """The images in the model's dtype, or in at least float32 where that is not known.

    No value changes. **Raises** ValueError for images outside [0, 1], and for those of a higher
    precision than the model's.
    """
    check_images(x, argument)
    owner = _owner(model)
    dtype = dtype_of(owner) if isinstance(owner, nn.Module) else None
    if dtype is None:
        dtype = torch.promote_types(x.dtype, torch.float32)
    check_no_finer(x, dtype, argument)
    return x.detach().to(dtype)

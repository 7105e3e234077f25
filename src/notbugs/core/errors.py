"""The package's exceptions, and checks of arguments with uniform messages.

Every message names the argument, what was expected, what was received, and a remedy, so
that a user can fix the call without reading the source.
"""

import difflib
from collections.abc import Iterable

import torch
from torch import Tensor

PIXEL_TOLERANCE = 1e-6
CLAMPABLE_EXCESS = 0.01
"""Images outside [0, 1] by less than this get the remedy to clamp."""
FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""The dtypes that images may have."""


class NotbugsError(Exception):
    """Base of errors about files, disks and processes, as opposed to bad arguments."""


class DataError(NotbugsError):
    """A dataset or weights file is missing, corrupt, truncated or of another kind."""


class CheckpointError(DataError):
    """The checkpoint of a training is damaged, or belongs to another training."""


class DownloadError(DataError):
    """A download failed, or what arrived does not have the expected checksum."""


class DataWarning(UserWarning):
    """Images of a dataset were converted or left out when it was read."""


class TrainingError(NotbugsError):
    """Training cannot continue (a non-finite loss, a source model at chance)."""


class StoreError(NotbugsError):
    """The store or an output folder cannot be written, is full, or belongs to something else."""


def bad_value(argument: str, expected: str, received: object, remedy: str = "") -> ValueError:
    """A `ValueError` with the uniform message: argument, expected, received, remedy.

    Further lines of a remedy, such as code, become a note of the error.
    """
    first, _, more = remedy.partition("\n")
    error = ValueError(f"`{argument}` must {expected}; got {received}. {first}".rstrip())
    if more:
        error.add_note(more)
    return error


def bad_type(argument: str, expected: str, received: object, remedy: str = "") -> TypeError:
    """A `TypeError` with the uniform message: argument, expected, received, remedy."""
    text = f"`{argument}` must be {expected}; got {type(received).__name__}."
    return TypeError(f"{text} {remedy}".rstrip())


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ValueError:
    """A `ValueError` for an unknown name, suggesting the nearest known one."""
    names = sorted(known)
    without_number = name.rstrip("0123456789").rstrip("-")  # of steps, as in "pgd-20"
    matches = [
        match
        for written in (name, without_number)
        for match in difflib.get_close_matches(written, names, n=1, cutoff=0.5)
    ]
    hint = f" Did you mean '{matches[0]}'?" if matches else ""
    return ValueError(f"Unknown {kind} '{name}'.{hint} Known: {', '.join(names)}.")


def _first_row(bad: Tensor) -> int:
    """The index of the first row (first dimension) that holds a true entry."""
    return int(bad.flatten(1).any(dim=1).nonzero()[0, 0])


def check_dense(tensor: Tensor, argument: str) -> None:
    """Refuses sparse, nested, quantised and meta tensors."""
    if tensor.is_meta:
        raise bad_value(
            argument, "hold values", "a tensor on the device 'meta'", "Make it on a real device."
        )
    if tensor.is_nested or tensor.layout != torch.strided or tensor.is_quantized:
        kind = "nested" if tensor.is_nested else f"{tensor.layout}, {tensor.dtype}"
        remedy = "Use torch.nested.to_padded_tensor." if tensor.is_nested else "Use .to_dense()."
        remedy = "Use .dequantize()." if tensor.is_quantized else remedy
        raise bad_type(argument, "a dense tensor", tensor, f"It is {kind}. {remedy}")


def check_images(x: Tensor, argument: str = "x") -> None:
    """Refuses anything but a floating batch `[n, c, h, w]` of finite values in [0, 1].

    A tolerance of 1e-6 allows for rounding. The first bad row is named.
    """
    if not isinstance(x, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise bad_type(argument, "a torch.Tensor", x, "Use torch.as_tensor(array).")
    check_dense(x, argument)
    if x.dtype not in FLOATS:
        remedy = "use .float()." if x.is_floating_point() or x.is_complex() else "divide by 255."
        raise bad_type(
            argument, "a floating tensor in [0, 1]", x, f"Its dtype is {x.dtype}; {remedy}"
        )
    if x.ndim != 4 or 0 in x.shape:
        raise bad_value(
            argument,
            "have shape [n, channels, height, width] with no empty dimension",
            f"shape {tuple(x.shape)}",
            "Add the missing dimensions with unsqueeze.",
        )
    low, high = (float(v) for v in torch.aminmax(x.detach()))
    if not (low >= -PIXEL_TOLERANCE and high <= 1 + PIXEL_TOLERANCE):
        _explain_bad_pixels(x.detach(), argument)


def _explain_bad_pixels(x: Tensor, argument: str) -> None:
    finite = torch.isfinite(x)
    if not bool(finite.all()):
        raise bad_value(
            argument,
            "be finite",
            f"NaN or infinity, first in row {_first_row(~finite)}",
            "Remove or repair those images.",
        )
    row = _first_row((x < -PIXEL_TOLERANCE) | (x > 1 + PIXEL_TOLERANCE))
    low, high = (float(v) for v in torch.aminmax(x))
    remedy = "Pass images before normalisation: the model normalises, by its mean and std (`wrap`)."
    received = ""
    if low >= 0 and high > 16:
        remedy = "The range looks like 0..255: divide by 255."
    if max(-low, high - 1) < CLAMPABLE_EXCESS:
        received = f", outside by {max(-low, high - 1):.1g}"
        remedy = f"Rounding or resizing causes this: use {argument}.clamp(0, 1)."
    raise bad_value(
        argument,
        "lie in [0, 1]",
        f"min={low:.3g}, max={high:.3g}{received} (first bad row: {row})",
        remedy,
    )


def check_labels(y: Tensor, *, rows: int, classes: int, argument: str = "y") -> None:
    """Refuses anything but an integer tensor `[rows]` of values in 0..classes-1."""
    if not isinstance(y, Tensor):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise bad_type(argument, "a torch.Tensor of integers", y, "Use torch.as_tensor(list).")
    check_dense(y, argument)
    if y.is_floating_point() or y.is_complex() or y.dtype == torch.bool:
        raise bad_type(
            argument, "an integer tensor", y, f"Its dtype is {y.dtype}; pass class indices."
        )
    if tuple(y.shape) != (rows,):
        raise bad_value(
            argument,
            f"have shape ({rows},): one class index for each image",
            f"shape {tuple(y.shape)}",
            "Pass class indices, not one-hot rows.",
        )
    bad = (y < 0) | (y >= classes)
    if bool(bad.any()):
        row = int(bad.nonzero()[0, 0])
        raise bad_value(
            argument,
            f"lie in 0..{classes - 1}",
            f"{int(y[row])} in row {row}",
            "Labels are class indices counted from 0.",
        )


def check_targets(targets: Tensor, y: Tensor) -> None:
    """Refuses targets that equal the true label in any row."""
    same = targets == y
    if bool(same.any()):
        raise bad_value(
            "targets",
            "differ from `y` in every row",
            f"the true label in {int(same.sum())} rows, first in row {int(same.nonzero()[0, 0])}",
            "Pass the class that the attack should reach; leave `y` out to allow equality.",
        )


def check_positive(value: float, argument: str, remedy: str = "") -> None:
    """Refuses anything but a finite number above zero."""
    if isinstance(value, (str, bool)) or not hasattr(value, "__float__"):  # pyright: ignore
        raise bad_type(argument, "a number", value)
    if not (0 < float(value) < float("inf")):
        raise bad_value(argument, "be a finite number above 0", value, remedy)


def check_count(value: int, argument: str, minimum: int = 1, remedy: str = "") -> None:
    """Refuses anything but an integer of at least `minimum`."""
    if not isinstance(value, int) or isinstance(value, bool):  # pyright: ignore[reportUnnecessaryIsInstance]
        raise bad_type(argument, "an integer", value, remedy)
    if value < minimum:
        raise bad_value(argument, f"be at least {minimum}", value, remedy)

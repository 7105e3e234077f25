"""Reads the tensors of other libraries' checkpoints (`torch.save`), and runs nothing in them.

A pickle is a program: it names functions to be called. Here a name gives either one of a few
functions of our own, which put tensors together, or `Nothing`, whatever it asks for. So files that
were written with other picklers (dill), or hold objects of packages that are not installed, can
be read too.
"""

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from notbugs.core.errors import DataError
from notbugs.core.limits import memory_shortage

MAGIC = 0x1950A86A20F9469CFC6C
"""The first number of files that torch wrote before 1.6, which are no archives."""
DTYPES: Mapping[str, torch.dtype] = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "UntypedStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
DEPTH = 8
"""Levels of mappings in which tensors are looked for."""


class _Inert(type):
    """Takes all that a pickle can do to an object, and keeps nothing."""

    def __call__(cls, *arguments: object, **options: object) -> Any:
        return cls

    def __setstate__(cls, state: object) -> None:
        """Keeps nothing."""

    def __setitem__(cls, key: object, value: object) -> None:
        """Keeps nothing."""

    def append(cls, value: object) -> None:
        """Keeps nothing."""

    def extend(cls, values: object) -> None:
        """Keeps nothing."""

    def add(cls, value: object) -> None:
        """Keeps nothing."""


class Nothing(metaclass=_Inert):
    """Stands for every class, function and object that is not read; it is its own instance."""

    def __new__(cls, *arguments: object, **options: object) -> Any:
        return cls


def is_checkpoint(path: Path) -> bool:
    """Whether the file begins as those of `torch.save` do: an archive, or a pickle."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        return False
    return start == b"PK\x03\x04" or (
        start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04")
    )


def read_checkpoint(path: Path) -> list[dict[str, Tensor]]:
    """Every mapping of names to tensors in a file of `torch.save`, the outer ones first.

    Tensors lie on the CPU. Names that are no texts, and what is no tensor, are left out.

    **Raises** DataError where the file is missing, corrupt, truncated, or holds no tensors.
    """
    if not path.is_file():
        raise DataError(f"No weights file '{path}'. Check the path.")
    try:
        content = _zipped(path) if zipfile.is_zipfile(path) else _unzipped(path)
    except Exception as error:  # a bad pickle can raise nearly anything
        raise DataError(
            f"Cannot read '{path}' as a checkpoint of torch: {type(error).__name__}: {error}. "
            "Copy or download it again."
        ) from error
    found = list[dict[str, Tensor]]()
    _collect(content, found, DEPTH)
    if not found:
        raise DataError(f"'{path}' holds no tensors by name. Is it a checkpoint of a model?")
    return found


def _collect(content: object, found: list[dict[str, Tensor]], depth: int) -> None:
    if not isinstance(content, dict) or not depth:
        return
    entries = cast("dict[object, object]", content)
    tensors = {k: v for k, v in entries.items() if isinstance(k, str) and isinstance(v, Tensor)}
    if tensors:
        found.append(tensors)
    for value in entries.values():
        _collect(value, found, depth - 1)


class _Reader(pickle.Unpickler):
    """Gives tensors and plain values; nothing that the file names is imported or called."""

    def __init__(self, file: BufferedIOBase, storage: Callable[[Any], Tensor]) -> None:
        super().__init__(file)
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """One of ours, or `Nothing`."""
        if module.partition(".")[0] == "torch" and name in DTYPES:
            return DTYPES[name]
        return OURS.get((module, name), Nothing)

    def persistent_load(self, pid: Any) -> Tensor:
        """The flat tensor of a storage: ("storage", dtype, key, place, entries, ...)."""
        if not isinstance(pid, tuple) or len(cast("tuple[Any, ...]", pid)) < 5:
            raise ValueError("a storage is described otherwise than torch does")
        return self._storage(pid)


def _tensor(storage: Tensor, offset: int, size: Any, stride: Any, *rest: object) -> Tensor:
    sizes, strides = [int(s) for s in size], [int(s) for s in stride]
    if len(sizes) != len(strides) or min([offset, *sizes, *strides], default=0) < 0:
        raise ValueError("a tensor has a shape that none can have")
    entries = 1
    for length in sizes:
        entries *= length
    last = offset + sum((n - 1) * s for n, s in zip(sizes, strides, strict=True)) if entries else 0
    if entries > len(storage) or last >= max(len(storage), 1):
        raise ValueError("a tensor reaches beyond its storage")
    return torch.as_strided(storage, sizes, strides, offset)


def _parameter(data: object, *rest: object) -> object:
    return data


OURS: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor"): _tensor,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch", "Size"): tuple,
    ("builtins", "dict"): dict,
}
"""All that a name in a file can stand for, besides dtypes."""


def _dtype(kind: object) -> torch.dtype:
    if not isinstance(kind, torch.dtype):
        raise ValueError("a storage is of an unknown type")
    return kind


def _zipped(path: Path) -> object:
    """The content of a file that torch wrote since 1.6: an archive."""
    with zipfile.ZipFile(path) as archive:
        if lacking := memory_shortage(sum(info.file_size for info in archive.infolist())):
            raise ValueError(lacking)
        (head,) = (name for name in archive.namelist() if name.endswith("/data.pkl"))
        root, storages = head.removesuffix("data.pkl"), dict[str, Tensor]()
        order = f"{root}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ValueError("its numbers are in the byte order of another machine")

        def storage(pid: Any) -> Tensor:
            key, dtype = str(pid[2]), _dtype(pid[1])
            if key not in storages:
                content = bytearray(archive.read(f"{root}data/{key}"))
                storages[key] = (
                    torch.frombuffer(content, dtype=dtype) if content else torch.empty(0)
                )
            return storages[key].to(dtype) if not len(storages[key]) else storages[key]

        with archive.open(head) as file:
            return _Reader(cast("BufferedIOBase", file), storage).load()


def _unzipped(path: Path) -> object:
    """The content of a file that torch wrote before 1.6: pickles, then the storages' bytes."""
    length = path.stat().st_size
    storages = dict[str, Tensor]()

    def storage(pid: Any) -> Tensor:
        key, dtype, entries = str(pid[2]), _dtype(pid[1]), int(pid[4])
        if not 0 <= entries * dtype.itemsize <= length:
            raise ValueError("a storage is larger than the file")
        flat = storages.setdefault(key, torch.zeros(entries, dtype=dtype))
        view = pid[5] if len(pid) > 5 else None
        return flat if view is None else flat[int(view[1]) : int(view[1]) + int(view[2])]

    with path.open("rb") as file:
        if _Reader(file, storage).load() != MAGIC:
            raise ValueError("it is a pickle, but not one that torch wrote")
        for _ in ("protocol", "system"):
            _Reader(file, storage).load()
        content, keys = _Reader(file, storage).load(), _Reader(file, storage).load()
        for key in cast("list[object]", keys):
            flat = storages[str(key)]
            entries = int.from_bytes(file.read(8), "little")
            data = file.read(entries * flat.dtype.itemsize)
            if entries != len(flat) or len(data) < entries * flat.dtype.itemsize:
                raise ValueError("it is truncated")
            if data:
                flat.copy_(torch.frombuffer(bytearray(data), dtype=flat.dtype))
    return content

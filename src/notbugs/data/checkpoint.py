"""Reads the tensors of other libraries' checkpoints (`torch.save`), and runs nothing in them.

A pickle is a program: it names functions to be called. Here a name gives either a stand-in of ours,
which notes how a tensor lies in the file, or `Nothing`, whatever it asks for. So files that were
written with other picklers (dill), or hold objects of packages that are not installed, can be read
too.
"""

import io
import pickle
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, cast, final

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
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
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
LONGEST = 1 << 22
"""Bytes of a pickle; that of a model with thousands of tensors has some hundred thousand."""
DIMENSIONS = 16
UNSUPPORTED = (
    pickle.BYTEARRAY8, pickle.NEXT_BUFFER, pickle.READONLY_BUFFER, pickle.EXT1, pickle.EXT2,
    pickle.EXT4,
)  # fmt: skip
"""What torch does not write: it allocates before it reads, or takes what the process registered."""


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


class Nothing(metaclass=_Inert):
    """Stands for every class, function and object that is not read; it is its own instance."""

    def __new__(cls, *arguments: object, **options: object) -> Any:
        return cls


def _keeps_nothing(self: object, state: object) -> None:
    """In the place of `__setstate__`: a pickle may hold such an object, but not change it."""


@final
class _Names(dict[Any, Any]):
    """In the place of an `OrderedDict`."""

    __slots__ = ()
    __setstate__ = _keeps_nothing


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Storage:
    """A place in the file; `begin` and `entries` within the storage `key`."""

    __setstate__ = _keeps_nothing

    key: str
    dtype: torch.dtype
    begin: int
    entries: int


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Placed:
    """How a tensor lies in a storage."""

    __setstate__ = _keeps_nothing

    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]

    def of(self, flat: Tensor) -> Tensor | None:
        """The tensor; None where it is none, or does not lie within the storage."""
        size, stride, offset = self.size, self.stride, self.offset + self.storage.begin
        if len(size) != len(stride) or min([self.offset, *size, *stride], default=0) < 0:
            return None
        entries, last = 1, offset
        for length, step in zip(size, stride, strict=True):
            entries *= length
            last += (length - 1) * step
        if entries == 0:
            return torch.empty(size, dtype=flat.dtype)
        if entries > len(flat) or last >= self.storage.begin + self.storage.entries:
            return None
        return torch.as_strided(flat, size, stride, offset)


@final
@dataclass(frozen=True, slots=True, eq=False)
class _Stand:
    """In the place of a function: it calls ours."""

    __setstate__ = _keeps_nothing

    make: Callable[..., object]

    def __call__(self, *arguments: object) -> object:
        return self.make(*arguments)


def _tensor(storage: object, offset: object, size: object, stride: object, *rest: object) -> object:
    shapes = [tuple(v) if isinstance(v, tuple | list) else None for v in (size, stride)]  # pyright: ignore
    known = isinstance(storage, _Storage) and isinstance(offset, int)
    if not known or any(s is None or len(s) > DIMENSIONS for s in shapes):
        return Nothing
    first, second = (tuple(s or ()) for s in shapes)
    if not all(isinstance(n, int) for n in cast("list[object]", [*first, *second])):
        return Nothing
    return _Placed(storage, offset, first, second)  # pyright: ignore[reportArgumentType]


def _shape(entries: object = (), *rest: object) -> object:
    short = isinstance(entries, tuple | list) and len(entries) <= DIMENSIONS  # pyright: ignore
    return tuple(cast("tuple[object, ...]", entries)) if short else Nothing


def _names(pairs: object = (), *rest: object) -> object:
    """Empty, or of the pairs that Python 2 wrote."""
    found = _Names()
    for pair in cast("list[Any]", pairs) if isinstance(pairs, list) else ():
        if isinstance(pair, tuple | list) and len(pair) == 2 and isinstance(pair[0], str):  # pyright: ignore
            found[pair[0]] = pair[1]
    return found


def _first(data: object = None, *rest: object) -> object:
    return data


STANDS: Mapping[tuple[str, str], _Stand] = {
    ("collections", "OrderedDict"): _Stand(_names),
    ("torch._utils", "_rebuild_tensor"): _Stand(_tensor),
    ("torch._utils", "_rebuild_tensor_v2"): _Stand(_tensor),
    ("torch._utils", "_rebuild_parameter"): _Stand(_first),
    ("torch._utils", "_rebuild_parameter_with_state"): _Stand(_first),
    ("torch", "Size"): _Stand(_shape),
}
"""All that a name in a file can stand for, besides dtypes."""


_PYTHONS: Any = pickle._Unpickler  # pyright: ignore
"""Python's own reader, written in Python."""


def _put(content: Any, key: object, value: object) -> None:
    """Sets an entry under a plain key; the hash of a deep one would overflow the stack."""
    if isinstance(key, str | int):
        content[key] = value


class _Reader(_PYTHONS):
    """The reader in Python, whose memo is a mapping: no index makes it large."""

    def _load_setitem(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _put(self.stack[-1], key, value)

    def _load_setitems(self) -> None:
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=False):
            _put(self.stack[-1], key, value)

    def _load_dict(self) -> None:
        items, found = self.pop_mark(), _Names()
        for key, value in zip(items[::2], items[1::2], strict=False):
            _put(found, key, value)
        self.append(found)

    def _load_set(self) -> None:
        self.append(Nothing)

    def _load_items_of_set(self) -> None:
        self.pop_mark()

    def _load_frozenset(self) -> None:
        self.pop_mark()
        self.append(Nothing)

    dispatch: ClassVar[dict[int, Any]] = {
        code: load for code, load in _PYTHONS.dispatch.items() if bytes([code]) not in UNSUPPORTED
    } | {
        pickle.SETITEM[0]: _load_setitem,
        pickle.SETITEMS[0]: _load_setitems,
        pickle.DICT[0]: _load_dict,
        pickle.EMPTY_SET[0]: _load_set,
        pickle.ADDITEMS[0]: _load_items_of_set,
        pickle.FROZENSET[0]: _load_frozenset,
    }

    def __init__(self, file: io.BufferedIOBase) -> None:
        super().__init__(file, encoding="latin1")  # for those of Python 2
        self.dtypes: dict[str, torch.dtype] = {}

    def find_class(self, module: str, name: str) -> Any:
        """A stand-in, or `Nothing`: nothing is imported."""
        if module.partition(".")[0] == "torch" and name in DTYPES:
            return DTYPES[name]
        return STANDS.get((module, name), Nothing)

    def persistent_load(self, pid: Any) -> Any:
        """A storage: ("storage", dtype, key, place, entries, view of it or None)."""
        parts = cast("tuple[Any, ...]", pid) if isinstance(pid, tuple) else ()
        if len(parts) < 5 or not isinstance(parts[1], torch.dtype) or not isinstance(parts[4], int):
            return Nothing
        self.dtypes[str(parts[2])] = parts[1]
        begin, entries = 0, parts[4]
        if len(parts) > 5 and isinstance(parts[5], tuple):
            begin, entries = int(parts[5][1]), int(parts[5][2])
        return _Storage(str(parts[2]), parts[1], begin, entries) if begin >= 0 else Nothing


class _Short(io.BufferedIOBase):
    """A file of which at most `LONGEST` bytes are read."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        super().__init__()
        self._file, self._left = file, LONGEST

    def _spend(self, content: bytes) -> bytes:
        self._left -= len(content)
        return content

    def read(self, size: int | None = -1) -> bytes:
        """Bytes, all of them."""
        if size is None or not 0 <= size <= self._left:
            raise ValueError("its pickle is longer than that of any model")
        return self._spend(self._file.read(size))

    def readline(self, size: int | None = -1) -> bytes:
        """A line."""
        return self._spend(self._file.readline(self._left + 1))


def is_checkpoint(path: Path) -> bool:
    """Whether the file begins as those of `torch.save` do: an archive, or a pickle."""
    try:
        with path.open("rb") as file:
            start = file.read(9)
    except OSError:
        return False
    pickled = start[:1] == b"\x80" and start[1:2] in (b"\x02", b"\x03", b"\x04")
    # The length of a safetensors header can look like a pickle's beginning.
    return start[:4] == b"PK\x03\x04" or (pickled and start[8:9] != b"{")


def read_checkpoint(path: Path) -> dict[str, dict[str, Tensor]]:
    """Every mapping of names to tensors in a file of `torch.save`, by its place: "model.ema".

    The outermost has the place "". Tensors lie on the CPU. What is no tensor is left out, and so is
    one that does not lie within the file.

    **Raises** DataError where the file is missing, corrupt, truncated, or holds no tensors.
    """
    if not path.is_file():
        raise DataError(f"No weights file '{path}'. Check the path.")
    try:
        content, flats = _zipped(path) if zipfile.is_zipfile(path) else _unzipped(path)
        places = dict[str, dict[str, _Placed]]()
        _collect(content, "", places, set(), DEPTH)
        found = dict[str, dict[str, Tensor]]()
        for place, entries in places.items():
            tensors = {name: entry.of(flats(entry.storage)) for name, entry in entries.items()}
            kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
            found |= {place: kept} if kept else {}
    except Exception as error:  # a bad pickle can raise nearly anything
        raise DataError(
            f"Cannot read '{path}' as a checkpoint of torch: {type(error).__name__}: {error}. "
            "Copy or download it again."
        ) from error
    if not found:
        raise DataError(
            f"'{path}' holds no tensors by name. Save model.state_dict(), not the model itself."
        )
    return found


def _collect(
    content: object, place: str, found: dict[str, dict[str, _Placed]], seen: set[int], depth: int
) -> None:
    if not isinstance(content, dict) or not depth or id(content) in seen:  # pyright: ignore
        return
    seen.add(id(content))  # pyright: ignore
    entries = cast("dict[object, object]", content)
    tensors = {k: v for k, v in entries.items() if isinstance(k, str) and isinstance(v, _Placed)}
    if tensors:
        found[place] = tensors
    for key, value in entries.items():
        _collect(value, f"{place}.{key}".lstrip("."), found, seen, depth - 1)


Flats = Callable[[_Storage], Tensor]
"""Storage -> its entries, one after another."""


def _zipped(path: Path) -> tuple[object, Flats]:
    """The content of a file that torch wrote since 1.6: an archive."""
    with zipfile.ZipFile(path) as archive:
        members, length = archive.infolist(), path.stat().st_size
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise ValueError("it is compressed, which torch does not do")
        if sum(member.file_size for member in members) > length:
            raise ValueError("its parts are longer than the file")
        if lacking := memory_shortage(length):
            raise ValueError(lacking)
        heads = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(heads) != 1:
            raise ValueError("it is an archive, but not one that torch wrote")
        head = heads[0]
        root, storages = head.removesuffix("data.pkl"), dict[tuple[str, torch.dtype], Tensor]()
        order = f"{root}byteorder"
        if order in archive.namelist() and archive.read(order) != b"little":
            raise ValueError("its numbers are in the byte order of another machine")
        with archive.open(head) as file:
            content = _Reader(_Short(cast("io.BufferedIOBase", file))).load()

    def flat(storage: _Storage) -> Tensor:
        key = storage.key, storage.dtype
        if key not in storages:
            with zipfile.ZipFile(path) as archive:
                member = archive.getinfo(f"{root}data/{storage.key}")
                buffer = bytearray(member.file_size)
                with archive.open(member) as file:
                    cast("io.BufferedIOBase", file).readinto(buffer)
            storages[key] = _flat(buffer, storage.dtype)
        return storages[key]

    return content, flat


def _unzipped(path: Path) -> tuple[object, Flats]:
    """The content of a file that torch wrote before 1.6: pickles, then the storages' bytes."""
    length, begins = path.stat().st_size, dict[str, int]()
    with path.open("rb") as file:
        short = _Short(file)
        if _Reader(short).load() != MAGIC:
            raise ValueError("it is a pickle, but not one that torch wrote")
        for _ in ("protocol", "system"):
            _Reader(short).load()
        reader = _Reader(short)
        content: object = reader.load()
        keys = [str(key) for key in cast("list[object]", _Reader(short).load())]
        for key in keys:
            begins[key] = file.tell()
            entries = int.from_bytes(file.read(8), "little")
            file.seek(entries * reader.dtypes[key].itemsize, io.SEEK_CUR)
            if not file.tell() <= length:
                raise ValueError("it is truncated")

    storages = dict[str, Tensor]()

    def flat(storage: _Storage) -> Tensor:
        if storage.key not in storages:
            with path.open("rb") as file:
                file.seek(begins[storage.key])
                entries = int.from_bytes(file.read(8), "little")
                buffer = bytearray(entries * storage.dtype.itemsize)
                file.readinto(buffer)
            storages[storage.key] = _flat(buffer, storage.dtype)
        return storages[storage.key]

    return content, flat


def _flat(buffer: bytearray, dtype: torch.dtype) -> Tensor:
    return torch.frombuffer(buffer, dtype=dtype) if buffer else torch.empty(0, dtype=dtype)

"""Checkpoints of other libraries: their tensors are read, and nothing in them is run."""

import argparse
import contextlib
import pickle
import resource
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from notbugs.core.errors import DataError
from notbugs.data.checkpoint import is_checkpoint, read_checkpoint

ZIPPED = pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])


def written(path: Path, content, zipped: bool, **options) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=zipped, **options)
    return path


def tensors() -> OrderedDict:
    """Of every dtype, and of every kind of view."""
    g = torch.Generator().manual_seed(0)
    base = torch.randn(4, 6, generator=g)
    kinds = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8)
    return OrderedDict(
        plain=base,
        transposed=base.t(),
        row=base[1],
        strided=base[::2, 1::2],
        scalar=torch.tensor(3),
        empty=torch.zeros(0, 3),
        mask=base > 0,
        parameter=nn.Parameter(torch.randn(3, generator=g)),
        **{str(kind): (10 * base).to(kind) for kind in kinds},
    )


@ZIPPED
def test_tensors_come_back_as_they_were(tmp_path: Path, zipped) -> None:
    content = tensors()
    found = read_checkpoint(written(tmp_path / "a.pt", content, zipped))[""]
    assert list(found) == list(content)
    for name, tensor in content.items():
        assert found[name].dtype == tensor.dtype, name
        assert torch.equal(found[name], tensor.detach()), name


@ZIPPED
def test_all_mappings_of_a_training_are_found(tmp_path: Path, zipped) -> None:
    net = nn.Linear(3, 2)
    optimiser = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    net(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    content = {
        "epoch": 3, "best": np.float64(0.5), "args": argparse.Namespace(lr=0.1),
        "optimizer": optimiser.state_dict(), "model": net.state_dict(), "tags": ["a", ("b", None)],
    }  # fmt: skip
    found = read_checkpoint(written(tmp_path / "a.pt", content, zipped))
    kept = {f"optimizer.state.{i}": {"momentum_buffer"} for i in (0, 1)}
    assert {k: set(v) for k, v in found.items()} == kept | {"model": {"weight", "bias"}}
    assert torch.equal(found["model"]["weight"], net.weight)


@ZIPPED
def test_objects_of_packages_that_are_gone_are_passed_over(tmp_path: Path, zipped) -> None:
    """As robustness pickles its classes and closures with dill."""
    module = types.ModuleType("gone_package")
    exec(
        "class Meter(list):\n    def __init__(self): self.x = {1: [2]}\n"
        "class Flag(dict): pass\nclass Made:\n"
        "    def __reduce__(self): return (make, (1,), {'a': 1}, iter([1, 2]), iter([(1, 2)]))\n"
        "def make(n): return Made()\n",
        module.__dict__,
    )
    for name in ("Meter", "Flag", "Made", "make"):
        module.__dict__[name].__module__ = "gone_package"
    sys.modules["gone_package"] = module
    meter, flag = module.Meter(), module.Flag(a=1)
    meter.append(3)
    content = {"meter": meter, "flag": flag, "made": module.Made(), "f": module.make,
               "class": module.Meter, "set": {1, 2}, "model": {"w": torch.arange(3)}}  # fmt: skip
    written(tmp_path / "a.pt", content, zipped)
    del sys.modules["gone_package"]
    with pytest.raises((pickle.UnpicklingError, ModuleNotFoundError)):
        torch.load(tmp_path / "a.pt", weights_only=True)
    found = read_checkpoint(tmp_path / "a.pt")["model"]
    assert found["w"].tolist() == [0, 1, 2]
    assert "gone_package" not in sys.modules


class Calls:
    """Calls a function with arguments when it is unpickled."""

    def __init__(self, function, *arguments) -> None:
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


def attacks(target: Path) -> list[object]:
    text = f"__import__('pathlib').Path({str(target)!r}).touch()"
    return [
        Calls(eval, text),
        Calls(exec, text),
        Calls(open, str(target), "w"),
        Calls(Path.touch, target),
        Calls(__import__("os").system, f"touch {target}"),
        Calls(__import__("subprocess").getoutput, f"touch {target}"),
        Calls(getattr, Calls(__import__, "os"), "system"),
        Calls(torch.load, str(target)),
        Calls(np.save, str(target), 1),
        Calls(map, exec, [text]),
    ]


@ZIPPED
@pytest.mark.parametrize("which", range(10))
@pytest.mark.parametrize("protocol", [2, 4])
def test_what_would_touch_a_file_touches_none(tmp_path: Path, zipped, which, protocol) -> None:
    target = tmp_path / "touched"
    bad = attacks(target)[which]
    content = {"a": bad, "w": torch.arange(2), "in": {"b": [bad], "v": torch.ones(2)}, bad: 1}
    written(tmp_path / "a.pt", content, zipped, pickle_protocol=protocol)
    before = set(sys.modules)
    found = read_checkpoint(tmp_path / "a.pt")
    assert {place: list(each) for place, each in found.items()} == {"": ["w"], "in": ["v"]}
    assert found[""]["w"].tolist() == [0, 1]
    assert not target.exists()
    assert set(sys.modules) == before


def test_it_would_have_touched_it(tmp_path: Path) -> None:
    """The control of the test above."""
    target = tmp_path / "touched"
    every = attacks(target)
    for bad in (*every[:2], *every[3:6]):
        pickle.loads(pickle.dumps(bad))
        assert target.exists()
        target.unlink()


@pytest.mark.parametrize(
    "program",
    [
        b"cbuiltins\neval\n(S'1'\ntR.",
        b"cbuiltins\ngetattr\n(cbuiltins\n__import__\n(S'os'\ntRS'system'\ntR(S'true'\ntR.",
        b"(S'true'\niposix\nsystem\n.",
        b"(cposix\nsystem\nS'true'\no.",
        b"ctorch._utils\n_rebuild_tensor_v2.__globals__\n.",
        b"ccollections\nOrderedDict.__init__\n(tR.",
        b"cnotbugs.data.checkpoint\nOURS\n.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
    ],
)
def test_hand_written_programs_reach_nothing(tmp_path: Path, program: bytes) -> None:
    (tmp_path / "a.pt").write_bytes(legacy(program))
    with zipfile.ZipFile(tmp_path / "b.pt", "w") as archive:
        archive.writestr("b/data.pkl", program)
    for name in ("a.pt", "b.pt"):
        with pytest.raises(DataError, match=r"holds no tensors|Cannot read"):
            read_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("offset", "size", "stride"),
    [(0, (5,), (1,)), (3, (2,), (1,)), (0, (2, 3), (3, 1)), (-1, (2,), (1,)), (0, (2,), (-1,)),
     (0, (10**12,), (0,)), (0, (2,), (1, 1)), (4, (1,), (1,))],
)  # fmt: skip
def test_tensors_reach_only_into_their_storage(tmp_path: Path, offset, size, stride) -> None:
    class Beyond:
        def __reduce__(self):
            storage = torch.zeros(4)._typed_storage()
            rest = (False, OrderedDict())
            return torch._utils._rebuild_tensor_v2, (storage, offset, size, stride, *rest)

    for zipped in (True, False):
        written(tmp_path / "a.pt", {"w": Beyond()}, zipped)
        with pytest.raises(DataError, match=r"Cannot read|holds no tensors"):
            read_checkpoint(tmp_path / "a.pt")


@ZIPPED
def test_one_odd_tensor_leaves_the_others(tmp_path: Path, zipped) -> None:
    content = {"w": torch.arange(3), "expanded": torch.ones(1).expand(64), "c": torch.ones(2) * 1j}
    found = read_checkpoint(written(tmp_path / "a.pt", content, zipped))[""]
    assert set(found) == {"w", "c"}
    assert torch.equal(found["c"], content["c"])


def legacy(program: bytes, keys: object = ()) -> bytes:
    """A file of before torch 1.6 whose content is that program."""
    parts = [pickle.dumps(part, protocol=2) for part in (0x1950A86A20F9469CFC6C, 1001, {})]
    return b"".join([*parts, program, pickle.dumps(list(keys), protocol=2)])


STORAGE = (
    b"((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpuK\x00tQ"
)


@pytest.mark.parametrize(
    "state", [b"(K\x00K\x64\x85K\x01\x85t", b"}X\x03\x00\x00\x00fooX\x03\x00\x00\x00bars"]
)
def test_what_a_pickle_builds_changes_nothing_of_ours(tmp_path: Path, state) -> None:
    """BUILD gives an object a state: a tensor would be set to a place beyond its storage."""
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n" + STORAGE + b"K\x00K\x00\x85K\x01\x85\x89NtR"
    for program in (
        b"\x80\x02}X\x01\x00\x00\x00w" + tensor + state + b"bs.",
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + state + b"b.",
        b"\x80\x02ccollections\nOrderedDict\n)R" + state + b"b.",
        b"\x80\x02ctorch\nFloatStorage\n" + state + b"b.",
    ):
        (tmp_path / "a.pt").write_bytes(legacy(program, "0") + bytes(8))
        with contextlib.suppress(DataError):
            found = read_checkpoint(tmp_path / "a.pt")
            assert all(len(t) == 0 for each in found.values() for t in each.values())
    from notbugs.data import checkpoint

    assert not hasattr(checkpoint._tensor, "foo")
    assert checkpoint._tensor.__defaults__ is None
    assert [s.make.__name__ for s in checkpoint.STANDS.values()] == [
        "_names", "_tensor", "_tensor", "_first", "_first", "_shape",
    ]  # fmt: skip
    kinds = (checkpoint._Names, checkpoint._Storage, checkpoint._Placed, checkpoint._Stand)
    assert {kind.__setstate__ for kind in kinds} == {checkpoint._keeps_nothing}


@pytest.mark.parametrize(
    "program",
    [
        b"\x80\x02]r\x00\x00\xff\xff.",  # LONG_BINPUT at four billion
        b"\x80\x05\x96" + (1 << 40).to_bytes(8, "little") + b".",  # BYTEARRAY8
        b"\x80\x04\x8e" + (1 << 40).to_bytes(8, "little") + b".",  # BINBYTES8
        b"\x80\x02" + b"]" * 4_300_000 + b".",
        b"\x80\x02" + b"(" * 20_000 + b"t" * 20_000 + b".",
        b"\x80\x02})" + b"\x85" * 1_000_000 + b"K\x01s.",
        b"\x80\x02}()" + b"\x85" * 1_000_000 + b"K\x01u.",
        b"\x80\x02()" + b"\x85" * 1_000_000 + b"K\x01d.",
        b"\x80\x04\x8f()" + b"\x85" * 1_000_000 + b"\x90.",
        b"\x80\x04()" + b"\x85" * 1_000_000 + b"\x91.",
    ],
    ids=["memo", "bytearray", "bytes", "long", "deep", "key", "keys", "dict", "set", "frozen"],
)
def test_what_would_fill_the_memory_is_refused(tmp_path: Path, program) -> None:
    (tmp_path / "a.pt").write_bytes(legacy(program))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match=r"Cannot read|holds no tensors"):
        read_checkpoint(tmp_path / "a.pt")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1_500_000  # KiB


def test_shared_mappings_are_visited_once(tmp_path: Path) -> None:
    shared: dict = {"w": torch.ones(1)}
    for _ in range(6):
        shared = {str(i): shared for i in range(9)}
    found = read_checkpoint(written(tmp_path / "a.pt", shared, zipped=True))
    assert len(found) == 1


def test_compressed_archives_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", b"]" * 100_000 + b".")
    with pytest.raises(DataError, match="compressed"):
        read_checkpoint(tmp_path / "a.pt")


@ZIPPED
@given(data=st.data())
@settings(max_examples=60, deadline=None)
def test_damaged_files_are_refused_or_read(tmp_path_factory, zipped, data) -> None:
    path = tmp_path_factory.mktemp("damaged") / "a.pt"
    written(path, {"model": {"w": torch.arange(6.0)}, "epoch": 3}, zipped)
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content[: data.draw(st.integers(1, len(content)))])
    found = {}
    with contextlib.suppress(DataError):  # any other error fails
        found = read_checkpoint(path)
    assert all(isinstance(v, torch.Tensor) for each in found.values() for v in each.values())


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "Cannot read"),
        (b"no checkpoint", "Cannot read"),
        (pickle.dumps({"w": 1}), "not one that torch wrote"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, content, words) -> None:
    (tmp_path / "a.pt").write_bytes(content)
    with pytest.raises(DataError, match=words):
        read_checkpoint(tmp_path / "a.pt")
    with pytest.raises(DataError, match="No weights file"):
        read_checkpoint(tmp_path / "none.pt")


@ZIPPED
def test_what_is_a_checkpoint_by_its_first_bytes(tmp_path: Path, zipped) -> None:
    assert is_checkpoint(written(tmp_path / "a.pt", {}, zipped))
    (tmp_path / "b.safetensors").write_bytes(b"\x80\x02\x00\x00\x00\x00\x00\x00{")
    assert not is_checkpoint(tmp_path / "b.safetensors")
    assert not is_checkpoint(tmp_path / "none.pt")
    with pytest.raises(DataError, match="holds no tensors by name"):
        read_checkpoint(tmp_path / "a.pt")

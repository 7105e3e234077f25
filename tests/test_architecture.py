"""The law of the house: a room imports only rooms to its left."""

import ast
from pathlib import Path

import pytest

import notbugs

ROOT = Path(notbugs.__file__).parent
# Rooms of one row are siblings and do not import each other.
ROWS = [
    {"core"},
    {"data"},
    {"models"},
    {"engine"},
    {"attacks", "perception", "representations"},
    {"judge"},
    {"training"},
    {"features", "analysis", "theory"},
    {"experiments"},
    {"report"},
    {"app"},
    {"cli"},
]
PLACE = {room: i for i, row in enumerate(ROWS) for room in row}


def allowed(room: str) -> set[str]:
    if room in ("engine", "store"):
        return {room, "core"}
    if room in ("", "__main__"):  # the package's own face
        return set(PLACE) | {"store"}
    return {room, "store"} | {other for other, i in PLACE.items() if i < PLACE[room]}


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the room"
            if node.module == "notbugs":
                found |= {f"notbugs.{alias.name}" for alias in node.names}
            else:
                found.add(node.module or "")
    return found


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=[str(f.relative_to(ROOT)) for f in FILES])
def test_imports_point_left(file) -> None:
    parts = file.relative_to(ROOT).with_suffix("").parts
    room = "" if parts[0] == "__init__" else parts[0]
    named = {name.split(".")[1] for name in imports(file) if name.startswith("notbugs.")}
    rooms = {name for name in named if (ROOT / name).exists() or (ROOT / f"{name}.py").exists()}
    assert rooms <= allowed(room), f"{room} imports {sorted(rooms - allowed(room))}"


@pytest.mark.parametrize("room", ["core", "engine"])
def test_the_ground_floor_needs_torch_and_numpy_only(room) -> None:
    outside = {name.split(".")[0] for file in (ROOT / room).rglob("*.py") for name in imports(file)}
    standard = set(__import__("sys").stdlib_module_names)
    assert outside - standard <= {"notbugs", "torch", "numpy", "jaxtyping"}


def test_every_room_is_on_the_map() -> None:
    rooms = {p.name for p in ROOT.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert rooms <= set(PLACE) | {"store"}


def test_nothing_unpickles_or_reseeds_the_world() -> None:
    """The one `pickle.loads` is of bytes the same function wrote, in the store's worker."""
    for file in FILES:
        text = file.read_text()
        assert "torch.manual_seed(" not in text.replace("torch.random.manual_seed(", ""), file
        assert "np.load(" not in text or "allow_pickle=False" in text, file
        if file.name != "worker.py":
            assert "pickle.load" not in text, file
        if "torch.load(" in text:
            assert "weights_only=True" in text, file

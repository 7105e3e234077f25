"""Layers: a package imports only packages of earlier layers."""

import ast
from pathlib import Path

import pytest

import notbugs

ROOT = Path(notbugs.__file__).parent
# Packages of one layer do not import each other.
LAYERS = [
    {"core"},
    {"data"},
    {"models"},
    {"engine"},
    {"attacks", "perception", "representations"},
    {"judge"},
    {"training", "photo", "zoo"},
    {"theory"},
    {"features", "analysis"},
    {"experiments"},
    {"report"},
    {"app"},
    {"cli"},
]
LAYER_OF = {package: i for i, layer in enumerate(LAYERS) for package in layer}


def allowed(package: str) -> set[str]:
    if package in ("engine", "store", "theory"):
        return {package, "core"}
    if package in ("", "__main__"):  # the top-level modules
        return set(LAYER_OF) | {"store"}
    return {package, "store"} | {p for p, i in LAYER_OF.items() if i < LAYER_OF[package]}


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the package"
            if node.module == "notbugs":
                found |= {f"notbugs.{alias.name}" for alias in node.names}
            else:
                found.add(node.module or "")
    return found


FILES = sorted(ROOT.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=[str(f.relative_to(ROOT)) for f in FILES])
def test_imports_come_from_earlier_layers(file) -> None:
    parts = file.relative_to(ROOT).with_suffix("").parts
    package = "" if parts[0] == "__init__" else parts[0]
    named = {name.split(".")[1] for name in imports(file) if name.startswith("notbugs.")}
    used = {name for name in named if (ROOT / name).exists() or (ROOT / f"{name}.py").exists()}
    assert used <= allowed(package), f"{package} imports {sorted(used - allowed(package))}"


@pytest.mark.parametrize("package", ["core", "engine"])
def test_core_and_engine_need_torch_and_numpy_only(package) -> None:
    files = (ROOT / package).rglob("*.py")
    outside = {name.split(".")[0] for file in files for name in imports(file)}
    standard = set(__import__("sys").stdlib_module_names)
    assert outside - standard <= {"notbugs", "torch", "numpy", "jaxtyping"}


def test_every_package_has_a_layer() -> None:
    packages = {p.name for p in ROOT.iterdir() if p.is_dir() and p.name != "__pycache__"}
    assert packages <= set(LAYER_OF) | {"store"}


def test_nothing_unpickles_or_reseeds_the_world() -> None:
    """The one `pickle.loads` is of bytes the same function wrote, in the store's worker.

    `data/checkpoint.py` reads pickles, and calls nothing that they name (tests/data).
    """
    for file in FILES:
        text = file.read_text()
        assert "torch.manual_seed(" not in text.replace("torch.random.manual_seed(", ""), file
        assert "np.load(" not in text or "allow_pickle=False" in text, file
        if file.name != "worker.py":
            assert "pickle.load" not in text, file
        if "torch.load(" in text:
            assert "weights_only=True" in text, file

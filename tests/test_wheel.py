"""The wheel: built, installed into an environment of its own, and used outside the repository."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*command, cwd: Path) -> str:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    kept = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", source / "src", ignore=kept)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check")
    run(*pip, "--no-deps", "--no-build-isolation", "--wheel-dir", out, source, cwd=out)
    (built,) = out.glob("*.whl")
    return built


def test_it_holds_the_package_whole(wheel) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    for file in (ROOT / "src" / "notbugs").rglob("*"):
        kinds = (".py", ".j2", ".css", ".html", ".js", ".typed", ".json", ".md", ".safetensors")
        if file.suffix in kinds:
            assert str(file.relative_to(ROOT / "src")) in names
    assert not any(name.startswith("tests") for name in names)


def test_the_python_of_the_readme_runs_outside_the_repository(wheel, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv", cwd=tmp_path)
    python = tmp_path / "venv" / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps")
    run(*pip, "--no-index", "--disable-pip-version-check", wheel, cwd=tmp_path)
    site = next((tmp_path / "venv" / "lib").glob("python*/site-packages"))
    (site / "others.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")  # what it needs
    (code,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE
    )
    code = code.replace("slice(0, 100)", "slice(0, 6)").replace("epochs=20", "epochs=1")
    code = code.replace('"l2:0.5")  #', '"l2:0.5", attacks="pgd-5")  #', 1)
    code = f"import warnings; warnings.simplefilter('ignore')\n{code}\nprint(nb.__file__)"
    said = run(python, "-c", code, cwd=tmp_path)
    assert str(site) in said
    assert "Verdict(n=6" in said
    assert "attack success rate" in said
    assert "D_det" in said
    assert run(tmp_path / "venv" / "bin" / "notbugs", "--version", cwd=tmp_path).strip() == "0.1.0"
    assert "ilyas2019" in run(tmp_path / "venv" / "bin" / "notbugs", "reproduce", cwd=tmp_path)

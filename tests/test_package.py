"""What `import notbugs as nb` gives."""

import re
import subprocess
import sys
import tomllib

import pytest

import notbugs as nb
from notbugs import attacks
from release import ROOT, disagreements

MOST_NAMES = 30


def test_the_top_level_stays_short_and_every_name_is_there() -> None:
    assert len(nb.__all__) <= MOST_NAMES
    assert all(getattr(nb, name) is not None for name in nb.__all__)
    assert set(nb.__all__) <= set(dir(nb))


@pytest.mark.parametrize("name", attacks.__all__)
def test_every_attack_is_reached_by_the_package(name) -> None:
    assert getattr(nb.attacks, name) is getattr(attacks, name)


def test_packages_are_loaded_when_first_used() -> None:
    code = (
        "import sys, notbugs as nb\n"
        "assert not any(name.startswith('notbugs.') for name in sys.modules)\n"
        "assert 'torch' not in sys.modules\n"
        "for name in nb.PACKAGES: assert getattr(nb, name).__name__ == f'notbugs.{name}'\n"
        "print(nb.attacks.fgsm(nb.Linf(), 0.1).name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "FGSM\n", done.stderr


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(AttributeError, match="module 'notbugs' has no attribute 'atacks'"):
        _ = nb.atacks


def test_a_release_names_one_version() -> None:
    assert not disagreements("")
    wrong = disagreements("v99.0.0")
    assert any("The tag v99.0.0 is not v" in line for line in wrong)


def test_every_extra_that_a_message_names_exists() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    code = "\n".join(path.read_text() for path in (ROOT / "src").rglob("*.py"))
    named = set(re.findall(r'extra="(\w+)"', code))
    assert named
    assert named <= set(extras)
    (everything,) = extras["all"]
    # Their packages bind torch to one version, or are for developers.
    assert set(everything[len("notbugs[") : -1].split(",")) == set(extras) - {
        *("all", "dev", "docs", "lpips"),
    }

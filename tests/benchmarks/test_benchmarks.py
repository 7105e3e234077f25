"""The parts of the benchmarks that need no peer: what they count, judge and write."""

import copy
import json
import sys
from pathlib import Path

import pytest
import torch

import notbugs
from notbugs.attacks import pgd
from notbugs.data import ImageData
from notbugs.engine import Linf
from notbugs.models import build

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

import pgd_report  # noqa: E402
from craft import Setting  # noqa: E402
from measure import Passes, Peak, Spread, Took, counted, passes, slopes  # noqa: E402
from minimum_suite import nearer  # noqa: E402
from pgd_contenders import OURS, ours, plain  # noqa: E402
from pgd_suite import compared_rows, fallen, halving_eps  # noqa: E402
from resnet20 import resnet20  # noqa: E402
from subjects import Subject  # noqa: E402
from table import document, table, write  # noqa: E402

SHAPE = (1, 6, 6)


@pytest.fixture
def subject():
    model = build("linear", shape=SHAPE, classes=3, seed=0).eval()
    images = torch.rand(40, *SHAPE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        labels = model(images).argmax(dim=1)
    pixels = (images * 255).round().to(torch.uint8)
    data = ImageData(images=pixels, labels=labels, class_names=("a", "b", "c"), name="noise")
    return Subject("linear", "untrained", model, data).right(32)


def test_the_plain_loop_costs_one_pass_each_way_a_step(subject) -> None:
    craft = plain(Setting("linf", 0.05, 3, 0.02, True))
    found = passes(craft, subject.model, subject.x, subject.y)
    assert found == Passes(3.0, 3.0)


def test_hooks_count_what_our_attack_reports(subject) -> None:
    attack = pgd(Linf(), 0.05, steps=4)
    with counted(subject.model) as found:
        result = attack(subject.model, subject.x, subject.y, fast=False)
    # Two rows seen behind others, and one that shows there are gradients.
    assert found.backwards == result.backwards + 1
    assert found.forwards == result.forwards + 5


def test_a_copy_of_the_model_is_counted_and_a_hook_does_not_stay(subject) -> None:
    with counted(subject.model) as found:
        copy.deepcopy(subject.model)(subject.x)
    subject.model(subject.x)
    assert found == Passes(len(subject.x), 0)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux only")
def test_peak_sees_memory_that_is_gone_again() -> None:
    with Peak() as memory:
        torch.ones(64, 1024, 1024, dtype=torch.uint8).sum()
    assert memory.mib is None or 60 < memory.mib < 600


def test_spreads_and_slopes() -> None:
    assert Spread.quartiles([1.0, 2.0, 3.0]) == Spread(2.0, 1.5, 2.5, 3)
    assert Spread.quartiles([4.0]) == Spread(4.0, 4.0, 4.0, 1)
    assert Spread.mean([1.0, 3.0]) == Spread(2.0, 1.0, 3.0, 2)
    assert slopes({2: Took(cpu=[1.0]), 6: Took(cpu=[3.0])}) == [0.5]


def test_about_half_of_the_images_fall_at_the_radius_that_is_found(subject) -> None:
    eps = halving_eps(subject, "linf", 5)
    craft = plain(Setting("linf", eps, 5, 0.5 * eps, False))
    share = float(fallen(subject, craft(subject.model, subject.x, subject.y)).float().mean())
    assert 0.3 < share < 0.7


def test_strength_counts_the_rows_that_fall_to_one_alone(subject) -> None:
    setting = Setting("linf", 0.03, 5, 0.01, False)
    weak = Setting("linf", 0.03, 5, 1e-6, False)
    crafts = {"notbugs": ours(setting, fast=False, dropping=False), "weak": plain(weak)}
    strong, poor = compared_rows(subject, setting, crafts, range(1))
    assert strong["success"].middle > poor["success"].middle == 0
    assert (strong["only_it"], poor["only_it"]) == (0, 0)
    assert poor["only_notbugs"] == strong["success"].middle * len(subject.y) / 100
    assert strong["violation"] < 1e-6


def test_nearer_ignores_a_hundredth_and_counts_failures_as_far() -> None:
    far = float("inf")
    assert nearer([1.0, 0.995, 0.5, far], [far, 1.0, 1.0, far]) == 2


def test_targets_say_yes_and_no() -> None:
    def row(contender, ratio):
        spread = Spread(ratio, ratio, ratio, 3)
        to_ours = dict.fromkeys(OURS, spread)
        given = {"model": "resnet20", "norm": "linf", "eps": 0.01, "contender": contender}
        return given | {"to_ours": to_ours, "step_to_plain": None}

    text = pgd_report.targets([row("foolbox", 3.5), row("adv-lib", 1.5)])
    lines = [line for line in text.splitlines() if line.startswith("| resnet20")]
    assert [line.split(" | ")[-1] for line in lines] == [
        "yes |",
        "**no** |",
        "**no** |",
        "**no** |",
    ]


def test_reports_are_written_as_markdown_and_json(tmp_path: Path) -> None:
    conditions = dict.fromkeys(
        ("processor", "cores", "threads", "dtype", "load_average", "load_average_after"), 1
    )
    conditions |= {"date": "2026-01-01", "versions": {"torch": "2"}, "quick": True, "python": "3"}
    conditions |= {"uncommitted_changes_in_src": True, "commit": "abc", "omp_wait_policy": "P"}
    model = {"about": "none", "parameters": 1, "images": 2, "shape": [1, 2, 2]}
    found = {"conditions": conditions, "settings": {"steps": 3}, "models": {"m": model}}
    found["spread"] = Spread(1.0, 0.5, 2.0, 3)
    text = document("A title", found, ["## Part\n", ""])
    report = write(found, text, tmp_path, "pgd")
    assert report.read_text() == text
    assert "# A title, 2026-01-01" in text
    assert "uncommitted" in text
    assert "| m | none | 1 | 2 | 1x2x2 |" in text
    kept = json.loads((tmp_path / "pgd-2026-01-01.json").read_text())
    assert kept["spread"] == {"middle": 1.0, "low": 0.5, "high": 2.0, "n": 3}


def test_tables_are_markdown() -> None:
    assert table(("a", "b"), [(1, "x")]) == "| a | b |\n| --- | --- |\n| 1 | x |\n"


def test_resnet20_has_the_size_that_is_claimed() -> None:
    model = resnet20((3, 32, 32), 10, seed=0)
    assert 0.27e6 < sum(p.numel() for p in model.parameters()) < 0.29e6
    assert notbugs.models.Classifier is type(model)

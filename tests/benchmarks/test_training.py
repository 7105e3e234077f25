"""The benchmark of training: who takes how many passes, and what the report concludes."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch

from notbugs.data import ImageData

FOLDER = Path(__file__).parents[2] / "benchmarks"
sys.path.insert(0, str(FOLDER))

from measure import Spread, Took  # noqa: E402
from small_cnn import small_cnn  # noqa: E402
from training_contenders import OURS, PEERS, Course, contenders, optimised  # noqa: E402
from training_report import markdown, targets  # noqa: E402
from training_suite import Case, compared, noise, passes_of  # noqa: E402

COURSE = Course(2, 16, lr=0.1, eps=0.1, steps=3)
CASE = Case("cnn", ("digits",), small_cnn, COURSE, 32, 16)
OWN = contenders(peers=False)
WITH_PEERS = importlib.util.find_spec("art") is not None


@pytest.fixture(scope="module")
def data() -> ImageData:
    images = torch.rand(32, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return ImageData(images, torch.arange(32) % 3, ("a", "b", "c"), "noise")


@pytest.mark.parametrize("name", OWN)
def test_all_take_as_many_gradients_and_ours_looks_at_the_last_point(data, name) -> None:
    forwards, backwards = passes_of(OWN[name], CASE, data.select(slice(0, 16)))
    assert backwards == COURSE.steps + 1
    assert forwards == COURSE.steps + (2 if name in OURS else 1)


@pytest.mark.skipif(not WITH_PEERS, reason="the peers are in benchmarks/.venv")
@pytest.mark.parametrize("name", PEERS)
def test_so_do_the_peers(data, name) -> None:
    forwards, backwards = passes_of(contenders()[name], CASE, data.select(slice(0, 16)))
    assert backwards == COURSE.steps + 1
    assert forwards >= COURSE.steps + 1


@pytest.mark.parametrize("name", OWN)
def test_a_contender_moves_the_weights_and_leaves_eval_mode(data, name) -> None:
    model, before = (small_cnn(data.shape, data.classes, 0) for _ in range(2))
    OWN[name](model, data, COURSE, 0)
    assert not model.training
    for now, was in zip(model.parameters(), before.parameters(), strict=True):
        assert now.isfinite().all()
        assert not torch.equal(now, was)


def test_the_schedule_of_the_others_is_the_recipes(data) -> None:
    optimiser, scheduler = optimised(small_cnn(data.shape, 3, 0), data, COURSE)
    seen = []
    for _ in range(4):
        seen.append(optimiser.param_groups[0]["lr"])
        optimiser.step()
        scheduler.step()
    assert seen == pytest.approx([COURSE.recipe.rate(step, 4) for step in range(4)])


def test_rounds_are_compared_pairwise_and_reported(data) -> None:
    few = {name: OWN[name] for name in ("tutorial loop", "notbugs")}
    rows = compared(CASE, few, data, data.select(slice(0, 16)), rounds=2)
    assert [row["contender"] for row in rows] == list(few)
    assert rows[1]["to_ours"]["notbugs"] == Spread(1.0, 1.0, 1.0, 2)
    assert all(0 <= row["robust"].middle <= row["clean"].middle <= 100 for row in rows)
    conditions = dict.fromkeys(
        ("processor", "cores", "threads", "dtype", "load_average", "load_average_after"), 1
    )
    conditions |= {"date": "2026-01-01", "versions": {"torch": "2"}, "quick": True, "python": "3"}
    conditions |= {"uncommitted_changes_in_src": False, "commit": "a", "omp_wait_policy": "P"}
    about = {"about": "none", "parameters": 1, "images": 32, "shape": [1, 8, 8]}
    found = {"conditions": conditions, "settings": {"rounds": 2}, "models": {"cnn": about}}
    text = markdown(found | {"trained": rows, "image_gradients": {"cnn": 256}})
    assert "256 image-gradients a training" in text
    assert "| notbugs | tutorial loop |" in text


def row(name, robust, ratio):
    one = Spread(ratio, ratio, ratio, 3)
    return {
        "contender": name,
        "robust": Spread.mean(robust),
        "robust_of_rounds": robust,
        "to_ours": {"notbugs": one},
        "seconds": Took(),
    }


def test_noise_is_two_standard_errors_of_a_difference() -> None:
    rows = [row("a", [80.0, 82.0], 1.0), row("b", [70.0, 74.0], 1.0)]
    assert noise(rows) == pytest.approx(2.0)  # differences of 10 and 8: one standard error is 1
    assert noise([row("a", [80.0], 1.0), row("b", [70.0], 1.0)]) is None


def test_noise_leaves_out_what_all_have_in_common() -> None:
    rows = [row("a", [80.0, 60.0], 1.0), row("b", [81.0, 61.0], 1.0)]
    assert noise(rows) == pytest.approx(0.0)


def test_targets_ask_for_robustness_and_for_time() -> None:
    rows = [row("notbugs", [80.0, 82.0], 1.0), row("tutorial loop", [82.0, 82.0], 1.3)]
    rows += [row("ART", [90.0, 92.0], 2.0), row("torchattacks", [70.0, 72.0], 0.9)]
    lines = [line.split(" | ") for line in targets(rows).splitlines()[2:]]
    met = {cells[1]: (cells[3], cells[5].removesuffix(" |")) for cells in lines}
    assert met == {
        "tutorial loop": ("yes", "yes"),
        "ART": ("**no**", "yes"),
        "torchattacks": ("yes", "**no**"),
    }

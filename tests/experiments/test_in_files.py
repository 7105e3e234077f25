"""Attacks on large images, judged as files: Carlini & Wagner 2016 on photographs."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from notbugs.core import random
from notbugs.experiments.carlini2016 import EXPERIMENT, LARGE, net
from notbugs.experiments.channel import through_file
from notbugs.experiments.in_files import GOALS, Aimed
from notbugs.experiments.running import Machine, run
from notbugs.experiments.targets import Method
from notbugs.report import write_report
from notbugs.store import SilentObserver, Store


@pytest.mark.parametrize("channels", [1, 3])
def test_files_hold_whole_levels(channels: int) -> None:
    x = random.uniform(random.row_keys(3, "files"), (channels, 6, 5))
    there = through_file(x)
    torch.testing.assert_close(there, (255 * x).round() / 255)
    assert torch.equal(through_file(there), there)


@pytest.mark.slow
def test_photographs_are_attacked_towards_every_goal(tmp_path: Path) -> None:
    pytest.importorskip("efficientnet_lite_pytorch")
    pytest.importorskip("skimage")
    config = replace(EXPERIMENT.settings("photographs", "smoke"), count=1)
    store = Store(tmp_path / "store")
    result = run(
        EXPERIMENT, config, store, out=tmp_path, machine=Machine(), observer=SilentObserver()
    )
    table = result["tables"]["large"]
    assert set(table) == {f"{name}, {goal}" for name in LARGE for goal in GOALS}
    for row in table.values():
        (there,), (lowest,) = row["in_files"], row["lowest"]
        assert 0 <= lowest <= there <= 100
    one = table["C&W Linf, untargeted"]
    assert one["found"] == one["in_files"] == [100.0]  # whole levels lose nothing in a file
    assert one["levels"] == pytest.approx([255 * size for size in one["linf"]], abs=1e-3)
    write_report(tmp_path)
    assert "Large images, as files" in (tmp_path / "report.html").read_text()


def test_an_unknown_goal_is_refused() -> None:
    with pytest.raises(ValueError, match="Unknown goal 'rare'"):
        Aimed(net(EXPERIMENT.settings("digits", "smoke"), 0), Method("FGS"), "rare", 1)

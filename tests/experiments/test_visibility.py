"""The largest radius that nobody sees, and who looks."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.computed import computed
from notbugs.data import load_source
from notbugs.experiments import ilyas2019
from notbugs.experiments.config import CONTROLS, config_for
from notbugs.experiments.constructed import Evaluated
from notbugs.experiments.experiment import Work
from notbugs.experiments.shared import digest_of
from notbugs.experiments.visibility import COLUMNS, LIMIT, _probed, largest_unseen
from notbugs.features import seen, shuffled_labels
from notbugs.store import SilentObserver, run_stages


def columns(*shares: float) -> dict[str, float | None]:
    return dict(zip(COLUMNS, shares, strict=False))


def test_the_largest_radius_that_no_observer_sees_is_chosen() -> None:
    shares = {
        0.25: [columns(0.0, 1.0), columns(0.0, 2.0)],
        0.5: [columns(4.0, 0.0), columns(6.0, 0.0)],  # 5 % on average
        1.0: [columns(0.0, 5.0), columns(0.0, 5.1)],  # one of them, more than 5 %
        2.0: [columns(50.0, 60.0)] * 2,
    }
    assert LIMIT == 5.0
    assert largest_unseen(shares) == 0.5
    assert largest_unseen(dict(reversed(shares.items()))) == 0.5
    assert largest_unseen({2.0: shares[2.0], 1.0: shares[1.0]}) is None


CONFIG = replace(
    config_for("digits", "smoke"), eps_grid=(0.1, 3.0), digest=digest_of(load_source("digits"))
)


def test_small_changes_are_not_seen_and_large_ones_are(work: Work) -> None:
    looks = ilyas2019.looks(CONFIG, 0)
    small, large = (computed(looks[eps], work) for eps in (0.1, 3.0))
    assert list(small) == list(large) == [*list(COLUMNS)[:4], "seen_any"]
    assert max(small.values()) <= LIMIT
    assert large["seen_any"] >= max(large.values())
    assert large["seen_nearest"] > 3 * LIMIT
    assert computed(ilyas2019.choices(CONFIG)["eps_headline"], work) == 0.1


def test_observers_are_not_the_source_and_look_at_what_lies_there(work: Work) -> None:
    who = ilyas2019.observers(CONFIG, 0)
    source = ilyas2019.source(CONFIG, 0, "standard")
    assert source.key not in (who.apart.key, who.robust.key)
    made = ilyas2019.targeted(CONFIG, 0, "D_other", 2.0)
    (look,) = (row.stage for row in ilyas2019.rows(CONFIG, 0) if row.name == "D_other"
               and row.table == "sets" and hasattr(row.stage, "observers"))  # fmt: skip
    shares, data = computed(look, work), work.load(made)
    for name, observer in who.of(work).items():
        assert shares[name] == pytest.approx(seen(observer, data))
    assert max(shares[name] for name in who.of(work)) <= shares["seen_any"] <= 100
    assert 0 <= shares["robust_probe"] <= 100
    assert "seen_mean" not in replace(who, blur=None).of(work)


def test_the_standard_evaluation_is_never_above_that_of_one_attack(work: Work) -> None:
    source = ilyas2019.source(CONFIG, 0, "robust")
    threat = ilyas2019.threat(CONFIG, 2.0)
    few = Evaluated(source, threat, 5, 64, judged=6)
    row = computed(few, work)
    test = source.data.splits(work).test
    model = work.load(source)
    with torch.no_grad():
        right = model.logits(test.pixels(slice(0, 6))).argmax(dim=1) == test.labels[:6]
    assert (
        row["standard_eps"] <= row["standard_half_eps"] <= 100 * float(right.float().mean()) + 1e-4
    )
    assert computed(replace(few, judged=0), work) == {
        name: value for name, value in row.items() if not name.startswith("standard")
    }


def test_a_radius_that_everybody_sees_is_taken_with_a_notice(work: Work) -> None:
    class Listening(SilentObserver):
        def noticed(self, one, text) -> None:
            heard.append(text)

    heard: list[str] = []
    stage = ilyas2019.choices(replace(CONFIG, eps_grid=(3.0,)))["eps_headline"]
    run_stages([stage], work.store, workers=0, observer=Listening(), settings={})
    assert work.load(stage) == 3.0
    assert "some observer sees more than 5 %" in heard[0]


def test_what_a_robust_net_is_told_by_true_labels_is_much(work: Work) -> None:
    source = ilyas2019.source(CONFIG, 0, "robust")
    parts, net = source.data.splits(work), computed(source, work)
    test = parts.test
    assert (
        _probed(net, parts.train, test)
        > 50
        > 20
        > _probed(net, shuffled_labels(parts.train, seed=0), test)
    )


def test_sets_of_noise_hold_no_image(work: Work, tmp_path: Path) -> None:
    noise = computed(ilyas2019.targeted(CONFIG, 0, "D_noise", 1.0), work)
    train = ilyas2019.source(CONFIG, 0, "standard").data.train(work)
    assert noise.images.shape == train.pixels().shape
    assert abs(float(noise.images.mean()) - 0.5) < 0.02
    assert "true_labels" not in noise.columns
    assert torch.allclose(noise.columns["distance"], torch.ones(len(noise)), atol=0.011)


def test_controls_have_the_labels_and_sizes_of_their_set(work: Work) -> None:
    made = computed(ilyas2019.targeted(CONFIG, 0, "D_other", 1.0), work)
    labels = dict(zip(made.columns["source_rows"].tolist(), made.labels.tolist(), strict=True))
    for control in CONTROLS:
        row = "leak:D_other" if control == "leak" else f"D_other/{control}"
        other = computed(ilyas2019.targeted(CONFIG, 0, row, 1.0), work)
        rows = other.columns["source_rows"].tolist()
        same = [(labels[r], int(t)) for r, t in zip(rows, other.labels, strict=True) if r in labels]
        assert len(same) > 200, control
        assert all(a == b for a, b in same), control
        assert torch.allclose(other.columns["distance"], torch.ones(len(other)), atol=0.011)
        assert not torch.equal(other.images[:50], made.images[:50])

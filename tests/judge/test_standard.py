"""The standard evaluation: its ensemble, its books on disk, and what stops it."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from notbugs.attacks import hop_skip_jump, pgd
from notbugs.attacks.apgd import apgd, apgd_targeted
from notbugs.attacks.fab import fab
from notbugs.attacks.square import square
from notbugs.core import random
from notbugs.core.errors import StoreError
from notbugs.data import ImageData
from notbugs.engine import L1, L2, Linf, Threat
from notbugs.engine.apgd_l1 import APGDL1
from notbugs.judge import diagnose, estimate, evaluate, identity, standard_attacks
from notbugs.judge.fingerprint import described
from notbugs.judge.masked_models import quantised_model
from notbugs.models import build

N = 24


def net(seed=1):
    model = build("cnn", shape=(1, 8, 8), classes=5, seed=seed, options={"width": 4, "hidden": 8})
    x = random.uniform(random.row_keys(N, "net"), (1, 8, 8))
    model.eval()
    with torch.no_grad():
        model.body.head.bias.sub_(model.logits(x).mean(dim=0))
        y = model.logits(x).argmax(dim=1)
    return model, ImageData(x, y, tuple("abcde"), "noise")


def quick(threat):
    """The four attacks with short budgets."""
    norm, eps = threat.norm, threat.eps
    return [
        apgd(norm, eps, steps=5),
        apgd_targeted(norm, eps, steps=5, targets_tried=4),
        fab(norm, eps, steps=5, targets_tried=4),
        square(norm, eps, steps=20),
    ]


@pytest.mark.parametrize("norm", [Linf(), L2(), L1()], ids=lambda n: n.name)
def test_the_ensemble_is_that_of_the_standard(norm) -> None:
    made = standard_attacks(Threat(norm, 0.5))
    assert [a.name for a in made] == ["APGD-100", "APGD-T-100", "FAB-T-100", "Square-5000"]
    sparse = norm.name == "l1"  # 5 restarts, 5 classes
    assert [a.passes for a in made] == [*((500, 500) if sparse else (100, 900)), 900, 5000]
    assert [a.requirements.gradients for a in made] == [True, True, True, False]
    assert all(a.threat == Threat(norm, 0.5) for a in made)


def test_the_ensemble_needs_a_norm() -> None:
    with pytest.raises(ValueError, match=r"for the standard evaluation; got l0:3"):
        standard_attacks(Threat.parse("l0:3"))


@pytest.mark.parametrize("text", ["linf:0.03", "l2:0.12", "l1:0.5"])
def test_it_is_no_weaker_than_each_of_its_attacks_and_the_books_add_up(text) -> None:
    model, data = net()
    threat = Threat.parse(text)
    attacks = quick(threat)
    verdict = evaluate(model, data, threat, attacks=attacks, batch_size=10)
    keys = random.row_keys(N, 0, "evaluate")
    fell = torch.zeros(N, dtype=torch.bool)
    for i, attack in enumerate(attacks):
        found = attack(model, data.pixels(), data.labels, keys=random.fold(keys, "attack", i))
        fell |= found.success
    assert torch.equal(verdict.robust, ~fell)
    assert 0 < int(fell.sum()) < N
    for i, record in enumerate(verdict.attacks):
        assert record.broken == int((verdict.broken_by == i).sum())
    assert torch.equal(verdict.broken_by >= 0, fell)


class StopNowError(Exception):
    pass


def test_a_stopped_evaluation_goes_on_and_ends_with_the_same_verdict(tmp_path: Path) -> None:
    model, data = net()
    threat = Threat.parse("l2:0.12")
    whole = evaluate(model, data, threat, attacks=quick(threat), batch_size=5)
    state = tmp_path / "state.json"
    for stop_at in (1, 2, 1):
        calls = []

        def interrupt(fraction, calls=calls, stop_at=stop_at) -> None:
            calls.append(fraction)
            if len(calls) == stop_at:
                raise StopNowError

        with pytest.raises(StopNowError):
            evaluate(model, data, threat, attacks=quick(threat), batch_size=5, save_to=state,
                     progress=interrupt)  # fmt: skip
        assert state.exists()
    again = evaluate(model, data, threat, attacks=quick(threat), batch_size=5, save_to=state)
    assert torch.equal(again.broken_by, whole.broken_by)
    assert torch.equal(again.right, whole.right)
    assert again.forwards == whole.forwards
    assert not state.exists()


def test_the_state_of_another_evaluation_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    model, data = net()
    threat = Threat.parse("l2:0.12")
    state = tmp_path / "state.json"

    def stop(fraction) -> None:
        raise StopNowError

    def run(**changes) -> None:
        options = {"attacks": quick(threat), "save_to": state, "progress": stop, **changes}
        with pytest.raises(StopNowError):
            evaluate(model, data, threat, **options)

    run()
    with pytest.raises(StoreError, match=r"state of another evaluation .*Delete it to start again"):
        run(seed=1)
    with pytest.raises(StoreError, match=r"state of another evaluation"):
        run(attacks=[pgd(L2(), 0.12)])
    state.write_text("{half")
    with pytest.raises(StoreError, match=r"not the saved state of an evaluation, or is damaged"):
        run()
    assert state.read_text() == "{half"


@pytest.mark.parametrize("field", ["right", "broken_by", "forwards", "seen"])
def test_a_state_that_was_edited_is_refused(tmp_path: Path, field) -> None:
    model, data = net()
    threat, state = Threat.parse("l2:0.12"), tmp_path / "state.json"

    def stop(fraction) -> None:
        raise StopNowError

    def run(progress) -> None:
        evaluate(
            model, data, threat, attacks=quick(threat), batch_size=5, save_to=state,
            progress=progress,
        )  # fmt: skip

    with pytest.raises(StopNowError):
        run(stop)
    kept = json.loads(state.read_text())
    changed = {
        "right": [not row for row in kept["right"]],
        "broken_by": [0] * len(kept["broken_by"]),
        "forwards": kept["forwards"] + 1,
        "seen": {},
    }
    state.write_text(json.dumps(kept | {field: changed[field]}))
    with pytest.raises(StoreError, match=r"damaged \(.*changed after it was written.*Delete it"):
        run(lambda fraction: None)
    state.write_text(json.dumps(kept))
    run(lambda fraction: None)
    assert not state.exists()


def test_a_net_with_norms_has_an_identity_too() -> None:
    """Their count of batches is a single number, which has no bytes to be viewed as."""
    _, data = net()
    options = {"width": 2}
    model = build("resnet8", shape=data.shape, classes=data.classes, seed=0, options=options)
    threat = Threat.parse("linf:0.1")
    base = identity(model, data, threat, quick(threat), 0)
    assert identity(model, data, threat, quick(threat), 0) == base
    model.state_dict()["body.trunk.0.1.num_batches_tracked"].add_(1)
    assert identity(model, data, threat, quick(threat), 0) != base


def test_the_identity_changes_with_all_that_matters() -> None:
    model, data = net()
    threat = Threat.parse("l2:0.12")
    attacks = quick(threat)
    base = identity(model, data, threat, attacks, 0)
    assert identity(model, data, threat, quick(threat), 0) == base
    others = [
        identity(net(seed=2)[0], data, threat, attacks, 0),
        identity(model, data.select(slice(0, 9)), threat, attacks, 0),
        identity(model, data, threat, attacks[:2], 0),
        identity(model, data, threat, [replace(attacks[0], restarts=2), *attacks[1:]], 0),
        identity(model, data, threat, attacks, 1),
    ]
    assert len({base, *others}) == 6


def test_another_process_finds_its_own_evaluation_again() -> None:
    """Functions print with their address: an identity must not depend on it."""
    code = (
        "from notbugs.judge import standard_attacks;"
        "from notbugs.judge.fingerprint import described;"
        "from notbugs.engine import Threat; from notbugs.attacks import hop_skip_jump;"
        "import torch; from notbugs.engine import L2;"
        "made = [*standard_attacks(Threat.parse('l2:1')), hop_skip_jump(L2(), images="
        "torch.zeros(1, 1, 2, 2))]; print([described(a) for a in made])"
    )
    running = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
        )
        for seed in (1, 2)
    ]
    said = [process.communicate()[0] for process in running]
    assert [process.returncode for process in running] == [0, 0]
    assert said[0] == said[1]
    assert "cross_entropy" in said[0]
    assert "0x" not in said[0]
    first, second = (hop_skip_jump(L2(), images=torch.full((1, 1, 2, 2), v)) for v in (0.1, 0.2))
    assert described(first) != described(second)


def test_for_l1_the_steps_are_sparse() -> None:
    made = standard_attacks(Threat.parse("l1:2"))
    assert all(isinstance(a.solver.rule, APGDL1) for a in made[:2])
    assert (made[0].restarts, made[1].targets_tried) == (5, 5)


def test_no_gradient_anywhere_is_noticed_however_many_targets_are_tried() -> None:
    model, data = net()
    blind = quantised_model(model, levels=3)
    threat = Threat.parse("linf:0.02")
    attacks = [apgd_targeted(Linf(), 0.02, steps=5, targets_tried=4)]
    verdict = evaluate(blind, data, threat, attacks=attacks)
    assert verdict.zero_gradients > 80  # all but what the random start alone breaks
    assert verdict.masking[0]["verdict"] == "suspicious"


def test_the_standard_verdict_brings_the_diagnosis() -> None:
    model, data = net()
    threat = Threat.parse("l2:0.12")
    verdict = evaluate(model, data, threat, attacks=quick(threat), diagnosis=True)
    names = [check["check"] for check in verdict.masking]
    told = [dict(c) for c in diagnose(model, data, threat)]
    assert [dict(c) for c in verdict.masking[: len(told)]] == told
    assert len(told) == 9
    assert names[len(told) :] == ["search after gradients"]


def test_the_estimate_grows_with_the_work() -> None:
    model, data = net()
    short, long = pgd(Linf(), 0.1, steps=10), pgd(Linf(), 0.1, steps=1000)
    assert 0 < estimate(model, data, [short]) < estimate(model, data, [long])


def test_the_verdict_can_be_written(tmp_path: Path) -> None:
    model, data = net()
    threat = Threat.parse("l2:0.12")
    words = evaluate(model, data, threat, attacks=quick(threat)).as_json()
    assert json.loads(json.dumps(words))["attacks"][3]["name"] == "Square-20"

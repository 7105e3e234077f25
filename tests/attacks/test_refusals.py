"""Bad input meets a clear error at every public attack, and at the judge."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import notbugs
from attacks.catalogue import ATTACKS
from attacks.unchecked import CALLERS, DATA, IN_L0, MODELS, THREAT, WITH_DLR, WRITTEN, model
from notbugs.attacks import ddn, pgd
from notbugs.engine import L2, Threat
from notbugs.judge import estimate, evaluate

SHAPE = r"`model` must give logits of shape \(\d+, 5\), .*; got {}\. .*check `classes`"
SAID = {
    "more logits": ("ValueError", SHAPE.format(r"shape \(\d+, 7\)")),
    "fewer logits": ("ValueError", SHAPE.format(r"shape \(\d+, 4\)")),
    "three dimensions": ("ValueError", SHAPE.format(r"shape \(\d+, 5, 1\)")),
    "one number": ("ValueError", SHAPE.format(r"shape \(\d+,\)")),
    "a set": ("ValueError", SHAPE.format("set")),
    "classes first": ("ValueError", SHAPE.format(r"shape \(5, \d+\)")),
    "one row": ("ValueError", SHAPE.format(r"shape \(1, 5\)")),
    "decisions": ("ValueError", r"floating logits; got torch.int64\. Return scores"),
    "NaN": ("ValueError", r"`model` must give finite logits .*NaN, first in row 0.*diverged"),
    "infinity": ("ValueError", r"`model` must give finite logits .*infinity, first in row 0"),
    "no gradients": (
        "ValueError",
        r"`model` must give .*without gradients\. .*use square\(norm, eps",
    ),
    "batch statistics": (
        "ValueError",
        r"`model` must say the same of an image whatever other images are in its batch; "
        r"got BatchNorm2d `body.norm`, which has track_running_stats=False\. .*fixed in training",
    ),
    "a function": (
        "TypeError",
        r"`model` must be a torch module or a Classifier; got method\. Use wrap\(",
    ),
}
REPORT = {"diagnose"}  # it tells of such a model instead
LET_THROUGH = {
    "no gradients": {
        *(name for name, attack in ATTACKS.items() if not attack.requirements.gradients),
        "evaluate",  # by attacks that need none
        "accuracy",
        *REPORT,
    },
    "batch statistics": REPORT,
}


@pytest.fixture(scope="module")
def messages_by_call():
    """What each call says, in a process without our own type checker."""
    folders = [Path(notbugs.__file__).parents[1], Path(__file__).parents[1]]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, folders))}
    command = [sys.executable, "-m", "attacks.unchecked"]
    done = subprocess.run(command, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_bad_model_is_in_the_table() -> None:
    assert set(SAID) == set(MODELS)


@pytest.mark.parametrize("case", MODELS)
@pytest.mark.parametrize("caller", CALLERS)
def test_a_model_that_breaks_the_contract_is_refused(caller, case, messages_by_call) -> None:
    kind, text = messages_by_call["model"][case][caller]
    if caller in LET_THROUGH.get(case, ()):
        assert (kind, text) == ("", "")
        return
    wanted, match = SAID[case]
    assert kind == wanted, text
    assert re.search(match, text), text


@pytest.mark.parametrize("name", WITH_DLR)
def test_dlr_needs_three_classes_and_no_targets(name, messages_by_call) -> None:
    kind, text = messages_by_call["few"][name]
    assert kind == "ValueError"
    assert "`model` must have at least 3 classes for" in text
    assert "got 2. Its loss is undefined for fewer: use loss=margin or cross_entropy." in text
    kind, text = messages_by_call["dlr with targets"][name]
    assert kind == "ValueError"
    assert "`loss` must be defined for targets; got dlr" in text
    assert "Use margin or cross_entropy" in text


@pytest.mark.parametrize("name", IN_L0)
def test_l0_is_refused_where_steps_need_a_direction(name, messages_by_call) -> None:
    kind, text = messages_by_call["l0"][name]
    assert kind == "ValueError"
    assert "`norm` must be" in text
    assert "got L0()" in text
    assert "Use" in text or "use" in text


@pytest.mark.parametrize("argument", WRITTEN)
def test_text_in_place_of_a_norm_or_a_number_is_refused(argument, messages_by_call) -> None:
    assert len(WRITTEN[argument]) >= 13
    for name, (kind, text) in messages_by_call["text"][argument].items():
        assert kind in ("TypeError", "ValueError"), name
        assert re.match(rf"`{argument}` must be .*; got ", text), (name, text)


def test_evaluate_refuses_threats_that_attacks_do_not_have() -> None:
    judged = model()
    with pytest.raises(ValueError, match=r"got DDN-3, which looks for the nearest.*fab\(norm, eps"):
        evaluate(judged, DATA, THREAT, attacks=[ddn(steps=3)])
    with pytest.raises(ValueError, match=r"threat linf:0.1; got PGD-20 with l2:0.1"):
        evaluate(judged, DATA, THREAT, attacks=[pgd(L2(), 0.1)])
    few = Threat.parse("l0:3")
    with pytest.raises(ValueError, match=r"for the standard evaluation; got l0:3.*cw_l0"):
        evaluate(judged, DATA, few)


def test_the_diagnosis_is_refused_before_the_work_and_not_after() -> None:
    calls = []
    few = Threat.parse("l0:3")

    class Never(type(pgd(L2(), 0.1))):
        def __call__(self, *arguments, **options) -> None:
            calls.append(arguments)
            raise AssertionError

    attack = Never("none", few, pgd(L2(), 0.1).solver)
    with pytest.raises(ValueError, match=r"for the masking diagnosis; got l0:3"):
        evaluate(model(), DATA, few, attacks=[attack], diagnosis=True)
    assert calls == []


def test_the_estimate_of_a_model_without_gradients_advises_square() -> None:
    blind = MODELS["no gradients"]
    with pytest.raises(ValueError, match=r"without gradients\. .*use square"):
        estimate(blind, DATA, [pgd(L2(), 0.1)])
    assert torch.is_grad_enabled()

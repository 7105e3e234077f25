"""Evaluations by the names of methods."""

import pytest
import torch

import notbugs as nb
from notbugs.judge import evaluation_attacks, evaluation_pgd, standard_attacks

LINF = nb.Threat.parse("linf:0.1")


@pytest.mark.parametrize(
    ("methods", "like"),
    [
        ("standard", standard_attacks(LINF)),
        ("AutoAttack", standard_attacks(LINF)),
        ("pgd", [evaluation_pgd(LINF)]),
        ("pgd-50", [evaluation_pgd(LINF, steps=50)]),
        (
            ("fgsm", "square-9"),
            [nb.fgsm(nb.Linf(), 0.1), nb.attacks.square(nb.Linf(), 0.1, steps=9)],
        ),
    ],
)
def test_names_of_evaluations(methods, like) -> None:
    assert evaluation_attacks(methods, LINF) == like


def test_what_is_no_evaluation_is_refused() -> None:
    for methods, words in (
        ((), "at least one; got"),
        (("pgd", "PGD-20"), "each attack once"),
        (("standard", "autoattack"), "each attack once"),
        ("fmn", "at any distance"),
        ("standard-5", "Unknown method"),
        ("standart", "Did you mean 'standard'"),
    ):
        with pytest.raises(ValueError, match=words):
            evaluation_attacks(methods, LINF)


def test_a_method_is_named_in_a_call() -> None:
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
    x = torch.rand(20, 1, 4, 4, generator=torch.manual_seed(0))
    y = net(x).argmax(dim=1)
    named = nb.evaluate(net, (x, y), "linf:0.1", attacks="pgd-7")
    like = nb.evaluate(net, (x, y), LINF, attacks=[evaluation_pgd(LINF, steps=7)])
    assert torch.equal(named.robust, like.robust)
    assert [a.name for a in named.attacks] == ["PGD-7"]
    assert named.robust_accuracy < 100
    several = nb.evaluate(net, (x, y), "linf:0.1", attacks=["pgd-7", "square-50"])
    assert [a.name for a in several.attacks] == ["PGD-7", "Square-50"]
    assert torch.equal(several.robust & named.robust, several.robust)
    with pytest.raises(TypeError, match="made of attacks"):
        nb.evaluate(net, (x, y), LINF, attacks=["pgd-7", evaluation_pgd(LINF)])
    with pytest.raises(ValueError, match="given once"):
        evaluation_attacks("pgd-50", LINF, steps=3)
    assert evaluation_attacks("pgd", LINF, steps=None) == [evaluation_pgd(LINF)]
    with pytest.raises(TypeError, match="Leave it out for the standard"):
        nb.evaluate(net, (x, y), LINF, attacks=None)
    with pytest.raises(ValueError, match="at any distance"):
        nb.evaluate(net, (x, y), "linf:0.1", attacks="fmn")

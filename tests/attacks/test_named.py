"""Attacks by name."""

import pytest
import torch
from torch import nn

import notbugs as nb
from notbugs.attacks.named import ALIASES, METHODS, attack_named
from notbugs.engine import SIZES

EPS = {"linf": 0.1, "l2": 0.5, "l1": 2.0, "l0": 3.0}


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 3))


@pytest.fixture(scope="module")
def x() -> torch.Tensor:
    return torch.rand(6, 1, 4, 4, generator=torch.manual_seed(1))


def test_every_name_makes_its_attack_in_each_of_its_norms() -> None:
    for name, method in METHODS.items():
        for norm in method.norms:
            made = attack_named(name, nb.Threat(SIZES[norm], EPS[norm]))
            assert made.size == SIZES[norm], name
            assert (made.threat is not None) == method.bounded, name
    assert not set(ALIASES) & set(METHODS)
    assert set(ALIASES.values()) <= set(METHODS)


@pytest.mark.parametrize(
    ("name", "threat", "like"),
    [
        ("pgd-20", "linf:8/255", nb.pgd(nb.Linf(), 8 / 255, steps=20)),
        ("PGD_7", "l2:0.5", nb.pgd(nb.L2(), 0.5, steps=7)),
        ("cw", None, nb.attacks.cw_l2()),
        ("C&W", "l2", nb.attacks.cw_l2()),
        ("hsj-2", "linf", nb.attacks.hop_skip_jump(nb.Linf(), steps=2)),
        ("I-FGSM", "linf:0.1", nb.attacks.bim(0.1)),
        ("square-50", nb.Threat(nb.Linf(), 0.1), nb.attacks.square(nb.Linf(), 0.1, steps=50)),
        ("fmn", nb.L0(), nb.attacks.fmn(nb.L0())),
    ],
)
def test_names_as_people_write_them(name, threat, like) -> None:
    assert attack_named(name, threat) == like


def test_a_plain_module_is_attacked_by_name(net, x) -> None:
    y = net(x).argmax(dim=1)
    found = nb.attack(net, x, y, "pgd-5", "linf:0.5", seed=3)
    like = nb.pgd(nb.Linf(), 0.5, steps=5)(net, x, y, seed=3)
    assert torch.equal(found.x_adv, like.x_adv)
    assert found.success.any()


def test_a_radius_bounds_the_successes_of_a_nearest_method(net, x) -> None:
    y = net(x).argmax(dim=1)
    free = nb.attack(net, x, y, "ddn-20")
    eps = float(free.distance.median())
    bounded = nb.attack(net, x, y, "ddn-20", f"l2:{eps!r}")
    assert free.success.all()
    assert torch.equal(bounded.success, free.distance <= eps)
    assert torch.equal(bounded.x_adv, free.x_adv)
    targets = (y + 1) % 3
    aimed = nb.attack(net, x, method="cw", targets=targets, confidence=0.1)
    z = net(aimed.x_adv).detach()
    best = z.scatter(1, targets[:, None], float("-inf")).amax(dim=1)
    lead = z.gather(1, targets[:, None])[:, 0] - best
    assert bool((lead[aimed.success] >= 0.1 - 1e-4).all())


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (("pdg", "l2:1"), "Unknown method 'pdg'. Did you mean 'pgd'?"),
        (("pdg-20", "l2:1"), "Unknown method 'pdg-20'. Did you mean 'pgd'?"),
        (("pgd",), "`threat` must give pgd a norm and a radius; got None"),
        (("pgd", "l2"), "`threat` must give pgd a norm and a radius; got L2()"),
        (("fmn",), "`threat` must give fmn a norm; got None"),
        (("cw", "linf:0.1"), "`threat` must have a norm that cw supports; got linf:0.1"),
        (("fgsm-3", "l2:1"), "of fgsm; got 'fgsm-3'"),
        (("autoattack", "l2:1"), "`method` must be one attack"),
        (("pgd", "l7:1"), "Unknown norm 'l7'"),
    ],
)
def test_what_a_name_cannot_mean_is_refused(call, words) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        attack_named(*call)
    assert words in str(error.value)


def test_steps_are_given_once() -> None:
    with pytest.raises(ValueError, match="given once"):
        attack_named("pgd-3", "l2:1", steps=3)
    with pytest.raises(ValueError, match="`eps` must be left out"):
        attack_named("pgd", "l2:1", eps=3)
    with pytest.raises(TypeError, match="a name such as 'pgd-20'"):
        attack_named(None, "l2:1")
    with pytest.raises(ValueError, match="Unknown method"):
        attack_named("pgd-99999999", "l2:1")
    with pytest.raises(TypeError, match="step"):
        attack_named("pgd", "l2:1", stepsize=3)

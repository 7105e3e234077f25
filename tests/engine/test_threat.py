import pytest

from notbugs.engine import L2, Linf, Threat


@pytest.mark.parametrize(
    ("text", "norm", "eps"),
    [("linf:8/255", Linf(), 8 / 255), ("l2:0.5", L2(), 0.5), (" L2:1 ", L2(), 1.0)],
)
def test_threats_are_read_and_written_back(text, norm, eps):
    threat = Threat.parse(text)
    assert threat == Threat(norm, eps)
    assert Threat.parse(str(threat)) == threat


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("linf:8", r"pixel units of \[0, 1\].*0-255 scale.*Write linf:8/255"),
        ("l2:0", r"`eps` must be a finite number above 0; got 0"),
        ("l2:-1", r"`eps` must be a finite number above 0; got -1"),
        ("l3:1", r"Unknown norm 'l3'. Did you mean"),
        ("0.5", r"`threat` must be written norm:eps; got '0.5'"),
        ("l2:1/0", r"have a number after the colon"),
        ("l2:nan", r"`threat` must be written norm:eps"),
    ],
)
def test_bad_threats_are_explained(text, message):
    with pytest.raises(ValueError, match=message):
        Threat.parse(text)


def test_scaled():
    assert Threat.parse("l2:1").scaled(0.5) == Threat(L2(), 0.5)

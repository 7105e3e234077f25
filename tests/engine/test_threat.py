import pytest
from hypothesis import given
from hypothesis import strategies as st

from notbugs.engine import L0, L1, L2, Linf, Threat


@pytest.mark.parametrize(
    ("text", "norm", "eps"),
    [("linf:8/255", Linf(), 8 / 255), ("l2:0.5", L2(), 0.5), (" L2:1 ", L2(), 1.0)],
)
def test_threats_are_read_and_written_back(text, norm, eps) -> None:
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
def test_bad_threats_are_explained(text, message) -> None:
    with pytest.raises(ValueError, match=message):
        Threat.parse(text)


def test_scaled() -> None:
    assert Threat.parse("l2:1").scaled(0.5) == Threat(L2(), 0.5)


@pytest.mark.parametrize("norm", [Linf(), L2(), L1()], ids=lambda norm: norm.name)
@given(eps=st.one_of(st.floats(5e-324, 1), st.integers(1, 255).map(lambda k: k / 255)))
def test_every_radius_is_read_back_exactly(norm, eps) -> None:
    threat = Threat(norm, eps)
    assert Threat.parse(str(threat)) == threat


@given(pixels=st.integers(1, 10**9))
def test_every_number_of_pixels_is_read_back(pixels) -> None:
    threat = Threat(L0(), float(pixels))
    assert Threat.parse(str(threat)) == threat


@pytest.mark.parametrize(
    ("eps", "text"),
    [
        (8 / 255, "linf:8/255"),
        (0.5, "linf:0.5"),
        (1e-9, "linf:1e-09"),
        (0.123456789, "linf:0.123456789"),
    ],
)
def test_threats_are_written_in_their_shortest_form(eps, text) -> None:
    assert str(Threat(Linf(), eps)) == text

"""A threat model: a norm and a radius, written `linf:8/255` or `l2:0.5`."""

import re
from dataclasses import dataclass
from fractions import Fraction

from notbugs.core.errors import bad_value, check_positive, unknown_name
from notbugs.engine.norms import NORMS, AbstractNorm
from notbugs.engine.sets import BallInBox

_FORM = re.compile(r"^(?P<norm>[a-z0-9]+):(?P<eps>[-+0-9.eE]+(/[0-9.]+)?)$")


@dataclass(frozen=True)
class Threat:
    """All x' in [0, 1] with norm(x' - x) <= eps; `eps` in pixel units of [0, 1]."""

    norm: AbstractNorm
    eps: float

    def __post_init__(self) -> None:
        """Refuses a radius that is not positive, and a Linf radius on the 0..255 scale."""
        check_positive(self.eps, "eps", "A threat of size zero is clean accuracy.")
        if self.norm.name == "linf" and self.eps > 1:
            raise bad_value(
                "eps",
                "be in pixel units of [0, 1] (Linf cannot exceed 1)",
                f"{self.eps:g}, which looks like the 0-255 scale",
                f"Write linf:{self.eps:g}/255.",
            )

    @classmethod
    def parse(cls, text: str) -> "Threat":
        """The threat written as `norm:eps`, where eps is a number or a fraction."""
        match = _FORM.match(text.strip().lower())
        if match is None:
            raise bad_value(
                "threat", "be written norm:eps", f"'{text}'", "Examples: linf:8/255, l2:0.5."
            )
        if match["norm"] not in NORMS:
            raise unknown_name("norm", match["norm"], NORMS)
        return cls(NORMS[match["norm"]], _number(match["eps"], text))

    def within(self) -> BallInBox:
        """The set of allowed inputs around each image."""
        return BallInBox(self.norm, self.eps)

    def scaled(self, factor: float) -> "Threat":
        """The same norm with the radius multiplied by `factor`."""
        return Threat(self.norm, self.eps * factor)

    def __str__(self) -> str:
        """The text that `parse` reads back."""
        whole = round(self.eps * 255, 6)
        if self.norm.name == "linf" and whole == int(whole):
            return f"linf:{int(whole)}/255"
        return f"{self.norm.name}:{self.eps:g}"


def _number(text: str, whole: str) -> float:
    try:
        top, _, bottom = text.partition("/")
        return float(Fraction(top) / Fraction(bottom)) if bottom else float(top)
    except (ValueError, ZeroDivisionError) as error:
        raise bad_value(
            "threat", "have a number after the colon", f"'{whole}'", "Examples: linf:8/255, l2:0.5."
        ) from error

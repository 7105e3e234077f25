"""A threat model: a norm and a radius, written `linf:8/255` or `l2:0.5`."""

import re
from dataclasses import dataclass
from fractions import Fraction

from notbugs.core.errors import bad_type, bad_value, check_positive, unknown_name
from notbugs.engine.norms import L2, AbstractNorm, AbstractSize, Linf, check_size
from notbugs.engine.sets import BallInBox
from notbugs.engine.sparse import L0, L1

NORMS: dict[str, AbstractNorm] = {"linf": Linf(), "l2": L2(), "l1": L1()}
"""The norms by name: those along which a gradient has a steepest direction."""

SIZES: dict[str, AbstractSize] = {**NORMS, "l0": L0()}
"""The sizes by the names used in threats such as `linf:8/255`."""

_FORM = re.compile(r"^(?P<norm>[a-z0-9]+):(?P<eps>[-+0-9.eE]+(/[0-9.]+)?)$")


@dataclass(frozen=True)
class Threat:
    """All x' in [0, 1] with norm(x' - x) <= eps.

    `eps` is in pixel units of [0, 1]; for L0 it is a number of pixels.
    """

    norm: AbstractSize
    eps: float

    def __post_init__(self) -> None:
        check_size(self.norm)
        check_positive(self.eps, "eps", "A threat of size zero is clean accuracy.")
        if self.norm.name == "linf" and self.eps > 1:
            raise bad_value(
                "eps",
                "be in pixel units of [0, 1] (Linf cannot exceed 1)",
                f"{self.eps:g}, which looks like the 0-255 scale",
                f"Write linf:{self.eps:g}/255.",
            )
        if self.norm.name == "l0" and (self.eps < 1 or self.eps != int(self.eps)):
            raise bad_value("eps", "be a whole number of pixels for l0", f"{self.eps:g}")

    @classmethod
    def parse(cls, text: str) -> "Threat":
        """The threat written as `norm:eps`, where eps is a number or a fraction."""
        if not isinstance(text, str):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise bad_type("threat", "text such as 'l2:0.5'", text)
        match = _FORM.match(text.strip().lower())
        if match is None:
            raise bad_value(
                "threat", "be written norm:eps", f"'{text}'", "Examples: linf:8/255, l2:0.5."
            )
        if match["norm"] not in SIZES:
            raise unknown_name("norm", match["norm"], SIZES)
        return cls(SIZES[match["norm"]], _number(match["eps"], text))

    def within(self) -> BallInBox:
        """The set of allowed inputs around each image."""
        return BallInBox(self.norm, self.eps)

    def as_norm(self, method: str) -> AbstractNorm:
        """The threat's norm, for a method that needs steepest directions.

        **Raises** ValueError for L0, which has none.
        """
        if not isinstance(self.norm, AbstractNorm):
            raise bad_value(
                "threat",
                f"have one of the norms {', '.join(NORMS)} for {method}",
                str(self),
                "For few changed pixels use fmn(L0()) or cw_l0().",
            )
        return self.norm

    def scaled(self, factor: float) -> "Threat":
        """The same norm with the radius multiplied by `factor`."""
        return Threat(self.norm, self.eps * factor)

    def __str__(self) -> str:
        """The shortest text that `parse` reads back as this threat."""
        return f"{self.norm.name}:{radius(self.norm.name, self.eps)}"


def radius(norm: str, eps: float) -> str:
    """The shortest text that determines the radius; for linf in 255ths if it is a whole number."""
    levels = round(eps * 255)
    return f"{levels}/255" if norm == "linf" and levels / 255 == eps else exact(eps)


def exact(number: float) -> str:
    """The number in as few digits as determine it, as in file names."""
    short = f"{number:g}"
    return short if float(short) == number else repr(float(number))


def _number(text: str, threat: str) -> float:
    try:
        top, _, bottom = text.partition("/")
        return float(Fraction(top) / Fraction(bottom)) if bottom else float(top)
    except (ValueError, ZeroDivisionError) as error:
        raise bad_value(
            "threat",
            "have a number after the colon",
            f"'{threat}'",
            "Examples: linf:8/255, l2:0.5.",
        ) from error

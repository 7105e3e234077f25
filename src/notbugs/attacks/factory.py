"""A decorator for attack factories that checks their `norm` argument."""

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from notbugs.engine.norms import check_size

P = ParamSpec("P")
R = TypeVar("R")


def takes_norm(make: Callable[P, R]) -> Callable[P, R]:
    """`make` with a check of the argument `norm`, before Python checks the other arguments.

    So `fgsm(0.1)` reports that a norm is expected and how to write it, not that `eps` is
    missing.

    **Raises** TypeError for a `norm` that is not a norm.
    """
    names = list(inspect.signature(make).parameters)
    place, radius = names.index("norm"), ", eps" if "eps" in names else ""
    example = f"{make.__name__}({', '.join([*names[:place], 'Linf()'])}{radius})"

    @functools.wraps(make)
    def checked(*arguments: P.args, **options: P.kwargs) -> R:
        if len(arguments) > place:
            check_size(arguments[place], example)
        elif "norm" in options:
            check_size(options["norm"], example)
        return make(*arguments, **options)

    return checked

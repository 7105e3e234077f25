"""The checker of annotations: beartype, which lets an int stand where a float is asked for.

A checked call costs far more than most of what it checks, and loops make thousands. So only a
function's first calls in each test are checked, and those of all later tests again.
"""

import functools
import inspect

import jaxtyping
from beartype import BeartypeConf, beartype
from torch.fx import Proxy

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
CHECKED = 5
"""Calls of a function that are checked in each test."""


class Tests:
    """Counts the tests: what was checked in one is checked again in the next."""

    begun = 0


def _sampled(decorate):
    def decorated(function):
        checked = decorate(function)
        if not inspect.isfunction(function) or inspect.isgeneratorfunction(function):
            return checked
        left, test = CHECKED, -1

        @functools.wraps(checked)
        def call(*arguments, **named):
            nonlocal left, test
            if any(isinstance(one, Proxy) for one in arguments):
                return function(*arguments, **named)  # no tensor: the function is being traced
            if test != Tests.begun:
                left, test = CHECKED, Tests.begun
            if left <= 0:
                return function(*arguments, **named)
            left -= 1
            return checked(*arguments, **named)

        return call

    return decorated


def install(package):
    """Checks the annotations of a package's functions, and of its dataclasses, from now on."""
    real = jaxtyping.jaxtyped

    def jaxtyped(*given, **options):
        if given:  # as a plain decorator
            return _sampled(real)(*given)
        return _sampled(real(**options))

    jaxtyping.jaxtyped = jaxtyped
    jaxtyping.install_import_hook(package, "typecheck.check")

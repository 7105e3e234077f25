"""The checker of annotations: beartype, which lets an int stand where a float is asked for.

A checked call costs far more than most of what it checks, and loops make thousands. So only a
function's first calls in each test function are checked, whatever its parameters.
"""

import functools
import inspect
from types import CodeType

import jaxtyping
from beartype import BeartypeConf, beartype
from torch.compiler import is_dynamo_compiling
from torch.fx import Proxy

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
CHECKED = 2
"""Calls of a function that are checked in each test function."""
calls: dict[CodeType, int] = {}
"""Those so far, by what the function was compiled to; cleared when a test function begins."""


def _sampled(decorate):
    def decorated(function):
        if not inspect.isfunction(function) or inspect.isgeneratorfunction(function):
            return decorate(function)
        code, checked = function.__code__, None

        @functools.wraps(function)
        def call(*arguments, **named):
            nonlocal checked
            if is_dynamo_compiling():
                return function(*arguments, **named)
            done = calls.get(code, 0)
            if done == CHECKED or any(isinstance(a, Proxy) for a in arguments):
                return function(*arguments, **named)  # a Proxy is no tensor: this is a trace
            calls[code] = done + 1
            if checked is None:  # not before: a function within another is made at each call
                checked = decorate(function)
            return checked(*arguments, **named)

        return call

    return decorated


def install(package) -> None:
    """Checks the annotations of a package's functions, and of its dataclasses, from now on."""
    real = jaxtyping.jaxtyped

    def jaxtyped(*given, **options):
        if given:  # as a plain decorator
            return _sampled(real)(*given)
        return _sampled(real(**options))

    jaxtyping.jaxtyped = jaxtyped
    jaxtyping.install_import_hook(package, "typecheck.check")

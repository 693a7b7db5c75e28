"""The compiled loops, as plain functions of arrays.

In C where the package was built with them (`native`); else the same in Python, compiled by numba when first called, and
kept on disk where a folder can be written to. Both give the same numbers. Nothing here is imported on the default
lossless path. No function allocates or checks its arguments: callers do both.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, cast

from bale.compressors.kernels import native

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """The loop in C of this name; else compile this one when it is first called."""
    found = native.of(function.__name__)
    return _by_numba(function) if found is None else cast(Function, found)


def inlined(function: Function) -> Function:
    """A part of loops: nothing calls it where these are in C."""
    return function if native.available() else _by_numba(function)


def _by_numba(function: Function) -> Function:
    """Compile when first called, and cache if there is a place for it: a read-only installation has none."""
    from numba import njit

    dispatcher = njit(nogil=True)(function)
    with suppress(Exception):  # no place, or a numba that is another one inside: the loops run without what was kept
        from bale.compressors.kernels.cache import CheckedCache

        dispatcher._cache = CheckedCache(function)
    return cast(Function, dispatcher)

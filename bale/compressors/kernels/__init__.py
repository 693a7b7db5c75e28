"""The compiled loops, as plain functions of arrays.

Compiled by numba when first called, and kept on disk where a folder can be written to. Nothing here is imported on the
default lossless path. No function allocates or checks its arguments: callers do both.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from numba import njit

Function = TypeVar("Function", bound=Callable[..., Any])


def compiled(function: Function) -> Function:
    """Compile when first called, and cache if there is a place for it: a read-only installation has none."""
    dispatcher = njit(nogil=True)(function)
    with suppress(Exception):  # no place, or a numba that is another one inside: the loops run without what was kept
        from bale.compressors.kernels.cache import CheckedCache

        dispatcher._cache = CheckedCache(function)
    return dispatcher

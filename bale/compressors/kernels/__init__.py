"""The compiled loops, as plain functions of arrays.

Compiled by numba when first called, and kept on disk where a folder can be written to. Nothing here is imported on the
default lossless path. No function allocates or checks its arguments: callers do both.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from numba import njit
from numba.core import event

from bale.compressors.compiling import begins

Function = TypeVar("Function", bound=Callable[..., Any])


class _Listener(event.Listener):
    """Passes on that a loop which was not kept is being compiled."""

    def on_start(self, event: Any) -> None:
        """Called before it is compiled."""
        begins()

    def on_end(self, event: Any) -> None:
        """Called after."""


event.register("numba:compile", _Listener())


def compiled(function: Function) -> Function:
    """Compile when first called, and cache if there is a place for it: a read-only installation has none."""
    dispatcher = njit(nogil=True)(function)
    with suppress(Exception):  # no place, or a numba that is another one inside: the loops run without what was kept
        from bale.compressors.kernels.cache import CheckedCache

        dispatcher._cache = CheckedCache(function)
    return dispatcher

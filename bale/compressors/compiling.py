"""Word that loops are being compiled, which takes seconds and happens once on a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

_listeners: list[Callable[[], None]] = []


@contextmanager
def when_compiling(tell: Callable[[], None]) -> Iterator[None]:
    """Have a function called, by any thread, whenever a loop is about to be compiled."""
    _listeners.append(tell)
    try:
        yield
    finally:
        _listeners.remove(tell)


def begins() -> None:
    """Tell all who want to know."""
    for tell in list(_listeners):
        tell()

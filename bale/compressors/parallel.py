"""Work on the pieces of one tensor by several threads: by those of the command that have nothing else to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_helpers: ContextVar[tuple[Executor, int] | None] = ContextVar("helpers", default=None)


@contextmanager
def helped_by(executor: Executor, count: int) -> Iterator[None]:
    """Let `in_order` use up to `count` threads of an executor beside the one that calls it."""
    token = _helpers.set((executor, count) if count > 0 else None)
    try:
        yield
    finally:
        _helpers.reset(token)


def in_order(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """The results of a function, in the order of its arguments; the first exception is raised.

    The caller works too, and waits only for what others have begun: threads that are busy with other jobs, or wait
    here themselves, hold nobody up.
    """
    pieces, helpers = _Pieces(function, list(items)), _helpers.get()
    executor, count = helpers or (None, 0)
    futures = [executor.submit(pieces.work) for _ in range(min(count, len(pieces.results) - 1))] if executor else []
    try:
        pieces.work()
    finally:
        begun = [each for each in futures if not each.cancel()]
        problems = [each.exception() for each in begun]
        results = pieces.taken()
    for problem in problems:
        if problem is not None:
            raise problem
    return results


class _Pieces(Generic[T, R]):
    """What is to be done; threads that come too late to begin hold nothing of it."""

    def __init__(self, function: Callable[[T], R], given: list[T]) -> None:
        self._function: Callable[[T], R] | None = function
        self._given = given
        self.results: list[R] = [None] * len(given)  # type: ignore[list-item]
        self._numbers, self._lock = iter(range(len(given))), Lock()

    def work(self) -> None:
        """Do one piece after the other, until there are no more."""
        while True:
            with self._lock:
                number = next(self._numbers, None)
            if number is None or self._function is None:
                return
            try:
                self.results[number] = self._function(self._given[number])
            except BaseException:
                with self._lock:  # nothing more is begun
                    for _ in self._numbers:
                        pass
                raise

    def taken(self) -> list[R]:
        """The results, once nobody works any more; an executor may keep what was cancelled for long."""
        results, self.results, self._given, self._function = self.results, [], [], None
        return results

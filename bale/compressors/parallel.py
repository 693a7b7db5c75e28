"""Work on the pieces of one tensor by several threads: by those of the command that have nothing else to do."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from contextvars import ContextVar
from threading import Lock
from typing import TypeVar

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
    given, helpers = list(items), _helpers.get()
    results: list[R | None] = [None] * len(given)
    numbers, lock = iter(range(len(given))), Lock()

    def work() -> None:
        while True:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                results[number] = function(given[number])
            except BaseException:
                with lock:  # nothing more is begun
                    for _ in numbers:
                        pass
                raise

    executor, count = helpers or (None, 0)
    futures = [executor.submit(work) for _ in range(min(count, len(given) - 1))] if executor else []
    try:
        work()
    finally:
        begun = [each for each in futures if not each.cancel()]
        problems = [each.exception() for each in begun]
    for problem in problems:
        if problem is not None:
            raise problem
    return results  # type: ignore[return-value]

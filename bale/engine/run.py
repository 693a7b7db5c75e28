"""Running jobs on an executor: in order, a bounded number at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np

from bale.compressors.kernels import native
from bale.compressors.parallel import helped_by
from bale.compressors.pipeline import Pipeline
from bale.spec import Array

T = TypeVar("T")
Progress = Callable[[str, int], None]  # the name of the item, and how many bytes of it have been done


WHOLE_COST = 6  # times its size: memory of a tensor while it is decomposed, or put together again
_FLOOR, _FLOOR_A_THREAD = 64 << 20, 16 << 20
_KEPT = 16 << 20  # bytes of the longest chunk


@dataclass(frozen=True)
class Job(Generic[T]):
    """A piece of work and the bytes it holds in memory while it waits or runs."""

    run: Callable[[], T]
    cost: int


class Buffers:
    """Byte buffers that are used again: page faults, not coding, dominate where each block gets a new one."""

    def __init__(self) -> None:
        self._free: deque[Array] = deque()

    def lease(self, size: int) -> Array:
        """A uint8 array of `size` bytes with arbitrary content."""
        try:
            buffer = self._free.pop()
        except IndexError:
            buffer = np.empty(0, np.uint8)
        if buffer.size < size:
            buffer = np.empty(size, np.uint8)
        return buffer[:size]

    def release(self, leased: Array) -> None:
        """Give a leased array back; it must not be used afterwards. One of a whole long tensor is not kept."""
        buffer = leased.base if isinstance(leased.base, np.ndarray) else leased
        if buffer.size <= _KEPT:
            self._free.append(buffer)


class Run:
    """The shared state of one command: an executor, the number of jobs that may wait, buffers, progress.

    Parameters
    ----------
    threads : int or None
        Worker threads; None for one a core.
    executor : Executor or None
        Used in place of a thread pool of our own.
    progress : callable or None
        Called with a name and a number of source bytes whenever some have been done; see `expect`.
    """

    def __init__(
        self, threads: int | None = None, executor: Executor | None = None, progress: Progress | None = None
    ) -> None:
        self.threads = threads or _cores()
        self.executor = executor or ThreadPoolExecutor(self.threads, "bale")
        self._own = executor is None
        self.window = 2 * self.threads + 2
        self._checks: deque[tuple[Future[None], int, Callable[[], None]]] = deque()
        self._held = 0
        self.set_memory_budget(0)
        self.buffers = Buffers()
        self.progress: Progress = progress or (lambda name, done: None)

    def expect(self, total: int) -> None:
        """Tell `progress` how many bytes there are in all, if it has a method `expect` that wants to know."""
        getattr(self.progress, "expect", lambda total: None)(total)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own:  # whoever interrupts does not wait until a decomposition ends
            self.executor.shutdown(wait=kind is None or issubclass(kind, Exception), cancel_futures=True)

    def set_memory_budget(self, largest: int) -> None:
        """Set the memory budget to fit the largest job; it is never below a floor."""
        self._budget = max(least_budget(self.threads), largest)

    def raise_memory_budget(self, largest: int) -> None:
        """Raise the memory budget to fit the largest job, where it does not."""
        self._budget = max(self._budget, largest)

    def ordered(self, jobs: Iterable[tuple[T, Job[Any]]]) -> Iterator[tuple[T, Future[Any]]]:
        """Yield each job's key and finished future in the order of `jobs`.

        Jobs whose costs add up to more than the budget are not under way together; one job alone may exceed it.
        """
        pending: deque[tuple[T, Future[Any], int]] = deque()
        try:
            for key, job in jobs:
                while pending and (len(pending) >= self.window or self._is_full(job)):
                    yield self._next(pending)
                while self._checks and self._is_full(job):
                    self._wait_one()
                pending.append((key, self._submit(job), job.cost))
            while pending:
                yield self._next(pending)
        finally:
            for _, future, cost in pending:
                future.cancel()
                self._held -= cost

    def check(self, job: Job[None], then: Callable[[], None] = lambda: None) -> None:
        """Run a job that only checks something; `wait` or a later call raises its exception, or calls `then`."""
        while self._checks and (len(self._checks) >= self.window or self._is_full(job) or self._checks[0][0].done()):
            self._wait_one()
        self._checks.append((self._submit(job), job.cost, then))

    def wait(self) -> None:
        """Wait for all checks."""
        while self._checks:
            self._wait_one()

    def _submit(self, job: Job[T]) -> Future[T]:
        self._held += job.cost
        return self.executor.submit(self._helped, job)

    def _helped(self, job: Job[T]) -> T:
        """Run a job, on whose pieces threads work that have nothing else to do."""
        with helped_by(self.executor, self.threads - 1):
            return job.run()

    def _is_full(self, job: Job[Any]) -> bool:
        return self._held + job.cost > self._budget

    def _next(self, pending: deque[tuple[T, Future[Any], int]]) -> tuple[T, Future[Any]]:
        key, future, cost = pending.popleft()
        future.exception()  # waits
        self._held -= cost
        return key, future

    def _wait_one(self) -> None:
        future, cost, then = self._checks.popleft()
        try:
            future.result()
        finally:
            self._held -= cost
        then()


def least_budget(threads: int) -> int:
    """Bytes that jobs under way together may hold in any case."""
    return _FLOOR + _FLOOR_A_THREAD * threads


def keep_freed_memory() -> None:
    """Have the process keep memory that is freed, where loops are in C: fresh pages cost more than what fills them."""
    keep = native.of("keep_memory")
    if keep is not None:
        keep()


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def one_blas_thread(pipelines: Iterable[Pipeline] = ()) -> Any:
    """Context in which BLAS uses one thread: workers share the cores, and sums have one order at any thread count.

    Parameters
    ----------
    pipelines : iterable of Pipeline
        Those that will encode.
    """
    codecs = {stage for pipeline in pipelines for stage in pipeline.codecs}
    for codec in codecs:
        codec.load()
    if codecs:  # may have loaded another BLAS
        _loaded_libraries.cache_clear()
    return _loaded_libraries().limit(limits=1, user_api="blas")


@cache
def _loaded_libraries() -> Any:
    """The libraries that are loaded: to look through them takes longer than to decode a small tensor."""
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()

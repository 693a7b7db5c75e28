"""Running jobs on an executor: in order, a bounded number at a time."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np

from bale.compressors.pipeline import Pipeline
from bale.spec import Array

T = TypeVar("T")
Progress = Callable[[str, int], None]  # what is at hand, and how many bytes of it have been done


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
        """Give a leased array back; it must not be used afterwards."""
        buffer = leased.base if isinstance(leased.base, np.ndarray) else leased
        self._free.append(buffer)


class Run:
    """What the work of one command shares: an executor, how many jobs may wait, buffers, progress.

    Parameters
    ----------
    threads : int or None
        Worker threads; None for one a core.
    executor : Executor or None
        Used in place of a thread pool of our own.
    progress : callable or None
        Called with a name and a number of source bytes whenever some have been done.
    """

    def __init__(
        self, threads: int | None = None, executor: Executor | None = None, progress: Progress | None = None
    ) -> None:
        self.threads = threads or _cores()
        self.executor = executor or ThreadPoolExecutor(self.threads, "bale")
        self._own = executor is None
        self.window = 2 * self.threads + 2
        self.buffers = Buffers()
        self.progress: Progress = progress or (lambda name, done: None)

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own:  # whoever interrupts does not wait until a decomposition ends
            self.executor.shutdown(wait=kind is None or issubclass(kind, Exception), cancel_futures=True)

    def ordered(self, jobs: Iterable[tuple[T, Job[Any]]], budget: int) -> Iterator[tuple[T, Future[Any]]]:
        """Yield each job's key and finished future in the order of `jobs`.

        Jobs whose costs add up to more than `budget` bytes are not under way together, unless it is one alone.
        """
        pending: deque[tuple[T, Future[Any], int]] = deque()
        held = 0
        try:
            for key, job in jobs:
                while pending and (len(pending) >= self.window or held + job.cost > budget):
                    done, future, cost = pending.popleft()
                    yield done, _settled(future)
                    held -= cost
                pending.append((key, self.executor.submit(job.run), job.cost))
                held += job.cost
            while pending:
                done, future, _ = pending.popleft()
                yield done, _settled(future)
        finally:
            for _, future, _ in pending:
                future.cancel()


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _settled(future: Future[Any]) -> Future[Any]:
    future.exception()
    return future


def one_blas_thread(pipelines: Iterable[Pipeline] = ()) -> Any:
    """Context in which BLAS uses one thread: workers share the cores, and sums have one order at any thread count.

    Parameters
    ----------
    pipelines : iterable of Pipeline
        What is going to be encoded with.
    """
    from threadpoolctl import threadpool_limits

    for codec in {stage for pipeline in pipelines for stage in pipeline.stages}:
        codec.load()
    return threadpool_limits(limits=1, user_api="blas")

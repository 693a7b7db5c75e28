"""Progress of a run: how much has been done, never more than there is, as a bar that fits the terminal."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Show = Callable[[str, int, int], None]  # a name, how many bytes have been done so far, and how many there are
_NARROW, _WIDE = 60, 100  # columns below which a bar leaves out the time, and from which it has bytes and speed


class Counter:
    """Passes on what has been done, up to a total; any thread may call it."""

    def __init__(self, show: Show, total: int) -> None:
        self._show, self._total, self._done, self._lock = show, total, 0, threading.Lock()

    def expect(self, total: int) -> None:
        """Take another total, once what is to be read is known."""
        with self._lock:
            self._total = total

    def __call__(self, name: str, done: int) -> None:
        """Note that `done` bytes have been done, the last of them of this name."""
        with self._lock:
            self._done = min(self._done + done, self._total)
            self._show(name, self._done, self._total)


@contextmanager
def bar(console: Any, what: str, total: int) -> Iterator[Show]:
    """A bar on a terminal, which goes away at the end."""
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn
    from rich.table import Column

    name = TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=1))
    columns: list[Any] = [name, BarColumn(20), TextColumn("{task.percentage:>3.0f} %")]
    if console.width >= _NARROW:
        columns.append(TimeRemainingColumn())
    if console.width >= _WIDE:
        columns += [DownloadColumn(), TransferSpeedColumn()]
    with Progress(*columns, console=console, transient=True, expand=True) as shown:
        task = shown.add_task(escape(what), total=total)
        yield lambda name, done, total: shown.update(task, completed=done, total=total)

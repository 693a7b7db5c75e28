"""A list that grows while a run works: a line for each thing that is finished, so that the next run can go on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from bale.errors import OutputError
from bale.io.storage.files import reason, write_at
from bale.io.storage.leftovers import try_lock


class Journal:
    """A file of JSON lines, newly made and locked; the cost of a line is its length, however many there are."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._at = 0

    def __enter__(self) -> Journal:
        try:
            how = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
            self._descriptor = os.open(self.path, how, 0o600)
        except OSError as problem:
            raise OutputError(f"cannot write {self.path}: {reason(problem)}", "choose another place with -o") from None
        try_lock(self._descriptor)  # so that no other run takes it for a leftover
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)

    def add(self, item: dict[str, Any]) -> None:
        """Append a line."""
        line = (json.dumps(item) + "\n").encode()
        write_at(self._descriptor, line, self._at, str(self.path))
        self._at += len(line)


def read_journal(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a journal up to one that was cut; none where there is no journal."""
    with suppress(FileNotFoundError), open(path, encoding="ascii", errors="replace") as lines:
        for line in lines:
            try:
                item = json.loads(line)
            except (ValueError, RecursionError):
                return
            if isinstance(item, dict) and line.endswith("\n"):
                yield item

"""Reads written units back: by the decoders that will read the archive, before it takes its name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import xxhash

from bale.engine.coding.choose import decode_tasks
from bale.engine.coding.stored import WRONG, DecodeTask, bytes_of
from bale.engine.coding.task import Task
from bale.engine.run import Job, Run
from bale.engine.writing.building import UnitBuilder
from bale.engine.writing.meter import Meter
from bale.errors import OutputError
from bale.io.archive.archive import ArchiveWriter
from bale.io.archive.manifest import Part

_TOGETHER = 1 << 20  # bytes in memory of tasks that are checked by one job
NOT_AS_WRITTEN = "what was read back from the archive is not what was written", "check the disk and the memory"
OURS = "report it: that is a fault of bale, or of the package that a codec comes from"
_AGAIN = "check the memory; if it fails again, report it: that can be a fault of bale, or of a codec's package"


@dataclass(frozen=True)
class WrittenUnit:
    """The stored parts of a unit in a file that becomes an archive."""

    writer: ArchiveWriter
    parts: tuple[Part, ...]
    offsets: tuple[int, ...]

    @classmethod
    def of(cls, writer: ArchiveWriter, unit: UnitBuilder) -> WrittenUnit:
        """A unit whose chunks have all been appended."""
        parts = tuple(part.finished(name) for name, part in unit.parts.items())
        return cls(writer, parts, tuple(part.offset for part in unit.parts.values()))

    def read(self, part: int, chunk: int) -> bytes:
        """Stored bytes of one chunk; `OutputError` when they are not those that were appended."""
        found = self.parts[part].chunks[chunk]
        data = self.writer.read_back(found.size, self.offsets[part] + self.parts[part].starts[chunk])
        if xxhash.xxh3_64_hexdigest(data) != found.digest:
            raise OutputError(*NOT_AS_WRITTEN)
        return data


class ReadBack:
    """Checks units after they have been appended, beside the encoding of the next ones."""

    def __init__(self, writer: ArchiveWriter, run: Run) -> None:
        self._writer, self._run = writer, run
        self._waiting: list[Callable[[], None]] = []
        self._done: list[Callable[[], None]] = []
        self._cost = 0

    def check(self, unit: UnitBuilder, task: Task, meter: Meter) -> None:
        """Have a unit decoded, and compared with the values that were encoded; `meter` counts it when that is done.

        Raises
        ------
        OutputError
            From here or from a later call, when something else came back.
        """
        for decoded, expected in self._tasks(WrittenUnit.of(self._writer, unit), unit, task):
            self._waiting.append(partial(_compare, decoded, expected))
            self._done.append(partial(meter.add, decoded.count * task.spec.info.bits // 16))
            self._cost += decoded.cost
            if self._cost > _TOGETHER:
                self._start()
        self._done.append(meter.finish)

    def finish(self) -> None:
        """Wait until everything is checked."""
        self._start()
        self._run.wait()
        _call_all(self._done)

    def _tasks(self, written: WrittenUnit, unit: UnitBuilder, task: Task) -> Iterator[tuple[DecodeTask, int]]:
        layers = [(task, unit.final), (task.first, unit.first)] if unit.first.blocks else [(task, unit.final)]
        for layer, values in layers:
            try:
                yield from zip(decode_tasks(layer, written), values.blocks, strict=True)
            except WRONG:
                raise OutputError(NOT_AS_WRITTEN[0], _AGAIN) from None

    def _start(self) -> None:
        if self._waiting:
            self._writer.flush()
            self._run.check(Job(partial(_call_all, self._waiting), self._cost), partial(_call_all, self._done))
            self._waiting, self._done, self._cost = [], [], 0


def _compare(task: DecodeTask, expected: int) -> None:
    try:
        same = xxhash.xxh3_64_intdigest(bytes_of(task).data) == expected
    except WRONG:
        same = False
    if not same:  # its bytes are those that were stored, or reading them had failed
        raise OutputError(NOT_AS_WRITTEN[0], _AGAIN)


def _call_all(calls: Sequence[Callable[[], None]]) -> None:
    for call in calls:
        call()

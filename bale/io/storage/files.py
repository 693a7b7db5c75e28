"""Positioned reading and writing that is either complete or an error."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bale.errors import BaleError, OutOfRoom, OutputError, SourceError
from bale.io.storage.bytes import ByteSource, Version
from bale.spec import Array


@dataclass(frozen=True)
class LocalFile(ByteSource):
    """An open regular file of this machine."""

    descriptor: int
    path: Path
    error: type[BaleError]

    @property
    def name(self) -> str:  # type: ignore[override]
        """Its path."""
        return str(self.path)

    @property
    def version(self) -> Version:
        """Size and time of its last change."""
        stat = os.fstat(self.descriptor)
        return stat.st_size, stat.st_mtime_ns

    @property
    def attributes(self) -> os.stat_result:
        """Permissions and times."""
        return os.fstat(self.descriptor)

    @property
    def local_path(self) -> Path:
        """Its path."""
        return self.path

    def read_into(self, buffer: memoryview | Array, offset: int) -> None:
        """Fill a contiguous buffer from `offset`."""
        read_into(self.descriptor, buffer, offset, self.error, self.name)

    def raising(self, error: type[BaleError]) -> LocalFile:
        """The same file, of which another error is raised."""
        return replace(self, error=error)


@contextmanager
def reading(path: Path, error: type[BaleError] = SourceError) -> Iterator[LocalFile]:
    """A regular file; a failure to open or read it becomes `error`.

    That is a `SourceError` for whatever is given by its path, archives too: a file that is missing or not permitted is
    one cause, and has one exit code.
    """
    descriptor = _opened(path, error)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise error(f"{path} is not a regular file", "name a file")
        yield LocalFile(descriptor, path, error)
    finally:
        os.close(descriptor)


def check_readable(path: Path) -> None:
    """Raise `SourceError` for a path that cannot be opened, or is neither a file nor a folder."""
    if os.path.isdir(path):
        os.close(_opened(path, SourceError))
    else:
        with reading(path):
            pass


def _opened(path: Path, error: type[BaleError]) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as problem:
        full = problem.errno in (errno.EMFILE, errno.ENFILE)
        hint = "raise the limit (ulimit -n)" if full else "check the path and its permissions"
        raise error(f"cannot read {path}: {reason(problem)}", hint) from None


def read_into(descriptor: int, buffer: memoryview | Array, offset: int, error: type[BaleError], what: str) -> None:
    """Fill a contiguous buffer from `offset`; a file that ends before is an `error` about `what`."""
    view = flat(buffer)
    while view.nbytes:
        try:
            got = os.preadv(descriptor, [view], offset)
        except OSError as problem:
            raise error(f"cannot read {what}: {reason(problem)}") from None
        if not got:
            raise error(
                f"{what} ends at byte {offset}, {view.nbytes} bytes early", "it may have been cut or is being written"
            )
        view, offset = view[got:], offset + got


def read_text(path: Path, limit: int, error: type[BaleError]) -> bytes:
    """All of a file that describes others; `error`, before it is read, where it is longer than any of that name is."""
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        data = file.read(limit + 1) if size <= limit else b""
    if max(size, len(data)) > limit:
        raise error(f"{path} has more than {limit} bytes, which no file of that name has", "fetch it again")
    return data


def write_at(descriptor: int, data: bytes | bytearray | memoryview | Array, offset: int, what: str) -> None:
    """Write all of `data` at `offset`, or raise `OutputError` about `what`."""
    view = flat(data)
    while view.nbytes:
        try:
            put = os.pwrite(descriptor, view, offset)
        except OSError as problem:
            message, needed = f"cannot write {what}: {reason(problem)} at byte {offset}", offset + view.nbytes
            if _is_full(problem):
                raise OutOfRoom(message, needed) from None
            raise OutputError(message, room_hint(problem, needed)) from None
        view, offset = view[put:], offset + put


def cut_at(descriptor: int, size: int, what: str) -> None:
    """Give a file its size, or raise `OutputError` about `what`."""
    try:
        os.ftruncate(descriptor, size)
    except OSError as problem:
        raise OutputError(f"cannot write {what}: {reason(problem)} at byte {size}", room_hint(problem, size)) from None


def flat(data: bytes | bytearray | memoryview | Array) -> memoryview:
    """The bytes of a buffer, or of a contiguous array."""
    view: memoryview = data.reshape(-1).view("u1").data if isinstance(data, np.ndarray) else memoryview(data)
    return view.cast("B") if view.nbytes else memoryview(b"")  # a view with a zero in its shape cannot be cast


def room_hint(problem: OSError, needed: int) -> str:
    """A hint on a failed write of a file that reaches at least `needed` bytes."""
    if _is_full(problem):
        return OutOfRoom("", needed).hint
    return "check the disk, or choose another place with -o"


def _is_full(problem: OSError) -> bool:
    return problem.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def reason(problem: OSError) -> str:
    """The system's words for an error, beginning in lower case."""
    text = problem.strerror or str(problem)
    return text[:1].lower() + text[1:]

"""Reading and writing at offsets: all of it, or an error that says what."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pytest

from bale.errors import ArchiveError, OutputError, SourceError
from bale.io.storage import files


def test_reading(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(bytes(range(100)))
    with files.reading(path, SourceError) as source:
        with pytest.raises(ArchiveError, match="f ends at byte 100, 1 bytes early"):
            source.raising(ArchiveError).read(11, 90)
        assert source.local_path == path
        assert source.attributes.st_size == source.size == 100
        before = source.version
        os.utime(path, (1, 1))
        assert source.version != before


def test_short_reads_and_writes_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "f"
    honest_read, honest_write = os.preadv, os.pwrite
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: honest_read(fd, [views[0][:3]], at))
    monkeypatch.setattr(os, "pwrite", lambda fd, view, at: honest_write(fd, view[:3], at))
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    files.write_at(descriptor, np.arange(10, dtype="<u2"), 2, "f")
    assert files.LocalFile(descriptor, path, SourceError).read(20, 2) == np.arange(10, dtype="<u2").tobytes()
    os.close(descriptor)


def test_missing_files_are_the_error_asked_for(tmp_path: Path) -> None:
    for error in (SourceError, ArchiveError):
        with pytest.raises(error, match="no such file"), files.reading(tmp_path / "none", error):
            pass


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
def test_too_many_open_files_are_no_matter_of_the_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def fail(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(SourceError, match="too many open files") as caught, files.reading(tmp_path / "f", SourceError):
        pass
    assert caught.value.hint == "raise the limit (ulimit -n)"


@pytest.mark.parametrize(
    ("number", "hint"),
    [
        (errno.ENOSPC, "it needs at least 1100 bytes"),
        (errno.EFBIG, "it needs at least 1100 bytes"),
        (errno.EIO, "check the disk"),
    ],
)
def test_failed_writes(monkeypatch: pytest.MonkeyPatch, number: int, hint: str) -> None:
    def fail(*arguments: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "pwrite", fail)
    with pytest.raises(OutputError) as caught:
        files.write_at(0, b"x" * 100, 1000, "out")
    assert hint in caught.value.hint
    assert "out" in caught.value.message


def test_failed_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> int:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "preadv", fail)
    with pytest.raises(SourceError, match="cannot read f: input/output error"):
        files.read_into(0, bytearray(1), 0, SourceError, "f")


@pytest.mark.parametrize("data", [b"", b"abc", bytearray(3), np.zeros((0, 4)), np.zeros((2, 2), "<f4")])
def test_sizes(data: bytes | np.ndarray) -> None:
    assert files.flat(data).nbytes == (data.nbytes if isinstance(data, np.ndarray) else len(data))

"""Renames in one step, and what is done where there is none."""

from __future__ import annotations

import ctypes
import errno
import sys
from pathlib import Path

import pytest

from bale.io.storage.rename import exchange, rename_new

linux = pytest.mark.skipif(sys.platform != "linux", reason="the call has another name elsewhere")


class Unable:
    """A C library whose call fails, or that has none."""

    def __init__(self, number: int | None) -> None:
        if number is not None:
            self.renameat2 = self.renamex_np = lambda *arguments: ctypes.set_errno(number) or -1


def test_two_names_change_places(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "ü"
    one.mkdir()
    other.write_text("file")
    assert exchange(one, other)
    assert one.read_text() == "file"
    assert other.is_dir()
    with pytest.raises(FileNotFoundError):
        exchange(one, tmp_path / "none")


def test_a_name_that_is_taken(tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir()
    other.mkdir()  # an empty folder would be replaced by any other rename
    with pytest.raises(FileExistsError):
        rename_new(one, other)
    other.rmdir()
    rename_new(one, other)
    assert other.is_dir()
    assert not one.exists()


@linux
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, None])
def test_a_system_without_the_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int | None) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *arguments, **more: Unable(number))
    one, other = tmp_path / "one", tmp_path / "other"
    one.write_text("1")
    other.write_text("2")
    assert not exchange(one, other)
    assert (one.read_text(), other.read_text()) == ("1", "2")
    with pytest.raises(FileExistsError):
        rename_new(one, other)
    other.unlink()
    rename_new(one, other)
    assert other.read_text() == "1"


@linux
def test_what_the_disk_refuses_is_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda *arguments, **more: Unable(errno.EIO))
    with pytest.raises(OSError, match="Input/output"):
        exchange(tmp_path, tmp_path)

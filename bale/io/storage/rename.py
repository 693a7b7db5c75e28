"""Renames that `os.rename` has not: two names exchanged in one step, and a name taken only if it is free."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from pathlib import Path

_HERE = -100  # AT_FDCWD: paths are as they are
_LINUX = {"new": 1, "exchange": 2}  # RENAME_NOREPLACE, RENAME_EXCHANGE
_MACOS = {"new": 4, "exchange": 2}  # RENAME_EXCL, RENAME_SWAP
_UNABLE = (errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EPERM)  # system or file system


def exchange(one: Path, other: Path) -> bool:
    """Let two names that exist change places in one step; False, with nothing done, where there is no such step."""
    return _rename(one, other, "exchange")


def rename_new(old: Path, new: Path) -> None:
    """Rename a file or folder in one step; raise `FileExistsError` when the new name is taken."""
    if not _rename(old, new, "new"):
        if os.path.lexists(new):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(new))
        os.rename(old, new)


def _rename(old: Path, new: Path, how: str) -> bool:
    library = ctypes.CDLL(None, use_errno=True)
    names = os.fsencode(old), os.fsencode(new)
    try:
        if sys.platform == "darwin":
            failed = library.renamex_np(*names, ctypes.c_uint(_MACOS[how]))
        else:
            failed = library.renameat2(_HERE, names[0], _HERE, names[1], ctypes.c_uint(_LINUX[how]))
    except AttributeError:  # a C library that is older than the call
        return False
    if not failed:
        return True
    number = ctypes.get_errno()
    if number in _UNABLE:
        return False
    raise OSError(number, os.strerror(number), str(new))

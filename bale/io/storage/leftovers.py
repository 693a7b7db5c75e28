"""Temporary files and folders: their names, their locks, and the removal of those that a killed run has left."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from bale.errors import OutputError

PREFIX = ".bale-tmp-"
OLD, TREE, BEGUN = "old", "tree", "begun.json"  # in a temporary folder
_NAME = re.compile(re.escape(PREFIX) + r"[0-9a-f]{16}")


def is_temporary(name: str) -> bool:
    """Whether a file or folder of this name is one of bale's; any other name is the user's."""
    return _NAME.fullmatch(name) is not None


def temporary_name(purpose: str | None = None) -> str:
    """A name for a temporary file: the same for the same purpose, or one that nobody has."""
    digest = secrets.token_hex(8) if purpose is None else hashlib.sha256(os.fsencode(purpose)).hexdigest()[:16]
    return PREFIX + digest


def is_at(descriptor: int, path: Path) -> bool:
    """Whether a path still leads to the open file or folder."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def try_lock(descriptor: int) -> bool:
    """Lock an open file or folder; False when another process has it. Without locks on the file system: True."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as problem:
        return problem.errno not in (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)
    return True


def lock_folder(path: Path, named: Path) -> int:
    """Descriptor of a folder, locked as long as it is open; `OutputError` about `named` when another run has the lock.

    Raises `FileNotFoundError` when the folder is gone.
    """
    while True:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        if not try_lock(descriptor):
            os.close(descriptor)
            raise busy(named)
        if is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def busy(path: Path) -> OutputError:
    """The error of a second run."""
    return OutputError(f"cannot write {path}: another run is writing it", "wait for it, or choose another name with -o")


def make_temporary(folder: Path, mode: int) -> tuple[int, Path]:
    """A new file, locked. Until it is locked another run may take it for a leftover; then the next one is made."""
    while True:
        path = folder / temporary_name()
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with suppress(OSError):  # file systems without locks: leftovers are then removed by hand
                fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits for who looks at it just now
            if is_at(descriptor, path):
                return descriptor, path
        except KeyboardInterrupt:
            path.unlink(missing_ok=True)
            raise
        os.close(descriptor)


@contextmanager
def alone(folder: Path, purpose: str) -> Iterator[None]:
    """Wait until no other run does what `purpose` says in a folder, and keep others waiting meanwhile."""
    path = folder / temporary_name(purpose)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if is_at(descriptor, path):
            break
        os.close(descriptor)
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(path)
        os.close(descriptor)


def remove_leftovers(folder: Path) -> None:
    """Remove the leftovers of killed runs in a folder: temporary files and folders whose lock is free."""
    with suppress(OSError), os.scandir(folder) as found:
        for path in [Path(item.path) for item in found if is_temporary(item.name)]:
            with suppress(OSError):
                _remove(path)


def _remove(path: Path) -> None:
    is_folder = not path.is_symlink() and path.is_dir()
    how = os.O_RDONLY | os.O_DIRECTORY if is_folder else os.O_RDWR | os.O_NONBLOCK
    descriptor = os.open(path, how | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if not is_at(descriptor, path):
            return
        if not is_folder:
            os.unlink(path)
        elif put_back(path):
            shutil.rmtree(path)
    finally:
        os.close(descriptor)


def begun(temporary: Path) -> dict[str, Any]:
    """The record that a temporary folder holds of itself; nothing if there is none."""
    with suppress(OSError, ValueError, RecursionError):
        data = json.loads((temporary / BEGUN).read_bytes())
        if isinstance(data, dict):
            return data
    return {}


def put_back(temporary: Path) -> bool:
    """Give a folder that a killed run had renamed away its name again; False while what is there is the only copy."""
    old, name = temporary / OLD, begun(temporary).get("name")
    if not os.path.lexists(old) or not os.path.lexists(temporary / TREE):
        return True  # it was replaced, and is no longer wanted
    target = temporary.parent / str(name)
    if not isinstance(name, str) or os.path.basename(name) != name or os.path.lexists(target):
        return False
    os.rename(old, target)
    return True

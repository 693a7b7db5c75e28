"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from types import TracebackType

from bale.errors import OutputError
from bale.io.files import reason, room_hint, write_at

PREFIX = ".bale-tmp-"


def check_target(path: Path, force: bool, inputs: tuple[Path, ...] = ()) -> None:
    """Raise `OutputError` when `path` must not become a file: before any work is done.

    Nothing that exists is overwritten without `force`; an input never is, nor anything but a regular file.
    """
    parent = path.parent
    if not os.path.isdir(parent):
        raise OutputError(f"cannot write {path}: there is no folder {parent}", "make the folder first")
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"cannot write {path}: the folder {parent} is read-only", "choose another place with -o")
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    except OSError as problem:
        raise OutputError(f"cannot write {path}: {reason(problem)}", "choose another name with -o") from None
    for source in inputs:
        if os.path.exists(source) and os.path.exists(path) and os.path.samefile(source, path):
            raise OutputError(f"cannot write {path}: it is the input", "choose another name with -o")
    if stat.S_ISDIR(found.st_mode):
        raise OutputError(f"cannot write {path}: it is a folder", "name a file with -o")
    if stat.S_ISLNK(found.st_mode):
        raise OutputError(f"cannot write {path}: it is a symbolic link", "name the file itself with -o")
    if not stat.S_ISREG(found.st_mode):
        raise OutputError(f"cannot write {path}: it is not a regular file", "choose another name with -o")
    if not force:
        raise _taken(path)


def _taken(path: Path) -> OutputError:
    return OutputError(f"{path} exists already", "use -f to overwrite it, or choose another name with -o")


class Target:
    """A file being written beside its final name; it takes the name only in `commit`.

    Used as a context manager: without a commit the temporary file is removed. The temporary file is locked, so that
    a later run can tell one that was left behind by a killed process from one that is in use.

    Parameters
    ----------
    path : Path
        The final name.
    like : os.stat_result or None
        Whose permission bits and modification time the file takes; None for those of any new file.
    inputs : tuple of Path
        Files that must not be replaced.
    """

    def __init__(
        self, path: Path, like: os.stat_result | None, force: bool = False, inputs: tuple[Path, ...] = ()
    ) -> None:
        check_target(path, force, inputs)
        self.path = path
        self._like = like
        self._force = force
        self._inputs = inputs
        self.descriptor = -1

    def __enter__(self) -> Target:
        _remove_leftovers(self.path.parent)
        try:  # not before: whoever interrupts between making a file and `with` would leave it behind
            self.descriptor, self._temporary = _make_temporary(self.path.parent, 0o666 if self._like is None else 0o600)
        except OSError as problem:
            raise OutputError(f"cannot write {self.path}: {reason(problem)}", "choose another place with -o") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.descriptor >= 0:
            with suppress(OSError):
                os.unlink(self._temporary)
            os.close(self.descriptor)
            self.descriptor = -1

    def reserve(self, size: int) -> None:
        """Take the room for a file of known size at once, so that a full disk is found before any work."""
        if not size:
            return
        try:
            os.posix_fallocate(self.descriptor, 0, size)
        except (AttributeError, OSError) as problem:
            if isinstance(problem, OSError) and (hint := room_hint(problem, size)).startswith("it needs"):
                raise OutputError(f"cannot write {self.path}: {reason(problem)}", hint) from None

    def commit(self) -> None:
        """Bring the file to the disk and give it its name."""
        check_target(self.path, self._force, self._inputs)
        try:
            if self._like is not None:
                os.fchmod(self.descriptor, self._like.st_mode & 0o777)  # never set-user-ID and the like
                os.utime(self.descriptor, ns=(self._like.st_mtime_ns, self._like.st_mtime_ns))
            os.fsync(self.descriptor)
            if self._force or not self._linked():
                os.replace(self._temporary, self.path)
            _sync_folder(self.path.parent)
        except OSError as problem:
            raise OutputError(f"cannot write {self.path}: {reason(problem)}", room_hint(problem, 0)) from None
        os.close(self.descriptor)
        self.descriptor = -1

    def _linked(self) -> bool:
        """Give the file its name unless that is taken, in one step; False where the file system has no such step."""
        try:
            os.link(self._temporary, self.path)
        except FileExistsError:
            raise _taken(self.path) from None
        except OSError:
            check_target(self.path, False, self._inputs)
            return False
        with suppress(OSError):
            os.unlink(self._temporary)
        return True


def write_file(path: Path, data: bytes, force: bool = False) -> None:
    """Write a small file whole or not at all."""
    with Target(path, None, force) as target:
        write_at(target.descriptor, data, 0, str(path))
        target.commit()


def _make_temporary(folder: Path, mode: int) -> tuple[int, Path]:
    """A new file, locked. Until it is locked another run may take it for a leftover; then the next one is made."""
    while True:
        path = folder / f"{PREFIX}{secrets.token_hex(8)}"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            with suppress(OSError):  # file systems without locks: leftovers are then removed by hand
                fcntl.flock(descriptor, fcntl.LOCK_EX)  # waits for who looks at it just now
            if _is_at(descriptor, path):
                return descriptor, path
        except KeyboardInterrupt:
            path.unlink(missing_ok=True)
            raise
        os.close(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary files of killed runs: those whose lock is free."""
    for leftover in folder.glob(f"{PREFIX}*"):
        with suppress(OSError):
            descriptor = os.open(leftover, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(descriptor, leftover):
                    os.unlink(leftover)
            finally:
                os.close(descriptor)

"""Writing a file so that it is there whole or not at all."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType

from bale.errors import BaleError, OutputError
from bale.io.storage.bytes import ByteSink, Version
from bale.io.storage.files import LocalFile, cut_at, read_into, reason, room_hint, write_at
from bale.io.storage.leftovers import alone, is_at, make_temporary, remove_leftovers
from bale.io.storage.rename import exchange
from bale.spec import Array


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


_PLENTY = 2
"""Times the size of a file: with so much room none is reserved."""


class Target(ByteSink):
    """A file being written beside its final name; it takes the name only in `commit`.

    Used as a context manager: without a commit the temporary file is removed. The temporary file is locked, so that
    a later run can distinguish one left behind by a killed process from one in use.

    Parameters
    ----------
    path : Path
        The final name.
    like : os.stat_result or None
        Whose permission bits and modification time the file takes; None for those of any new file.
    inputs : tuple of Path
        Files that must not be replaced.
    one_of_many : bool
        Whether the caller looks for leftovers in the folder and brings it to the disk, once for all its files.
    """

    def __init__(
        self,
        path: Path,
        like: os.stat_result | None,
        force: bool = False,
        inputs: tuple[Path, ...] = (),
        one_of_many: bool = False,
    ) -> None:
        check_target(path, force, inputs)
        self.path, self.name, self.error = path, str(path), OutputError
        self._like = like
        self._force = force
        self._inputs = inputs
        self._one_of_many = one_of_many
        self._replaces = False
        self.descriptor = -1

    def __enter__(self) -> Target:
        if not self._one_of_many:
            remove_leftovers(self.path.parent)
        try:  # not before: whoever interrupts between making a file and `with` would leave it behind
            self.descriptor, self._temporary = make_temporary(self.path.parent, 0o666 if self._like is None else 0o600)
        except OSError as problem:
            raise OutputError(f"cannot write {self.path}: {reason(problem)}", "choose another place with -o") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.descriptor >= 0:
            self._close()

    @property
    def version(self) -> Version:
        """Size and time of the temporary file."""
        found = os.fstat(self.descriptor)
        return found.st_size, found.st_mtime_ns

    def read_into(self, buffer: memoryview | Array, offset: int) -> None:
        """Fill a contiguous buffer with bytes that were written."""
        read_into(self.descriptor, buffer, offset, self.error, self.name)

    def raising(self, error: type[BaleError]) -> LocalFile:
        """The file as it can be read while it is written, of which another error is raised."""
        return LocalFile(self.descriptor, self.path, error)

    def write(self, data: bytes | bytearray | memoryview | Array, offset: int) -> None:
        """Write all of `data` at `offset`."""
        write_at(self.descriptor, data, offset, self.name)

    def reserve(self, size: int) -> None:
        """Take the room for a file of known size, unless there is plenty: a full disk is found before any work."""
        if not size or self._has_plenty(size):
            return
        try:
            os.posix_fallocate(self.descriptor, 0, size)
        except (AttributeError, OSError) as problem:
            if isinstance(problem, OSError) and (hint := room_hint(problem, size)).startswith("it needs"):
                raise OutputError(f"cannot write {self.path}: {reason(problem)}", hint) from None

    def _has_plenty(self, size: int) -> bool:
        """Whether there is so much room that none needs to be taken: file systems in memory fill it with zeros then."""
        try:
            found = os.fstatvfs(self.descriptor)
        except (AttributeError, OSError):
            return False
        return found.f_bavail * found.f_frsize > _PLENTY * size

    def cut(self, size: int) -> None:
        """Make the file end at this size."""
        cut_at(self.descriptor, size, self.name)

    def commit(self) -> None:
        """Bring the file to the disk and give it its name."""
        commit_together(self)

    def _prepare(self) -> None:
        """Bring the file to the disk, so that all that is left to do is the name."""
        check_target(self.path, self._force, self._inputs)
        self._replaces = self._force and os.path.lexists(self.path)
        with self._as_output_error():
            if self._like is not None:
                os.fchmod(self.descriptor, self._like.st_mode & 0o777)  # never set-user-ID and the like
                os.utime(self.descriptor, ns=(self._like.st_mtime_ns, self._like.st_mtime_ns))
            os.fsync(self.descriptor)

    def _publish(self) -> None:
        """Give the file its name, in one step; a file that it replaces gets the temporary name, where that can be."""
        with self._as_output_error():
            if not self._replaces:
                try:
                    os.link(self._temporary, self.path)
                    return
                except FileExistsError:
                    if not self._force:
                        raise _taken(self.path) from None
                    self._replaces = True
                except OSError:  # a file system without hard links
                    check_target(self.path, self._force, self._inputs)
            if not self._replaces or not exchange(self._temporary, self.path):
                os.replace(self._temporary, self.path)

    def _sync(self) -> None:
        """Bring the name to the disk."""
        if not self._one_of_many:
            with self._as_output_error():
                sync_folder(self.path.parent)

    def _retract(self) -> bool:
        """Undo `_publish`, wherever it was left; False when the file must stay, as the one that it replaced is gone."""
        with suppress(OSError):
            if not is_at(self.descriptor, self.path):
                return True
            if not self._replaces:
                os.unlink(self.path)
                return True
            return os.path.lexists(self._temporary) and exchange(self._temporary, self.path)
        return False

    def _close(self) -> None:
        with suppress(OSError):
            os.unlink(self._temporary)
        os.close(self.descriptor)
        self.descriptor = -1

    @contextmanager
    def _as_output_error(self) -> Iterator[None]:
        """An `OSError` becomes an `OutputError`, with the size of the file where room is lacking."""
        try:
            yield
        except OSError as problem:
            size = os.fstat(self.descriptor).st_size
            raise OutputError(f"cannot write {self.path}: {reason(problem)}", room_hint(problem, size)) from None


def commit_together(*targets: Target) -> None:
    """Bring files to the disk, then give them their names back to back; on an error none of them.

    There is no step that does it for two files, so a run that is killed between two names leaves the first alone.
    """
    with ExitStack() as stack:
        if len(targets) > 1:  # two runs that overwrite the same files must not mix theirs
            last = targets[-1].path
            try:
                stack.enter_context(alone(last.parent, f"commit {last.name}"))
            except OSError as problem:
                hint = room_hint(problem, sum(os.fstat(target.descriptor).st_size for target in targets))
                raise OutputError(f"cannot write {last}: {reason(problem)}", hint) from None
        for target in targets:
            target._prepare()
        try:
            for target in targets:
                target._publish()
            for target in {target.path.parent: target for target in targets}.values():
                target._sync()
        except BaseException as problem:
            stay = [str(target.path) for target in reversed(targets) if not target._retract()]
            if stay and isinstance(problem, OutputError):
                message = (
                    f"{problem.message}; the new {', '.join(stay)} is in place, and may be lost if the power fails"
                )
                raise OutputError(message, problem.hint) from None
            raise
        for target in targets:
            target._close()


@contextmanager
def staged(path: Path, data: bytes, force: bool = False, one_of_many: bool = False) -> Iterator[Target]:
    """A small file that is written and has not taken its name yet."""
    with Target(path, None, force, one_of_many=one_of_many) as target:
        target.write(data, 0)
        yield target


def write_file(path: Path, data: bytes, force: bool = False) -> None:
    """Write a small file whole or not at all."""
    with staged(path, data, force) as target:
        target.commit()


def sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)

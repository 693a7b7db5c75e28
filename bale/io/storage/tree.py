"""Writing a folder so that it is there whole or not at all, and going on where a killed run has stopped."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from bale.errors import OutputError
from bale.io.storage import placing
from bale.io.storage.commit import sync_folder, write_file
from bale.io.storage.files import reason, room_hint
from bale.io.storage.journal import Journal, read_journal
from bale.io.storage.leftovers import (
    BEGUN,
    OLD,
    TREE,
    begun,
    is_temporary,
    lock_folder,
    put_back,
    remove_leftovers,
    temporary_name,
)

_FINISHED = "finished.jsonl"


class Occupied(OutputError):
    """A folder that is there holds something, and may not be overwritten."""


class TreeTarget:
    """A folder that is built within a temporary one, and takes its place by one rename, in `commit`.

    Used as a context manager: without a commit the temporary folder is removed. Files that a killed run has left of the
    same work are taken over. Other files of a folder that is replaced stay in it.

    Where a folder cannot be renamed over, the temporary one lies within it until the last file is at its place.

    Parameters
    ----------
    out : Path
        The final name.
    work : mapping
        JSON that is equal for runs that make the same files.
    names : sequence of str
        The files that will be made, as plain relative paths.
    size : int
        Bytes of all of them.
    is_sound : callable
        Whether a file is there with this size and SHA-256.
    folders : sequence of str
        Folders that are made too, and hold none of the files.

    Attributes
    ----------
    finished : dict
        Size and SHA-256 of the files that need not be made again.
    """

    def __init__(
        self,
        out: Path,
        work: Mapping[str, Any],
        names: Sequence[str],
        size: int,
        is_sound: Callable[[Path, int, str], bool],
        force: bool = False,
        folders: Sequence[str] = (),
    ) -> None:
        if os.path.islink(out):
            raise OutputError(f"cannot write {out}: it is a symbolic link", "name the folder itself with -o")
        if os.path.lexists(out) and not os.path.isdir(out):
            raise OutputError(f"{out} exists and is no folder", "choose another name with -o")
        self._out = out if out.name not in ("", "..") else Path(os.path.realpath(out))
        self._names, self._size, self._is_sound, self._force = names, size, is_sound, force
        self._was_there = os.path.isdir(out)
        name = temporary_name(f"tree {self._out.name}")
        self._inside = self._was_there and (
            not placing.can_be_renamed(self._out) or os.path.lexists(self._out / name / BEGUN)
        )
        self._temporary = (self._out if self._inside else self._out.parent) / name
        self._tree = self._temporary / TREE
        self._folders, self._empty = {self._tree}, folders
        self._record = {**work, "name": self._out.name, "inside": self._inside}
        if not (self._inside and self._is_mine()):
            with self._as_output_error():
                self._check_free()
        self._held = ExitStack()
        self._made: list[Path] = []
        self._removable = False
        self.finished: dict[str, tuple[int, str]] = {}

    def __enter__(self) -> TreeTarget:
        try:
            with self._as_output_error():
                self._begin()
        except BaseException:
            self._end(failed=True)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end(failed=kind is not None)

    def place(self, name: str) -> Path:
        """The path where a file is to be written; its folder exists."""
        path = self._tree / name
        if path.parent not in self._folders:
            with self._as_output_error():
                path.parent.mkdir(parents=True, exist_ok=True)
            self._folders.add(path.parent)
        return path

    def add(self, name: str, size: int, sha256: str) -> None:
        """Note that a file has been written, so that it need not be again after a kill."""
        self._journal.add({"name": name, "bytes": size, "sha256": sha256})
        self.finished[name] = size, sha256

    def commit(self) -> None:
        """Bring the files to their places."""
        with self._as_output_error():
            if self._inside:
                self._check_free()
                self._move_in()
            elif self._force and self._was_there and os.path.isdir(self._out) and not placing.is_empty(self._out):
                self._replace()
            else:
                self._appear()

    def _begin(self) -> None:
        if self._was_there:
            self._held.callback(os.close, lock_folder(self._out, self._out))
        else:
            self._made = [each for each in self._out.parents if not os.path.lexists(each)]
            self._out.parent.mkdir(parents=True, exist_ok=True)
        self._claim()
        if not self._was_there and os.path.isdir(self._out):  # it has been put back just now
            self._was_there = True
            self._held.callback(os.close, lock_folder(self._out, self._out))
        if self._is_mine():
            self._take_over()
        else:
            for path in list(self._temporary.iterdir()):
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            self._tree.mkdir()
            self._begun()
        self._check_free()  # now that no other run writes it
        placing.check_places(self._out, self._names, self._empty)
        placing.make_folders(self._tree, self._empty)
        self._journal = self._held.enter_context(Journal(self._temporary / _FINISHED))
        for name, (size, sha256) in self.finished.items():
            self._journal.add({"name": name, "bytes": size, "sha256": sha256})
        for place in {self._temporary.parent, self._out.parent}:
            remove_leftovers(place)

    def _check_free(self) -> None:
        if not self._force and os.path.isdir(self._out) and not placing.is_empty(self._out):
            raise self._taken()

    def _taken(self) -> Occupied:
        hint = "use -f to overwrite what is in it, or choose another name with -o"
        return Occupied(f"{self._out} exists already", hint)

    def _claim(self) -> None:
        """Make the temporary folder, or take the one that is there; only one run at a time can have it."""
        while True:
            with suppress(FileExistsError):
                self._temporary.mkdir(mode=0o700)
            with suppress(FileNotFoundError):  # another run has just removed it: once more
                self._held.callback(os.close, lock_folder(self._temporary, self._out))
                break
        if not put_back(self._temporary):
            hint = f"move {self._temporary / OLD} to where it belongs"
            raise OutputError(f"cannot write {self._out}: an interrupted run has left what it replaced", hint)
        self._removable = True

    def _is_mine(self) -> bool:
        """Whether the temporary folder is there and is of the same work."""
        return begun(self._temporary) == self._record and self._tree.is_dir() and not self._tree.is_symlink()

    def _take_over(self) -> None:
        """Keep the files that a killed run has finished, and nothing else that it has left."""
        wanted = set(self._names)
        for item in read_journal(self._temporary / _FINISHED):
            name, size, sha256 = item.get("name"), item.get("bytes"), item.get("sha256")
            if name not in wanted or not isinstance(size, int) or not isinstance(sha256, str):
                continue
            moved = self._inside and not os.path.lexists(self._tree / name)
            if self._is_sound((self._out if moved else self._tree) / name, size, sha256):
                if moved:
                    os.rename(self._out / name, self.place(name))
                self.finished[name] = size, sha256
        for folder in reversed(list(placing.folders_below(self._tree))):
            for path in list(folder.iterdir()):
                is_folder = path.is_dir() and not path.is_symlink()
                if not is_folder and path.relative_to(self._tree).as_posix() not in self.finished:
                    path.unlink()
            if folder != self._tree:
                with suppress(OSError):  # one that is not empty
                    folder.rmdir()
        self._folders = {self._tree}
        made = {inner for name in self._names for inner in Path(name).parents[:-1]} if self._inside else ()
        for inner in sorted(made, key=lambda path: -len(path.parts)):
            with suppress(OSError):
                (self._out / inner).rmdir()

    def _sync(self) -> None:
        for folder in placing.folders_below(self._tree):
            remove_leftovers(folder)  # a temporary name that could not be removed at once
            sync_folder(folder)

    def _appear(self) -> None:
        if self._was_there:
            remove_leftovers(self._out)
        self._sync()
        try:
            placing.appear(self._tree, self._out, self._was_there)
        except OSError as problem:
            if problem.errno in (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR):
                raise self._taken() from None
            raise

    def _replace(self) -> None:
        names = set(self._names)
        remove_leftovers(self._out)
        placing.keep_others(self._out, self._tree, names)
        self._sync()
        try:
            old = self._tree
            if not placing.swap(self._tree, self._out):
                old = self._temporary / OLD
                placing.replace(self._tree, self._out, old)
        except OSError as problem:
            if problem.errno not in (errno.EXDEV, errno.EBUSY):
                raise
            self._go_inside()  # a folder of a lower layer, or a mount point that the system does not list
            self._move_in()
            return
        placing.keep_others(old, self._out, names)  # what has come into it meanwhile

    def _move_in(self) -> None:
        self._sync()
        self._removable = False  # until the last is moved the temporary folder says that some are missing
        placing.make_folders(self._out, self._empty)
        placing.move_in(self._tree, self._out, self._names)
        os.unlink(self._temporary / BEGUN)  # now it is whole
        self._removable = True

    def _go_inside(self) -> None:
        """Move the temporary folder into the one that cannot be renamed."""
        self._record["inside"] = True
        self._begun()
        inside = self._out / self._temporary.name
        os.rename(self._temporary, inside)
        self._temporary, self._tree = inside, inside / TREE

    def _begun(self) -> None:
        write_file(self._temporary / BEGUN, json.dumps(self._record).encode(), force=True)

    def _end(self, failed: bool) -> None:
        if self._removable:
            with suppress(OSError):
                if put_back(self._temporary):
                    shutil.rmtree(self._temporary, ignore_errors=True)
        self._held.close()
        for path in self._made if failed else ():
            with suppress(OSError):
                path.rmdir()

    @contextmanager
    def _as_output_error(self) -> Iterator[None]:
        """An `OSError` becomes an `OutputError`, with the bytes of all files where room is lacking."""
        try:
            yield
        except OSError as problem:
            hint = room_hint(problem, self._size)
            raise OutputError(f"cannot write {self._out}: {reason(problem)}", hint) from None


def is_incomplete(folder: Path) -> bool:
    """Whether a folder is being made by a run that has not ended."""
    place = Path(os.path.abspath(folder))
    temporary = place.parent if place.name == TREE else place
    if is_temporary(temporary.name) and begun(temporary):
        return True
    return bool(begun(place / temporary_name(f"tree {place.name}")).get("inside"))

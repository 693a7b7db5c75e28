"""Brings a finished folder to its place: where nothing is, where another folder is, and where none can be renamed."""

from __future__ import annotations

import os
import re
import shutil
import stat
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from bale.errors import OutputError
from bale.io.storage.commit import sync_folder
from bale.io.storage.leftovers import is_temporary
from bale.io.storage.rename import exchange, rename_new

_OCTAL = re.compile(rb"\\([0-7]{3})")


def is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but temporary files."""
    with os.scandir(folder) as found:
        return all(is_temporary(item.name) for item in found)


def can_be_renamed(folder: Path) -> bool:
    """Whether another folder can take the place of this one, and this one be removed.

    Not where file systems are mounted on it or below, nor in a folder that is read-only; and who stands in a folder
    would be left in the old one.
    """
    here, place = Path(os.path.realpath(os.curdir)), Path(os.path.realpath(folder))
    return (
        os.access(folder.parent, os.W_OK | os.X_OK)
        and place not in (here, *here.parents)
        and not any(place in (mount, *mount.parents) for mount in _mounts(place))
    )


def _mounts(place: Path) -> Iterator[Path]:
    """Mount points of file systems: those that the system lists, or, if it does not, those at a folder or below."""
    try:
        lines = Path("/proc/self/mountinfo").read_bytes().splitlines()
        for line in lines:
            escaped = line.split(b" ")[4]
            yield Path(os.fsdecode(_OCTAL.sub(lambda found: bytes([int(found[1], 8)]), escaped)))
    except (OSError, IndexError):
        device = place.parent.stat().st_dev
        yield from (inner for inner in folders_below(place) if inner.lstat().st_dev != device)


def check_places(out: Path, names: Sequence[str], folders: Sequence[str] = ()) -> None:
    """Raise `OutputError` when something else stands where a file or a folder is to be, or a link on the way to it."""
    if not os.path.isdir(out):
        return
    ways = [Path(name).parents[:-1] for name in names]
    ways += [(Path(folder), *Path(folder).parents[:-1]) for folder in folders]
    for inner in dict.fromkeys(each for way in ways for each in reversed(way)):
        _check_folder(out / inner, out)
    for name in names:
        found = _mode(out / name)
        if found is not None and not stat.S_ISREG(found):
            what = (
                "a folder" if stat.S_ISDIR(found) else "a symbolic link" if stat.S_ISLNK(found) else "no regular file"
            )
            raise OutputError(f"cannot write {out / name}: it is {what}", "move it elsewhere")


def _check_folder(path: Path, out: Path) -> None:
    found = _mode(path)
    if found is None or stat.S_ISDIR(found):
        return
    if stat.S_ISLNK(found):
        inside = Path(os.path.realpath(out)) in Path(os.path.realpath(path)).parents
        where = "is a link within" if inside else "leads out of"
        raise OutputError(f"{path} {where} {out}", "remove the link, or choose another place with -o")
    raise OutputError(f"cannot make the folder {path}: it is a file", "move it elsewhere")


def appear(tree: Path, out: Path, is_there: bool) -> None:
    """Rename a folder to a name that is free, or is that of an empty folder, and bring the name to the disk.

    Where something is by now nothing is done, and `OSError` raised.
    """
    if is_there:
        _take_after(tree, out.stat())
        os.rename(tree, out)  # takes the place of an empty folder and of no other
    else:
        rename_new(tree, out)
    try:
        sync_folder(out.parent)
    except BaseException:
        os.rename(out, tree)
        if is_there:
            out.mkdir()
        raise


def swap(tree: Path, out: Path) -> bool:
    """Let a folder and the one that is at its place change places in one step; False where there is no such step."""
    if not exchange(tree, out):
        return False
    try:
        sync_folder(out.parent)
    except BaseException:
        exchange(tree, out)
        raise
    return True


def replace(tree: Path, out: Path, old: Path) -> None:
    """Rename the folder at the place of another away, to `old`, and that one in."""
    os.rename(out, old)
    try:
        os.rename(tree, out)
        sync_folder(out.parent)
    except BaseException:
        if os.path.lexists(out):
            os.rename(out, tree)
        os.rename(old, out)
        raise


def move_in(tree: Path, out: Path, names: Iterable[str]) -> None:
    """Move files to their places, one by one, over those that are there."""
    folders = {out}
    for name in names:
        target = out / name
        if target.parent not in folders:
            target.parent.mkdir(parents=True, exist_ok=True)
            folders.add(target.parent)
        os.replace(tree / name, target)
    for folder in folders:
        sync_folder(folder)


def make_folders(top: Path, names: Iterable[str]) -> None:
    """Make folders below another one, as far as they are missing."""
    for name in names:
        (top / name).mkdir(parents=True, exist_ok=True)


def keep_others(old: Path, new: Path, names: Collection[str]) -> None:
    """Put into `new` the files that `old` holds and it does not: links as links, folders with their permission bits."""
    _take_after(new, old.stat())
    for inside in folders_below(old):
        if inside != old:
            made = new / inside.relative_to(old)
            if not made.is_dir():
                made.mkdir()
            _take_after(made, inside.stat())
        with os.scandir(inside) as found:
            items = [Path(item.path) for item in found if not item.is_dir(follow_symlinks=False)]
        for path in items:
            name = path.relative_to(old).as_posix()
            if name not in names and not os.path.lexists(new / name):
                _put(path, new / name)


def folders_below(top: Path) -> Iterator[Path]:
    """A folder and all folders in it, the outer ones first; links are not followed."""
    for path, _, _ in os.walk(top, onerror=_raise):
        yield Path(path)


def _put(path: Path, target: Path) -> None:
    with suppress(OSError, NotImplementedError):
        os.link(path, target, follow_symlinks=False)
        return
    if path.is_symlink():
        os.symlink(os.readlink(path), target)
    elif path.is_file():
        shutil.copy2(path, target)
    else:
        raise OutputError(f"cannot keep {path}: it is neither a file nor a folder", "move it elsewhere")


def _take_after(folder: Path, like: os.stat_result) -> None:
    with suppress(OSError):
        os.chown(folder, like.st_uid, like.st_gid)
    os.chmod(folder, stat.S_IMODE(like.st_mode))


def _mode(path: Path) -> int | None:
    try:
        return path.lstat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None


def _raise(problem: OSError) -> None:
    raise problem

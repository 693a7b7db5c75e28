"""The files below a folder, and what among them cannot be stored."""

from __future__ import annotations

import errno
import glob
import os
import shlex
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bale.errors import SourceError
from bale.io.folders.plain_names import safe_name
from bale.io.folders.selection import ALL, Selection
from bale.io.storage.files import reason
from bale.io.storage.leftovers import is_temporary


class Avoidable(SourceError):
    """An error about one file of a folder, without which `compress` can go on; the hint says how.

    `plain_hint` is for those who have no such option.
    """

    def __init__(self, message: str, hint: str, name: str) -> None:
        option = f"leave it out with --exclude {shlex.quote(glob.escape(name))}"
        super().__init__(message, f"{hint}, or {option}" if hint else option)
        self.plain_hint = hint


@dataclass(frozen=True)
class Files:
    """The files below a folder, with ``/`` between the levels: sorted names of what is wanted, sizes of others.

    `no_files` are links that lead nowhere, pipes, sockets and devices, each with the error where it is needed; `empty`
    are folders that hold nothing.
    """

    names: list[str]
    left_out: Mapping[str, int]
    no_files: Mapping[str, Avoidable]
    empty: tuple[str, ...] = ()


def list_files(folder: Path, selection: Selection = ALL) -> Files:
    """List all files below a folder.

    Links to files are followed; links to folders are refused, and so is a cache of links: unless they are left out.
    """
    names: list[str] = []
    no_files: dict[str, Avoidable] = {}
    empty: list[str] = []
    left_out: dict[str, int] = {}
    pending = [""]
    while pending:
        inside = pending.pop()
        try:
            with os.scandir(folder / inside) as found:
                items = [item for item in found if not is_temporary(item.name)]
        except OSError as problem:
            if selection.excludes(inside):
                left_out[inside] = 0
                continue
            message, hint = f"cannot read the folder {folder / inside}: {reason(problem)}", "check its permissions"
            raise Avoidable(message, hint, inside) if inside else SourceError(message, hint) from None
        _refuse_cache(folder / inside, {item.name for item in items}, not selection.takes(f"{inside}blobs/x"))
        if inside and not items:
            if selection.excludes(inside):
                left_out[inside] = 0
            elif selection.takes(inside):
                empty.append(_plain(folder, inside.removesuffix("/")))
        for item in items:
            name = f"{inside}{item.name}"
            if item.is_dir(follow_symlinks=False):
                pending.append(f"{name}/")
            elif not selection.takes(name):
                left_out[name] = _size(item)
            elif not _is_regular(item) and selection.excludes(f"{name}/"):
                left_out[f"{name}/"] = 0
            elif _is_regular(item):
                names.append(_plain(folder, name))
            else:
                what, hint = _what(item)
                error = Avoidable(f"{folder / name} {what}", hint, name)
                if not _is_no_file(item):
                    raise error
                no_files[name] = error
    return Files(sorted(names), left_out, dict(sorted(no_files.items())), tuple(sorted(empty)))


def _plain(folder: Path, name: str) -> str:
    try:
        return safe_name(name, SourceError, str(folder))
    except SourceError as problem:
        raise Avoidable(problem.message, problem.hint, name) from None


def _refuse_cache(folder: Path, names: set[str], without_blobs: bool) -> None:
    """Raise `SourceError` for a cache of the Hugging Face hub: its files would be stored as blobs and as links."""
    if not names >= {"blobs", "refs", "snapshots"} or without_blobs:
        return
    with suppress(OSError):
        snapshots = sorted(os.listdir(folder / "snapshots"))
        if snapshots:
            message = f"{folder} is a cache of the Hugging Face hub, whose snapshots are links to its blobs"
            raise SourceError(message, f"give a snapshot, like {folder / 'snapshots' / snapshots[-1]}")


def _size(item: os.DirEntry[str]) -> int:
    try:
        return item.stat().st_size if _is_regular(item) else 0
    except OSError:
        return 0


def _is_regular(item: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISREG(item.stat().st_mode)
    except OSError:
        return False


def _is_no_file(item: os.DirEntry[str]) -> bool:
    """Whether something holds no bytes: a link that leads nowhere, a pipe. Not what may only not be looked at."""
    try:
        return not stat.S_ISDIR(item.stat().st_mode)
    except OSError as problem:
        return problem.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)


def _what(item: os.DirEntry[str]) -> tuple[str, str]:
    """A description of something that cannot be stored, and what to do about it."""
    try:
        item.stat()
    except OSError as problem:
        if not _is_no_file(item):
            return f"cannot be read: {reason(problem)}", "check its permissions"
    if not item.is_symlink():
        return "is neither a file nor a folder", "move it elsewhere"
    if os.path.isdir(item.path):
        return "is a link to a folder, which is not followed", "put the folder itself there, or remove the link"
    if os.path.exists(item.path):
        return "is a link to what is neither a file nor a folder", "remove the link"
    return "is a link that leads nowhere", "fix or remove it"

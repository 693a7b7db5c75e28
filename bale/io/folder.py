"""Folders: the files that they hold, and the record that a compressed one keeps of itself."""

from __future__ import annotations

import errno
import glob
import json
import os
import re
import shlex
import shutil
import stat
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from bale.errors import ArchiveError, BaleError, OutputError, SourceError
from bale.io.selection import ALL, Selection
from bale.io.storage.commit import Target, staged
from bale.io.storage.files import read_text, reason, room_hint
from bale.io.storage.journal import Journal, read_journal
from bale.io.storage.leftovers import is_temporary, lock_folder, temporary_name
from bale.io.storage.rename import rename_new

RECORD = "bale.folder.json"
COPY = "copy"
NAME_LIMIT, PATH_LIMIT = 255, 1024  # bytes
RECORD_LIMIT = 1 << 28  # bytes: those of some 500,000 files
_FORMAT = 1
_JOURNAL = temporary_name("the files of a compressed folder that are finished")
_DRIVE = re.compile(r"[A-Za-z]:")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """One file of a source folder and its stored form.

    `kind` is ``copy`` for a file kept as it is, else the kind of checkpoint. `choices` is a digest of the decisions
    for it, so that a later run can see whether the stored form is the one that it would make.
    """

    kind: str
    stored: str
    source_bytes: int
    source_sha256: str
    stored_bytes: int
    stored_sha256: str
    choices: str = ""

    def to_json(self) -> dict[str, Any]:
        """The entry as it stands in the record."""
        return {
            "kind": self.kind,
            "stored": self.stored,
            "source": {"bytes": self.source_bytes, "sha256": self.source_sha256},
            "archive": {"bytes": self.stored_bytes, "sha256": self.stored_sha256},
            "choices": self.choices,
        }


@dataclass(frozen=True)
class Record:
    """The content of ``bale.folder.json``: entries by source name, whether all are there, and which were wanted.

    `folders` are those of the source that hold nothing, and so are in no name of a file.
    """

    complete: bool
    entries: Mapping[str, Entry]
    selection: Selection = ALL
    folders: tuple[str, ...] = ()

    def encode(self) -> bytes:
        """JSON text, the same for the same entries whatever order they came in."""
        files = {name: entry.to_json() for name, entry in self.entries.items()}
        data: dict[str, Any] = {"format": _FORMAT, "complete": self.complete, "files": files}
        if self.selection:
            data |= {"include": self.selection.include, "exclude": self.selection.exclude}
        if self.folders:
            data["folders"] = self.folders
        return (json.dumps(data, indent=1, sort_keys=True) + "\n").encode()  # ASCII: names need not be UTF-8


def read_record(folder: Path) -> Record:
    """Read the record of a compressed folder; raise `ArchiveError` when it is not one or makes no sense.

    `SourceError` is raised where it may not be read.
    """
    path = folder / RECORD
    try:
        data = json.loads(read_text(path, RECORD_LIMIT, ArchiveError).decode("utf-8", "surrogateescape"))
        if data["format"] != _FORMAT:
            raise ArchiveError(f"{path} has format {data['format']}, newer than this bale", "upgrade bale")
        if RECORD in data["files"]:
            raise ValueError("it names itself")
        entries = {safe_name(name, ArchiveError, str(path)): _entry(name, item) for name, item in data["files"].items()}
        selection = Selection(_texts(data.get("include", [])), _texts(data.get("exclude", [])))
        folders = tuple(safe_name(each, ArchiveError, str(path)) for each in _texts(data.get("folders", [])))
        if any(str(inner) in entries for each in folders for inner in (each, *PurePosixPath(each).parents)):
            raise ValueError("a folder has the name of a file")
        return Record(data["complete"] is True, entries, selection, folders)
    except FileNotFoundError:
        made = "a folder is made into one by `bale compress`"
        raise ArchiveError(f"{folder} has no {RECORD}: it is not a compressed folder", made) from None
    except OSError as problem:
        raise SourceError(f"cannot read {path}: {reason(problem)}", "check the path and its permissions") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise ArchiveError(f"{path} makes no sense ({type(problem).__name__}: {problem})", "fetch it again") from None


class Progress:
    """Progress of a run that writes a compressed folder, recorded so that the next one can go on after a kill.

    The record is written whole at the beginning and at the end only: to do so for each file would cost their square.
    """

    def __init__(self, folder: Path, entries: Mapping[str, Entry]) -> None:
        self._folder, self._entries = folder, dict(entries)
        self._journal = Journal(folder / _JOURNAL)

    def __enter__(self) -> Progress:
        self._write()
        self._journal.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is not None:
                self._write()
            os.unlink(self._journal.path)
        except (OutputError, OSError):
            pass  # then the journal stays, and says the same
        finally:
            self._journal.__exit__(kind, error, trace)

    def add(self, name: str, entry: Entry) -> None:
        """Note that a file has been stored."""
        self._entries[name] = entry
        self._journal.add({"name": name, **entry.to_json()})

    def _write(self) -> None:
        with staged_record(self._folder, Record(False, self._entries)) as record:
            record.commit()


def staged_record(folder: Path, record: Record) -> AbstractContextManager[Target]:
    """The record of a folder, written and not yet in its place."""
    return staged(folder / RECORD, record.encode(), force=True, one_of_many=True)


def begin_folder(folder: Path) -> int | None:
    """Make a compressed folder that has its record, of no files, as soon as it has its name.

    Returns its descriptor, which is locked as long as it is open, or None where something has taken the name meanwhile.
    So a folder that a killed run has begun is never taken for one that the user has made.
    """
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        while True:
            made = folder.parent / temporary_name()
            made.mkdir()
            try:
                descriptor = lock_folder(made, folder)
            except FileNotFoundError:  # another run has taken it for a leftover
                continue
            try:
                with staged_record(made, Record(False, {})) as record:
                    record.commit()
                rename_new(made, folder)
            except BaseException:
                shutil.rmtree(made, ignore_errors=True)
                os.close(descriptor)
                raise
            return descriptor
    except FileExistsError:
        return None
    except OSError as problem:
        hint = room_hint(problem, 4096)  # a folder takes a block
        raise OutputError(f"cannot make the folder {folder}: {reason(problem)}", hint) from None


def read_progress(folder: Path) -> Record:
    """The record of a compressed folder with all that an interrupted run has noted since it wrote it."""
    record = read_record(folder)
    if record.complete:
        return record
    entries = dict(record.entries)
    with suppress(ArchiveError, ValueError, TypeError, KeyError):  # what makes no sense is made again
        for item in read_journal(folder / _JOURNAL):
            entries[safe_name(item["name"], ArchiveError, str(folder))] = _entry(item["name"], item)
    return Record(False, entries)


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


def safe_name(name: str, error: type[BaleError], where: str) -> str:
    """The name, if it is a plain relative path that stays where it is put."""
    message = f"{where} names {name!r}, which is no plain path within the folder"
    if _DRIVE.match(name):
        raise error(f"{message}: Windows would take {name[:2]} for a drive", "rename it")
    if "\0" in name or "\\" in name or any(piece in ("", ".", "..") for piece in name.split("/")):
        raise error(message, "fix or remove the name")
    check_length(name, error, where)
    return name


def check_length(name: str, error: type[BaleError], where: str) -> None:
    """Raise `error` for a name that file systems do not have: too long, or with a surrogate that stands for no byte."""
    try:
        encoded = os.fsencode(name)
    except UnicodeEncodeError:
        raise error(f"{where} names {name!r}, which no file can be called", "fix or remove the name") from None
    if max(map(len, encoded.split(b"/"))) > NAME_LIMIT or len(encoded) > PATH_LIMIT:
        shown = f"{name[:40]!r}..."
        raise error(f"{where} names {shown} of {len(name)} letters, which is too long", "fix or remove the name")


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


def _texts(patterns: Any) -> tuple[str, ...]:
    if not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
        raise ValueError(f"patterns {patterns!r}")
    return tuple(patterns)


def _entry(name: str, item: dict[str, Any]) -> Entry:
    numbers = item["source"]["bytes"], item["archive"]["bytes"]
    digests = item["source"]["sha256"], item["archive"]["sha256"]
    if any(type(number) is not int or number < 0 for number in numbers):
        raise ValueError(f"sizes {numbers}")
    if not all(_SHA256.fullmatch(digest) for digest in digests):
        raise ValueError(f"digests {digests}")
    kind, stored = str(item["kind"]), item["stored"]
    if stored != (name if kind == COPY else f"{name}.bale"):
        raise ValueError(f"{name!r} is stored as {stored!r}")
    check_length(stored, ArchiveError, RECORD)
    return Entry(kind, stored, numbers[0], digests[0], numbers[1], digests[1], str(item["choices"]))

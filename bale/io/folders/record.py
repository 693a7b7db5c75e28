"""The record that a compressed folder keeps of itself."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

from bale.errors import ArchiveError, OutputError, SourceError
from bale.io.folders.plain_names import check_length, safe_name
from bale.io.folders.selection import ALL, Selection
from bale.io.storage.commit import Target, staged
from bale.io.storage.files import read_text, reason, room_hint
from bale.io.storage.journal import Journal, read_journal
from bale.io.storage.leftovers import lock_folder, temporary_name
from bale.io.storage.rename import rename_new

RECORD = "bale.folder.json"
COPY = "copy"
RECORD_LIMIT = 1 << 28  # bytes: those of some 500,000 files
_FORMAT = 1
_JOURNAL = temporary_name("the files of a compressed folder that are finished")
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

    @property
    def is_marked(self) -> bool:
        """Whether it is a config that was marked when it was copied."""
        return self.kind == COPY and self.stored_sha256 != self.source_sha256

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
        selection = Selection(_texts(data.get("include", [])), _texts(data.get("exclude", [])), allow_unmatched=True)
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


def is_stored_folder(path: Path) -> bool:
    """Whether a folder is a compressed one."""
    return os.path.isfile(path / RECORD)


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

"""Folders: which files they hold, and the record that a compressed one keeps of itself."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bale.errors import ArchiveError, BaleError, SourceError
from bale.io.commit import PREFIX
from bale.io.files import reason

RECORD = "bale.folder.json"
COPY = "copy"
_FORMAT = 1
_DRIVE = re.compile(r"[A-Za-z]:")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Entry:
    """One file of a source folder and its stored form.

    `kind` is ``copy`` for a file kept as it is, else the kind of checkpoint. `choices` is a digest of what was decided
    for it, so that a later run can tell whether the stored form is what it would make.
    """

    kind: str
    stored: str
    source_bytes: int
    source_sha256: str
    stored_bytes: int
    stored_sha256: str
    choices: str = ""


@dataclass(frozen=True)
class Record:
    """The content of ``bale.folder.json``: entries by source name, and whether all are there."""

    complete: bool
    entries: Mapping[str, Entry]

    def encode(self) -> bytes:
        """JSON text, the same for the same entries whatever order they came in."""
        files = {
            name: {
                "kind": entry.kind,
                "stored": entry.stored,
                "source": {"bytes": entry.source_bytes, "sha256": entry.source_sha256},
                "archive": {"bytes": entry.stored_bytes, "sha256": entry.stored_sha256},
                "choices": entry.choices,
            }
            for name, entry in self.entries.items()
        }
        data = {"format": _FORMAT, "complete": self.complete, "files": files}
        return (json.dumps(data, indent=1, sort_keys=True) + "\n").encode()  # ASCII: names need not be UTF-8


def read_record(folder: Path) -> Record:
    """Read the record of a compressed folder; raise `ArchiveError` when it is not one or makes no sense.

    `SourceError` is raised where it may not be read.
    """
    path = folder / RECORD
    try:
        data = json.loads(path.read_bytes().decode("utf-8", "surrogateescape"))
        if data["format"] != _FORMAT:
            raise ArchiveError(f"{path} has format {data['format']}, newer than this bale", "upgrade bale")
        if RECORD in data["files"]:
            raise ValueError("it names itself")
        entries = {safe_name(name, ArchiveError, str(path)): _entry(name, item) for name, item in data["files"].items()}
        return Record(data["complete"] is True, entries)
    except FileNotFoundError:
        made = "a folder is made into one by `bale compress`"
        raise ArchiveError(f"{folder} has no {RECORD}: it is not a compressed folder", made) from None
    except OSError as problem:
        raise SourceError(f"cannot read {path}: {reason(problem)}", "check the path and its permissions") from None
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as problem:
        raise ArchiveError(f"{path} makes no sense ({type(problem).__name__}: {problem})", "fetch it again") from None


def list_files(folder: Path) -> list[str]:
    """Names of all files below a folder, sorted, with ``/`` between the levels.

    Links to files are followed; links to folders are refused, and so is what is neither file nor folder.
    """
    names: list[str] = []
    pending = [""]
    while pending:
        inside = pending.pop()
        try:
            with os.scandir(folder / inside) as found:
                items = list(found)
        except OSError as problem:
            raise SourceError(f"cannot read the folder {folder / inside}: {problem.strerror}") from None
        for item in items:
            name = f"{inside}{item.name}"
            if item.name.startswith(PREFIX):
                continue
            if item.is_dir(follow_symlinks=False):
                pending.append(f"{name}/")
            elif _is_regular(item):
                names.append(safe_name(name, SourceError, str(folder)))
            else:
                what, hint = _what(item)
                raise SourceError(f"{folder / name} {what}", hint)
    return sorted(names)


def check_indexes(folder: Path, names: list[str]) -> set[str]:
    """Names of the shards that indexes name; `SourceError` when one is missing or lies outside the folder."""
    present = set(names)
    named: set[str] = set()
    for name in names:
        if not name.endswith(".index.json"):
            continue
        for shard in sorted(_shards(folder / name)):
            inside = safe_name(shard, SourceError, str(folder / name))
            named.add(str(Path(name).parent / inside))
            if not named <= present:
                raise SourceError(f"{folder / name} names {shard!r}, which is not there", "fetch the missing file")
    return named


def safe_name(name: str, error: type[BaleError], where: str) -> str:
    """The name, if it is a plain relative path that stays where it is put."""
    message = f"{where} names {name!r}, which is no plain path within the folder"
    if _DRIVE.match(name):
        raise error(f"{message}: Windows would take {name[:2]} for a drive", "rename it")
    if "\0" in name or "\\" in name or any(piece in ("", ".", "..") for piece in name.split("/")):
        raise error(message, "mend or remove the name")
    return name


def _shards(path: Path) -> set[str]:
    try:
        data = json.loads(path.read_bytes())
        shards = data.get("weight_map", {}).values()
        return {shard if isinstance(shard, str) else repr(shard) for shard in shards}
    except (OSError, ValueError, AttributeError, RecursionError) as problem:
        raise SourceError(f"the index {path} cannot be read ({problem})", "fetch it again") from None


def _is_regular(item: os.DirEntry[str]) -> bool:
    try:
        return stat.S_ISREG(item.stat().st_mode)
    except OSError:
        return False


def _what(item: os.DirEntry[str]) -> tuple[str, str]:
    """What something is that cannot be stored, and what to do about it."""
    if not item.is_symlink():
        return "is neither a file nor a folder", "move it elsewhere"
    if os.path.isdir(item.path):
        return "is a link to a folder, which is not followed", "put the folder itself there, or remove the link"
    if os.path.exists(item.path):
        return "is a link to what is neither a file nor a folder", "remove the link"
    return "is a link that leads nowhere", "mend or remove it"


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
    return Entry(kind, stored, numbers[0], digests[0], numbers[1], digests[1], str(item["choices"]))

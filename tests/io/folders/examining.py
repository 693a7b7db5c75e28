"""Notes on a folder, for tests; indexes, and names that are not plain."""

from __future__ import annotations

import json
from pathlib import Path

from bale.io.folders.contents import examine
from bale.io.folders.selection import Selection

UNSAFE = [
    "../evil",
    "a/../../evil",
    "/etc/evil",
    "//evil",
    "",
    ".",
    "..",
    "a//b",
    "a/./b",
    "a/",
    "./a",
    "C:evil",
    "c:\\evil",
    "a\\b",
    "a\0b",
]


def index(folder: Path, name: str, shards: dict[str, str], **metadata: object) -> None:
    (folder / name).write_text(json.dumps({"metadata": metadata, "weight_map": shards}))


def kinds(folder: Path, include: tuple[str, ...] = (), exclude: tuple[str, ...] = ()) -> list[str]:
    return [note.kind for note in examine(folder, Selection(include, exclude)).notes]


def note_of(folder: Path, kind: str) -> str:
    (text,) = (note.text for note in examine(folder).notes if note.kind == kind)
    return text

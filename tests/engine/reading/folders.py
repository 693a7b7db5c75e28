"""What is told of a folder, for tests; and indexes."""

from __future__ import annotations

import json
from pathlib import Path

from bale.engine.reading.contents import examine
from bale.io.selection import Selection


def index(folder: Path, name: str, shards: dict[str, str], **metadata: object) -> None:
    (folder / name).write_text(json.dumps({"metadata": metadata, "weight_map": shards}))


def kinds(folder: Path, **choice: tuple[str, ...]) -> list[str]:
    return [note.kind for note in examine(folder, Selection(**choice), False).notes]


def told(folder: Path, kind: str) -> str:
    (text,) = (note.text for note in examine(folder).notes if note.kind == kind)
    return text

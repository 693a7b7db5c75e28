"""Opening a source: the reader is chosen by content, never by the name alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.faults import Malformed, Unsupported
from bale.io.sources.safetensors import read_safetensors
from bale.io.sources.torch.legacy import is_torch_legacy, read_torch_legacy
from bale.io.sources.torch.zip import read_torch_zip
from bale.io.stand_ins import EMPTY, LFS, WEB, as_text, stand_in
from bale.io.storage.bytes import ByteSource
from bale.io.storage.files import reading
from bale.io.weight_names import OTHER_SUFFIXES, SUFFIXES, is_weights
from bale.notes import Note
from bale.spec import TensorSpec, Unit, View

_HEAD = 1024  # bytes that distinguish the formats
_SAFETENSORS = "safetensors"
_UNKNOWN = "content that no reader recognizes"

# A length below 2^48, then an object that ends or whose first key begins: too unlikely to be anything else, so if such
# a file cannot be read it is broken. What merely has a brace at byte 8 may be anything.
_SAFETENSORS_HEAD = re.compile(rb"[\s\S]{6}\0\0[ \t\r\n]*\{\s*[\"}]")
_INDEX = ".index.json"  # behind the name of what lists the shards of a folder
_SKELETON_RANGE, _SKELETON = 1 << 20, 96 << 20
"""Bytes of one range between units, and of all, from which on ranges become units of their own, coded in chunks."""

_READERS: dict[str, Callable[[Path, ByteSource], Checkpoint]] = {
    "torch": read_torch_zip,
    "torch-legacy": read_torch_legacy,
    _SAFETENSORS: read_safetensors,
}
_LOOKS = {
    "torch": "a ZIP file, as torch writes",
    "torch-legacy": "a torch file of the old format",
    WEB.what: "a web page",
    "tar": "a tar file",
}


def open_checkpoint(path: Path) -> Checkpoint:
    """Read the structure of a source file.

    A file that no reader follows becomes one opaque unit, with a note of the reason. `SourceError` is raised for one
    that cannot be read, is empty, begins as a known format and is broken, is called ``.safetensors`` and is not, is a
    Git LFS pointer, or is a bale already.
    """
    with reading(path, SourceError) as source:
        return read_checkpoint(path, source)


def read_checkpoint(path: Path, source: ByteSource) -> Checkpoint:
    """The same of a source that is open, wherever it is; `path` is its name."""
    size = source.size
    content = _content(path, source.read(min(size, _HEAD), 0))
    try:
        return _bounded(_reader(content, path)(path, source))
    except Unsupported as reason:
        return _opaque(path, size, str(reason))
    except Malformed as problem:
        raise SourceError(f"{path} is broken: {problem}", EMPTY.hint) from None


def is_unknown(head: bytes) -> bool:
    """Whether a file that begins with these bytes is of no format that bale knows by name."""
    return _sniff(head) == _UNKNOWN


def _content(path: Path, head: bytes) -> str:
    """The format that the first bytes show, checked against the one that the name promises."""
    found = _sniff(head)
    is_named = is_weights(path.name, SUFFIXES + OTHER_SUFFIXES)
    wrong = stand_in(head) or (as_text(head) if found == _UNKNOWN and is_named else None)
    if wrong in (EMPTY, LFS):
        raise SourceError(f"{path} {wrong.words}", wrong.hint)
    if path.suffix.lower() != ".safetensors" or found == _SAFETENSORS:
        return found if wrong is None else wrong.what.removeprefix("is ")
    if wrong is not None:
        raise SourceError(f"{path} {wrong.words}", wrong.hint)
    if found in _LOOKS:
        raise SourceError(f"{path} is no safetensors file: it looks like {_LOOKS[found]}", "give it its proper suffix")
    raise SourceError(f"{path} is no safetensors file: it does not begin with a header", EMPTY.hint)


def _sniff(head: bytes) -> str:
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "torch"
    if _SAFETENSORS_HEAD.match(head):
        return _SAFETENSORS
    if head[257:262] == b"ustar":
        return "tar"
    return "torch-legacy" if is_torch_legacy(head) else _UNKNOWN


def _reader(content: str, path: Path) -> Callable[[Path, ByteSource], Checkpoint]:
    if content in _READERS:
        return _READERS[content]
    if path.name.endswith(_INDEX):
        raise Unsupported("an index of shards; give the folder that holds it to have the shards compressed")
    raise Unsupported(_LOOKS.get(content, content))


def _bounded(checkpoint: Checkpoint) -> Checkpoint:
    """The same file with long ranges between its units as units of their own, so that nobody holds them as a whole."""
    long, kept = list[Unit](), 0
    for start, size in checkpoint.skeleton_ranges():
        if size > _SKELETON_RANGE or kept + size > _SKELETON:
            long.append(Unit(start, TensorSpec("U8", (size,)), ()))
        else:
            kept += size
    if not long:
        return checkpoint
    units = sorted((*checkpoint.units, *long), key=attrgetter("start", "end"))
    return replace(checkpoint, units=tuple(units))


def _opaque(path: Path, size: int, reason: str) -> Checkpoint:
    spec = TensorSpec("U8", (size,))
    unit = Unit(0, spec, (View("bytes", spec),))
    return Checkpoint(path, "opaque", size, (unit,), (Note("opaque", f"coded as opaque bytes: {reason}"),))

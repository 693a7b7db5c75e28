"""Opening a source: the reader is chosen by content, never by the name alone."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.faults import Malformed, Unsupported
from bale.io.sources.safetensors import read_safetensors
from bale.io.sources.stand_ins import EMPTY, LFS, WEB, stand_in
from bale.io.sources.torch.legacy import is_torch_legacy, read_torch_legacy
from bale.io.sources.torch.zip import read_torch_zip
from bale.io.storage.bytes import ByteSource
from bale.io.storage.files import reading
from bale.notes import Note
from bale.spec import TensorSpec, Unit, View

_HEAD = 1024  # bytes that distinguish the formats
_SAFETENSORS = "safetensors"
_AGAIN = "fetch or save it again"

# A length below 2^48, then an object that ends or whose first key begins: too unlikely to be anything else, so if such
# a file cannot be read it is broken. What merely has a brace at byte 8 may be anything.
_SAFETENSORS_HEAD = re.compile(rb"[\s\S]{6}\0\0\{\s*[\"}]")

_READERS: dict[str, Callable[[Path, ByteSource], Checkpoint]] = {
    "torch": read_torch_zip,
    "torch-legacy": read_torch_legacy,
    _SAFETENSORS: read_safetensors,
}
_LOOKS = {
    "torch": "a ZIP file, as torch writes",
    "torch-legacy": "a torch file of the old format",
    WEB.kind: "a web page",
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
    if not size:
        raise SourceError(f"{path} {EMPTY.words}", EMPTY.hint)
    content = _content(path, source.read(min(size, _HEAD), 0))
    try:
        return _reader(content)(path, source)
    except Unsupported as reason:
        return _opaque(path, size, str(reason))
    except Malformed as problem:
        raise SourceError(f"{path} is broken: {problem}", _AGAIN) from None


def _content(path: Path, head: bytes) -> str:
    """The format that the first bytes show, checked against the one that the name promises."""
    found = _sniff(head)
    if found == LFS.kind:
        raise SourceError(f"{path} {LFS.words}", LFS.hint)
    if path.suffix.lower() != ".safetensors" or found == _SAFETENSORS:
        return found
    if found == WEB.kind:
        raise SourceError(f"{path} {WEB.words}", WEB.hint)
    if found in _LOOKS:
        raise SourceError(f"{path} is no safetensors file: it looks like {_LOOKS[found]}", "give it its proper suffix")
    raise SourceError(f"{path} is no safetensors file: it does not begin with a header", _AGAIN)


def _sniff(head: bytes) -> str:
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return "torch"
    if _SAFETENSORS_HEAD.match(head):
        return _SAFETENSORS
    if instead := stand_in(head):
        return instead.kind
    if head[257:262] == b"ustar":
        return "tar"
    return "torch-legacy" if is_torch_legacy(head) else "unknown"


def _reader(content: str) -> Callable[[Path, ByteSource], Checkpoint]:
    if content not in _READERS:
        raise Unsupported(_LOOKS.get(content, "content that no reader recognizes"))
    return _READERS[content]


def _opaque(path: Path, size: int, reason: str) -> Checkpoint:
    spec = TensorSpec("U8", (size,))
    unit = Unit(0, spec, (View("bytes", spec),))
    return Checkpoint(path, "opaque", size, (unit,), (Note("opaque", f"coded as opaque bytes: {reason}"),))

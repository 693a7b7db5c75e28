"""Opening a source: the reader is chosen by content, never by the name alone."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from operator import attrgetter
from pathlib import Path

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.faults import Malformed, Unsupported
from bale.io.sources.formats import HEAD, SAFETENSORS, format_of
from bale.io.sources.looks import looks_like
from bale.io.sources.order import in_order
from bale.io.stand_ins import EMPTY, LFS, WEB, as_text, stand_in
from bale.io.storage.ahead import Ahead
from bale.io.storage.bytes import ByteSource
from bale.io.storage.files import reading
from bale.io.weight_names import OTHER_SUFFIXES, SUFFIXES, is_weights
from bale.notes import Note
from bale.spec import TensorSpec, Unit, View

_UNKNOWN = "content that no reader recognizes"
_INDEX = ".index.json"  # behind the name of what lists the shards of a folder
_SKELETON_RANGE, _SKELETON = 1 << 20, 96 << 20
"""Bytes of one range between units, and of all, from which on ranges become units of their own, coded in chunks."""


def open_checkpoint(path: Path) -> Checkpoint:
    """Read the structure of a source file.

    A file that no reader follows becomes one opaque unit, with a note of the reason. `SourceError` is raised for one
    that cannot be read, is empty, begins as a known format and is broken, is called ``.safetensors`` and is not, is a
    Git LFS pointer, is a web page in the place of weights, or is a bale already.
    """
    with reading(path, SourceError) as source:
        return read_checkpoint(path, source)


def read_checkpoint(path: Path, source: ByteSource) -> Checkpoint:
    """The same of a source that is open, wherever it is; `path` is its name."""
    source = Ahead(source)
    size = source.size
    reader = _reader(path, source.read(min(size, HEAD), 0))
    try:
        if isinstance(reader, str):
            raise Unsupported(reader)
        with _uncollected():
            return _bounded(in_order(reader(path, source)))
    except Unsupported as reason:
        return _opaque(path, size, reason)
    except Malformed as problem:
        raise SourceError(f"{path} is broken: {problem}", EMPTY.hint) from None


def is_unknown(path: Path, head: bytes) -> bool:
    """Whether a file that begins with these bytes is of no format that bale knows."""
    return format_of(head, path) is None


def _reader(path: Path, head: bytes) -> Callable[[Path, ByteSource], Checkpoint] | str:
    """The reader of a file by its first bytes, checked against what the name promises; or why there is none."""
    found = format_of(head, path)
    is_named = is_weights(path.name, SUFFIXES + OTHER_SUFFIXES)
    wrong = stand_in(head) or (as_text(head) if found is None and is_named else None)
    if wrong in (EMPTY, LFS) or (wrong is WEB and is_named):
        raise SourceError(f"{path} {wrong.words}", wrong.hint)
    if path.suffix.lower() == ".safetensors" and found is not SAFETENSORS:
        if wrong is not None:
            raise SourceError(f"{path} {wrong.words}", wrong.hint)
        if found is not None:
            message = f"{path} is no safetensors file: it looks like {found.looks}"
            raise SourceError(message, "give it its proper suffix")
        raise SourceError(f"{path} is no safetensors file: it does not begin with a header", EMPTY.hint)
    if found is not None and found.read is not None:
        return found.read
    if path.name.endswith(_INDEX):
        return "an index of shards; give the folder that holds it to have the shards compressed"
    if wrong is not None:
        return wrong.what.removeprefix("is ").removeprefix("looks like ")
    if found is not None:
        return found.looks
    look = looks_like(head)
    return _UNKNOWN if look is None else f"it looks like {look}, which no reader follows"


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without the collection of cycles, of which readers make none: it would look at each tensor again and again."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


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


def _opaque(path: Path, size: int, reason: Unsupported) -> Checkpoint:
    spec = TensorSpec("U8", (size,))
    unit = Unit(0, spec, (View("bytes", spec),))
    return Checkpoint(
        path, "opaque", size, (unit,), (*reason.notes, Note("opaque", f"coded as opaque bytes: {reason}"))
    )

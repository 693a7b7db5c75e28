"""Choosing the reader of a source file by what is in it."""

from __future__ import annotations

import os
from pathlib import Path

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.files import read_bytes, reading
from bale.io.safetensors_file import AGAIN, looks_like_safetensors, read_safetensors
from bale.spec import TensorSpec, Unit, View

_HEAD = 4096
_LFS = b"version https://git-lfs"
_MARKUP = (b"<!doctype", b"<html", b"<?xml")


def open_checkpoint(path: Path) -> Checkpoint:
    """Read the structure of a checkpoint; a file that no reader knows is opaque, with a note.

    Raises
    ------
    SourceError
        When the file is missing, empty, begins as a known format and is broken, is called ``.safetensors`` and is none,
        or is a bale already.
    """
    if path.is_dir():
        raise SourceError(f"{path} is a folder", "name a file in it")
    with reading(path, SourceError) as descriptor:
        stat = os.fstat(descriptor)
        if not os.path.isfile(path):
            raise SourceError(f"{path} is not a regular file", "write it to one first")
        if not stat.st_size:
            raise SourceError(f"{path} is empty", AGAIN)
        head = read_bytes(descriptor, min(_HEAD, stat.st_size), 0, SourceError, str(path))
    size = stat.st_size
    if head.startswith(_LFS):
        raise SourceError(f"{path} is a pointer of Git LFS, not the file itself", "run `git lfs pull`")
    if looks_like_safetensors(head, size):
        return read_safetensors(path, size)
    if path.suffix == ".safetensors":
        if head.lstrip()[:9].lower().startswith(_MARKUP):
            raise SourceError(f"{path} is a web page, not a checkpoint", "download it again, and look at what comes")
        return read_safetensors(path, size)  # which says what is wrong with it
    return opaque(path, size, "no format that bale knows: stored as it is")


def opaque(path: Path, size: int, note: str) -> Checkpoint:
    """A checkpoint of which nothing is known but its bytes."""
    spec = TensorSpec("U8", (size,))
    return Checkpoint(path, "opaque", size, (Unit(0, spec, (View("bytes", spec),)),), (f"{path.name}: {note}",))

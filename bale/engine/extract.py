"""Taking single tensors out of an archive into a safetensors file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bale.engine.reading.tensors import Archives
from bale.errors import UsageError
from bale.io.safetensors import PREAMBLE, header_block, header_text, padded
from bale.io.storage.commit import Target
from bale.planning.patterns import compile_pattern

_SMALL = 1 << 16  # bytes of a tensor that is decoded whole


def extract_tensors(opened: Archives, patterns: Sequence[str], out: Path, *, force: bool = False) -> tuple[int, bool]:
    """Decode the tensors whose whole name matches a pattern, one at a time.

    Returns the size of the file, and whether these tensors are the source's bit for bit. Raises `UsageError` for a
    pattern that matches nothing, and for a name or dtype that safetensors does not have.
    """
    names = _matching(opened, patterns)
    specs = [(name, opened.spec(name)) for name in names]
    for name, spec in specs:
        if name == "__metadata__":
            raise UsageError(f"a safetensors file cannot hold a tensor called {name}", "decompress the whole archive")
        if not spec.info.portable:
            raise UsageError(
                f"{name} is {spec.dtype}, which a safetensors file cannot hold", "decompress the whole archive"
            )
    text = header_text({"format": "pt"}, specs)
    room = padded(len(text))
    with Target(out, os.stat(opened.paths[0]), force, opened.paths) as target:
        at = PREAMBLE + room
        target.reserve(at + sum(spec.nbytes for _, spec in specs))
        target.write(header_block(text, room), 0)
        for name, spec in specs:
            small = spec.nbytes <= _SMALL
            for block in [np.ascontiguousarray(opened.bits(name))] if small else opened.blocks(name):
                target.write(block, at)
                at += block.nbytes
        target.commit()
    return at, all(map(opened.is_exact, names))


def _matching(opened: Archives, patterns: Sequence[str]) -> list[str]:
    """The names that match; those qualified by files only where no plain one does."""
    chosen: set[str] = set()
    for pattern in patterns:
        expression = compile_pattern(pattern, "--tensor")
        found = {name for name in opened if expression.fullmatch(name)}
        found = found or {name for name in opened.qualified if expression.fullmatch(name)}
        if not found:
            raise UsageError(f"--tensor {pattern!r} matches no tensor", "see the names with `bale inspect`")
        chosen |= found
    return [name for name in (*opened, *opened.qualified) if name in chosen]

"""The slow half of `lossless`: the upper 16 bits of a float, or a byte, by `fields`; the bits below as planes."""

from __future__ import annotations

import struct

import numpy as np

from bale.compressors.base import Place
from bale.compressors.contexts import fields
from bale.compressors.contexts.axes import axes_of
from bale.compressors.contexts.tokens import BYTE, Layout
from bale.compressors.lossless.modes import choose_modes
from bale.compressors.lossless.planes import PAIR, QUAD
from bale.compressors.lossless.tree import FIELDS, decode_planes, encode_planes
from bale.spec import DTYPES, Array

_LAYOUTS = {
    "BF16": Layout(16, 7),
    "F16": Layout(16, 10),
    "F32": Layout(16, 7),
    "C64": Layout(16, 7),
    "F64": Layout(16, 4),
    "C128": Layout(16, 4),
    "F8_E4M3": Layout(8, 3),
    "F8_E4M3FNUZ": Layout(8, 3),
    "F8_E5M2": Layout(8, 2),
    "F8_E5M2FNUZ": Layout(8, 2),
}
_WORDS = {2: PAIR, 4: QUAD}
_LENGTH = struct.Struct("<I")


def layout_of(dtype: str) -> Layout | None:
    """Layout of the upper bits of a word, or None for whole numbers of more than a byte."""
    return _LAYOUTS.get(dtype) or (BYTE if DTYPES[dtype].bits <= 8 else None)


def encode(words: Array, dtype: str, layout: Layout, place: Place | None) -> memoryview:
    """Chunk of these words, unsigned and flat. The mirror image is `decode`.

    The planes below the upper 16 bits become chunks of their own: for 4-byte words one plane of 2 bytes, for 8-byte
    words one of 2 and one of 4 bytes.
    """
    axes = []
    if place is not None and not DTYPES[dtype].packed:
        halves = (2,) if DTYPES[dtype].kind == "complex" else ()
        axes = axes_of((*place.shape, *halves), place.start * 2 ** len(halves), words.size)
    upper, *lower = _planes(words)
    coded = fields.encode(np.ascontiguousarray(upper), layout, axes)
    pieces: list[bytes | memoryview] = [bytes([FIELDS]), _LENGTH.pack(len(coded)), coded]
    for plane in lower:
        chunk = encode_plane(np.ascontiguousarray(plane))
        pieces += [_LENGTH.pack(len(chunk)), chunk]
    return memoryview(b"".join(pieces))


def decode(data: memoryview, layout: Layout, words: Array) -> None:
    """Write the words of a chunk. Raises `ValueError` on bad bytes. The mirror image of `encode`."""
    rest = data[1:]
    planes = _planes(words)
    for number, plane in enumerate(planes):
        if len(rest) < _LENGTH.size:
            raise ValueError("a chunk ends within a length")
        (size,) = _LENGTH.unpack(rest[: _LENGTH.size])
        stored, rest = rest[_LENGTH.size : _LENGTH.size + size], rest[_LENGTH.size + size :]
        if len(stored) != size:
            raise ValueError(f"a plane of {len(stored)} bytes, not {size}")
        target = plane if len(planes) == 1 else np.empty(plane.shape, plane.dtype)
        if number:
            decode_plane(stored, target)
        else:
            fields.decode(stored, layout, target)
        if target is not plane:
            plane[:] = target
    if len(rest):
        raise ValueError(f"{len(rest)} bytes behind a chunk")


def encode_plane(words: Array) -> memoryview:
    """Chunk of whole numbers of 2 or 4 bytes."""
    return encode_planes(choose_modes(_WORDS[words.itemsize], words), words)


def decode_plane(data: memoryview, words: Array) -> None:
    """Write the words of a chunk of whole numbers. The mirror image of `encode_plane`."""
    decode_planes(data, _WORDS[words.itemsize], words)


def _planes(words: Array) -> list[Array]:
    """Views of the upper 16 bits of all words, or of their byte, and of what is below."""
    if words.itemsize <= 2:
        return [words]
    if words.itemsize == 4:
        halves = words.view("<u2").reshape(-1, 2)
        return [halves[:, 1], halves[:, 0]]
    halves, quarters = words.view("<u4").reshape(-1, 2), words.view("<u2").reshape(-1, 4)
    return [quarters[:, 3], quarters[:, 2], halves[:, 0]]

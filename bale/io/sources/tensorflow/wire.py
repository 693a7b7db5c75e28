"""The wire format of protocol buffers: fields by their numbers."""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _FIXED_64, _BYTES, _FIXED_32 = 0, 1, 2, 5


class Cut(ValueError):
    """A number or a field that ends early, or that is none."""


def varint(data: bytes, at: int) -> tuple[int, int]:
    """A number of up to 64 bits, and the place behind it."""
    if at < len(data) and data[at] < 0x80:  # as most are
        return data[at], at + 1
    value = shift = 0
    for byte in data[at : at + 10]:
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise Cut(f"no number at byte {at}")


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field: a number, or bytes."""
    return ((number, value) for number, value, _ in places(data))


def places(data: bytes) -> Iterator[tuple[int, int | bytes, int | None]]:
    """The same, and the offset of the value where that is a number of always four bytes."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        kind = key & 7
        if kind == _VARINT:
            value, at = varint(data, at)
            yield key >> 3, value, None
            continue
        size, at = varint(data, at) if kind == _BYTES else ({_FIXED_64: 8, _FIXED_32: 4}.get(kind, len(data)), at)
        if at + size > len(data):
            raise Cut(f"a field of {size} bytes at byte {at}")
        field = data[at : at + size]
        yield key >> 3, field if kind == _BYTES else int.from_bytes(field, "little"), at if kind == _FIXED_32 else None
        at += size

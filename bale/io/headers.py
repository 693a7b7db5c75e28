"""Headers of safetensors files: checks before a library reads one, and reasons where it refuses to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np

from bale.io.faults import Malformed, Unsupported, printable
from bale.notes import many
from bale.spec import DTYPES

ENTRY_LIMIT = 250_000
_VALUES = 10  # numbers and texts of an entry, at most, in headers that are looked at more closely
_BLOCK = 1 << 20
_METADATA = "__metadata__"


def check_entries(header: bytes) -> None:
    """Raise `Malformed` for a header with more entries than are looked at, by counting bytes."""
    if _too_many(header.count) and _too_many(_outside_texts(header)):  # in texts they mean nothing
        raise Malformed(f"its header has more than {ENTRY_LIMIT} entries")


def refuse(header: bytes, payload: int, reason: str) -> NoReturn:
    """Raise `Malformed` for a header that the library refuses for this reason, or `Unsupported` if it is merely odd.

    It is odd if what it says can be true of `payload` bytes behind it, and no reader of the format would object but for
    a dtype that is not known yet, or metadata that are not texts.
    """
    if _outside_texts(header)(b",") > _VALUES * ENTRY_LIMIT:
        raise Malformed(printable(reason))
    try:
        entries = json.loads(header.decode(), object_pairs_hook=_Map, parse_constant=_no_number)
        metadata = [entry for name, entry in entries if name == _METADATA]
        tensors = [_Entry.of(entry, payload) for name, entry in entries if name != _METADATA]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):  # the library's words are better
        raise Malformed(printable(reason)) from None
    last = max((entry.end for entry in tensors), default=0)
    if last > payload:
        raise Malformed(f"its tensors take {last} bytes and it has {payload}, as in a file that was cut")
    at = 0
    for entry in sorted(tensors, key=lambda each: (each.start, each.end)):
        if entry.start != at:
            raise Malformed("its tensors overlap" if entry.start < at else "there are gaps between its tensors")
        at = entry.end
    if payload > last:
        raise Malformed(f"it has {many(payload - last, 'byte')} more than its tensors make up")
    raise Unsupported(f"a safetensors file {_oddity(tensors, metadata) or _unread(reason)}")


def _oddity(tensors: list[_Entry], metadata: list[Any]) -> str:
    """The oddity of a header, in words after "a safetensors file"; empty where none is known."""
    unknown = next((entry.dtype for entry in tensors if entry.dtype not in DTYPES), None)
    if unknown is not None:
        return f"with the dtype {printable(unknown)!r}, which this bale does not know"
    if not all(each is None or (isinstance(each, _Map) and each.is_of_texts()) for each in metadata):
        return "whose metadata are not all texts"
    return ""


def _unread(reason: str) -> str:
    return f"that its library does not read ({printable(reason)})"


def _too_many(count: Callable[[bytes], int]) -> bool:
    # Structure cannot be hidden by escapes as names can: an entry has one brace and two brackets, and four colons.
    return min(count(b"{"), count(b"[") // 2) > ENTRY_LIMIT or count(b":") > 5 * ENTRY_LIMIT


def _outside_texts(header: bytes) -> Callable[[bytes], int]:
    """Counts a sign where it is in no string."""
    found, inside = np.zeros(256, np.int64), False
    plain = header.replace(rb"\\", b"").replace(rb"\"", b"")
    for at in range(0, len(plain), _BLOCK):
        block = np.frombuffer(plain, np.uint8, min(_BLOCK, len(plain) - at), at)
        within = np.logical_xor.accumulate(block == ord('"')) ^ inside
        inside = bool(within[-1])
        found += np.bincount(block[~within], minlength=256)
    return lambda sign: int(found[ord(sign)])


class _Map(list[tuple[str, Any]]):
    """The pairs of a JSON object, as they stand there."""

    def is_of_texts(self) -> bool:
        """Whether all values are."""
        return all(isinstance(value, str) for _, value in self)


class _Entry(NamedTuple):
    """The entry of a tensor in the header."""

    dtype: str
    start: int
    end: int

    @classmethod
    def of(cls, entry: _Map, payload: int) -> _Entry:
        """Read an entry; `ValueError`, or another error of wrong values, where it makes no sense."""
        fields = dict(entry)
        dtype, shape, (start, end) = fields["dtype"], fields["shape"], fields["data_offsets"]
        sizes = all(type(number) is int and number >= 0 for number in (start, end, *shape))
        if not sizes or start > end or type(dtype) is not str:
            raise ValueError("values that say nothing")
        bits = DTYPES[dtype].bits if dtype in DTYPES else 0
        if bits and _product(shape, 8 * payload) * bits != 8 * (end - start) <= 8 * payload:
            raise ValueError("a shape that is not that of its bytes")
        return cls(dtype, start, end)


def _product(shape: list[int], most: int) -> int:
    """Elements of a shape; no more is known of those that are above `most`."""
    if 0 in shape:
        return 0
    product = 1
    for length in shape:
        product *= length
        if product > most:
            break
    return product


def _no_number(name: str) -> None:
    raise ValueError(name)

"""NumPy's .npy files: one array behind a header that is a Python dict in text.

Versions 1 to 3 of the header, C and Fortran order, little and big endian (which stays exact), any alignment. Not
followed are arrays of records, of Python objects (a pickle), of texts and dates, and several arrays in one file. The
types of ml_dtypes (bfloat16, 8-bit floats) are written as mere bytes, without their names: they are exact.
"""

from __future__ import annotations

import re
import struct
from functools import lru_cache
from itertools import accumulate
from operator import mul
from pathlib import Path

from bale.io.checkpoint import Checkpoint
from bale.io.faults import Malformed, Unsupported, printable
from bale.io.sources.dtypes import BY_CODE
from bale.io.sources.storages import BIG_ENDIAN, ROOT
from bale.io.sources.unnamed import is_much
from bale.io.storage.bytes import ByteSource
from bale.notes import size as size_text
from bale.spec import TensorSpec, Unit, View

_MAGIC = b"\x93NUMPY"
_LENGTHS = {1: struct.Struct("<H"), 2: struct.Struct("<I"), 3: struct.Struct("<I")}  # by version, of the header
_HEAD = 128  # bytes: as far as nearly all headers reach
_HEADER_LIMIT = 1 << 16  # bytes: NumPy itself reads 10,000 unless told to trust a file
_RANK_LIMIT, _SIZE_LIMIT = 64, 1 << 62
_KEYS = {"descr", "fortran_order", "shape"}
_ITEM = re.compile(
    r"\s*(?P<quote>['\"])(?P<key>descr|fortran_order|shape)(?P=quote)\s*:\s*"
    r"(?:(?P<mark>['\"])(?P<text>[^'\"]*)(?P=mark)|(?P<flag>True|False)|\((?P<sizes>[\dL,\s]*)\))\s*(?:,\s*|(?=\}))"
)
_DESCR = re.compile(r"([<>|])([a-zA-Z]\d{0,2})")
_RAW = {"|V1": "U8", "<V1": "U8", "|V2": "U16", "<V2": "BF16"}  # bytes, the last as ml_dtypes writes bfloat16
_RAW_REASON = "NumPy knows its elements as mere bytes, as those of ml_dtypes"


def begins_as_npy(head: bytes) -> bool:
    """Whether a file begins as an array of NumPy."""
    return head.startswith(_MAGIC)


def read_npy(path: Path, source: ByteSource) -> Checkpoint:
    """Read a file by `numpy.save`; raise `Malformed` for one that was cut, `Unsupported` for what is not followed."""
    header, start = _header(source)
    spec, fortran, raw, swapped = _described(header)
    left = source.size - start
    if spec.nbytes > left:
        raise Malformed(f"its array takes {spec.nbytes} bytes and it has {left}, as in a file that was cut")
    _check_behind(source, start + spec.nbytes)
    exact = BIG_ENDIAN if swapped else _RAW_REASON if raw else None
    in_memory = TensorSpec(spec.dtype, spec.shape[::-1]) if fortran else spec
    unit = Unit(start, in_memory, (_view(spec, fortran),), exact, swapped)
    return Checkpoint(path, "npy", source.size, (unit,))


def _view(spec: TensorSpec, fortran: bool) -> View:
    """The array, of which the unit has the dimensions in the order of memory."""
    if not fortran or len(spec.shape) < 2 or not spec.elements:
        return View(ROOT, spec)
    return View(ROOT, spec, 0, tuple(accumulate(spec.shape[:-1], mul, initial=1)))


def _header(source: ByteSource) -> tuple[str, int]:
    """The text of the header, and the offset behind it."""
    head = source.read(min(source.size, _HEAD), 0)
    length = _LENGTHS.get(head[6]) if len(head) > 7 else None
    if length is None:
        raise Unsupported("a NumPy file of an unknown version")
    at = 8 + length.size
    if len(head) < at:
        raise Malformed("it ends within its header")
    (nbytes,) = length.unpack_from(head, 8)
    if nbytes > source.size - at:
        raise Malformed(f"it ends at byte {source.size}, within its header")
    if nbytes > _HEADER_LIMIT:
        raise Unsupported(f"a NumPy file with a header of {nbytes} bytes")
    end = at + nbytes
    text = head[at:end] if end <= len(head) else source.read(nbytes, at)
    return text.decode("latin-1"), end


@lru_cache(maxsize=64)
def _described(header: str) -> tuple[TensorSpec, bool, bool, bool]:
    """The spec, and whether it is in Fortran's order, of mere bytes, big-endian; members of an npz file are alike."""
    descr, fortran, shape = _fields(header)
    dtype, raw, swapped = _dtype(descr)
    return TensorSpec(dtype, shape), fortran, raw, swapped


def _fields(header: str) -> tuple[str, bool, tuple[int, ...]]:
    """Dtype, order and shape; the text is matched, never evaluated."""
    found: dict[str, re.Match[str]] = {}
    text = header.strip()
    at = int(text.startswith("{"))
    while (item := _ITEM.match(text, at)) is not None and item["key"] not in found:
        found[item["key"]] = item
        at = item.end()
    is_whole = text[at:].strip() == "}" and found.keys() == _KEYS
    if not is_whole or None in (found["descr"]["text"], found["fortran_order"]["flag"], found["shape"]["sizes"]):
        raise Unsupported("an array of NumPy whose header is not followed, as where elements are records")
    return found["descr"]["text"], found["fortran_order"]["flag"] == "True", _shape(found["shape"]["sizes"])


def _shape(text: str) -> tuple[int, ...]:
    sizes = [size.strip().removesuffix("L") for size in text.split(",")]
    if sizes[-1] == "":
        sizes.pop()
    if len(sizes) > _RANK_LIMIT or not all(size.isdecimal() and len(size) < 20 for size in sizes):
        raise Unsupported("an array of NumPy whose shape is not followed")
    shape = tuple(map(int, sizes))
    if max(shape, default=0) >= _SIZE_LIMIT:
        raise Unsupported("an array of NumPy with sizes beyond any array's")
    return shape


def _dtype(descr: str) -> tuple[str, bool, bool]:
    """A dtype, whether it merely stands for bytes, and whether it is big-endian."""
    match = _DESCR.fullmatch(descr)
    kind = "" if match is None else match[2]
    if descr in _RAW:
        return _RAW[descr], True, False
    if kind not in BY_CODE:
        what = "Python objects" if kind == "O" else f"dtype {printable(descr)!r}, which bale does not know"
        raise Unsupported(f"an array of NumPy of {what}")
    return BY_CODE[kind], False, descr.startswith(">")


def _check_behind(source: ByteSource, at: int) -> None:
    """Raise `Unsupported` where much lies behind the array, or another one: not all of it is understood."""
    left = source.size - at
    if left and (is_much(left, source.size) or begins_as_npy(source.read(min(left, len(_MAGIC)), at))):
        raise Unsupported(f"{size_text(left)} of {size_text(source.size)} lie behind an array of NumPy")

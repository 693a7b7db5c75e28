"""Writes TensorFlow checkpoints after their specification: so that tests need no library."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from itertools import takewhile
from pathlib import Path

import numpy as np

MAGIC = (0xDB4775248B80FB57).to_bytes(8, "little")
DTYPES = {"<f4": 1, "<f8": 2, "<i4": 3, "|u1": 4, "<i8": 9, "|b1": 10, "<f2": 19, ">f4": 1}
Pairs = Iterable[tuple[bytes, bytes]]


def varint(value: int) -> bytes:
    out = b""
    while value >= 0x80:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value) if value else b""


def nested(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def masked_crc(data: bytes) -> bytes:
    """The CRC-32C of bytes as LevelDB stores it, bit by bit of the definition."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    crc ^= 0xFFFFFFFF
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def entry(
    dtype: int, shape: tuple[int, ...], offset: int, size: int, shard: int = 0, data: bytes | None = None
) -> bytes:
    """The entry of a tensor, with the checksum of its bytes if these are given."""
    dimensions = b"".join(nested(2, number(1, each)) for each in shape)
    crc = varint(6 << 3 | 5) + (bytes(4) if data is None else masked_crc(data))
    return number(1, dtype) + nested(2, dimensions) + number(3, shard) + number(4, offset) + number(5, size) + crc


def block(pairs: Pairs) -> bytes:
    """A block without its trailer; keys share what they can."""
    out, last = b"", b""
    for key, value in pairs:
        shared = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(key, last, strict=False)))
        out += varint(shared) + varint(len(key) - shared) + varint(len(value)) + key[shared:] + value
        last = key
    return out + struct.pack("<II", 0, 1)


def table(*blocks: Pairs, kind: int = 0, checked: bool = False) -> bytes:
    """A table of several blocks, those of pairs with their checksums if these are wanted."""
    data, places = b"", []
    for pairs in blocks:
        places.append((list(pairs)[-1][0], len(data)))
        made = block(pairs) + bytes([kind])
        data += made + (masked_crc(made) if checked else bytes(4))
    ends = [*(at for _, at in places[1:]), len(data)]
    index = block((key, varint(at) + varint(end - at - 5)) for (key, at), end in zip(places, ends, strict=True))
    empty = struct.pack("<II", 0, 1)
    handles = varint(len(data)) + varint(len(empty)) + varint(len(data) + len(empty) + 5) + varint(len(index))
    return data + empty + bytes(5) + index + bytes(5) + handles.ljust(40, b"\0") + MAGIC


def header(shards: int = 1, big: bool = False) -> tuple[bytes, bytes]:
    return b"", number(1, shards) + number(2, int(big)) + nested(3, number(1, 1))


def checkpoint(folder: Path, values: Mapping[str, np.ndarray], stem: str = "m", text: bytes = b"") -> Path:
    """Write an index and a data file, whose path is returned; a text is a tensor of another kind, at the end."""
    data, pairs = b"", [header()]
    for name, value in sorted(values.items()):
        pairs.append((name.encode(), entry(DTYPES[value.dtype.str], value.shape, len(data), value.nbytes)))
        data += value.tobytes()
    if text:
        pairs.append((b"~text", entry(7, (), len(data), len(text))))
    path = folder / f"{stem}.data-00000-of-00001"
    path.write_bytes(data + text)
    path.with_name(f"{stem}.index").write_bytes(table(pairs[: len(pairs) // 2 + 1], pairs[len(pairs) // 2 + 1 :]))
    return path

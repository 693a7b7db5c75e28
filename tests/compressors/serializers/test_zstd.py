import struct

import pytest
import zstandard

from bale.compressors.serializers.zstd import Zstd
from bale.errors import UsageError

DATA = b"the same again, " * 500


@pytest.mark.parametrize("level", [1, 3, 19, 22])
@pytest.mark.parametrize("data", [b"", b"x", DATA, bytes(range(256)) * 40])
def test_round_trip(level, data):
    coded = Zstd(level).encode(data)
    assert zstandard.decompress(coded) == data
    assert Zstd().decode(memoryview(coded), len(data)) == data


def test_by_hand():
    """Magic, descriptor (single segment, one byte of content size), size, one raw last block of two bytes."""
    frame = struct.pack("<IBB", 0xFD2FB528, 0x20, 2) + (2 << 3 | 1).to_bytes(3, "little") + b"ab"
    assert Zstd().encode(b"ab") == frame
    assert Zstd().decode(frame, 2) == b"ab"


def test_empty_frame_is_always_the_same():
    assert {Zstd(level).encode(b"") for level in range(1, 23)} == {bytes.fromhex("28b52ffd2000010000")}


def test_size_is_compared_before_anything_is_allocated():
    huge = struct.pack("<IBQ", 0xFD2FB528, 0xE0, 1 << 60) + (1).to_bytes(3, "little")
    for size in (8, 1 << 59):
        with pytest.raises(ValueError, match="does not say"):
            Zstd().decode(huge, size)


def test_frame_without_size_is_refused():
    frame = zstandard.ZstdCompressor(write_content_size=False).compress(DATA)
    with pytest.raises(ValueError, match="does not say"):
        Zstd().decode(frame, len(DATA))


def test_damage_is_an_error():
    coded = Zstd().encode(DATA)
    for end in range(len(coded)):
        with pytest.raises(ValueError, match="zstd frame"):
            Zstd().decode(coded[:end], len(DATA))
    with pytest.raises(ValueError, match="zstd frame"):
        Zstd().decode(coded + b"\0", len(DATA))
    with pytest.raises(ValueError, match="zstd frame"):
        Zstd().decode(coded, len(DATA) + 1)
    with pytest.raises(ValueError, match="zstd frame"):
        Zstd().decode(b"", 0)


@pytest.mark.parametrize("level", [0, 23, -1, 3.0, "3"])
def test_level_is_checked(level):
    with pytest.raises(UsageError, match="level"):
        Zstd(level=level)

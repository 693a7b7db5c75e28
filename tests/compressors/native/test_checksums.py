"""CRC-32C: in C as in Python, and as others have it."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

import numpy as np
import pytest

from bale.compressors.kernels.checksums import TABLE, crc32c
from tests.compressors.native.both import assert_same, modules_without_c

Both = tuple[dict[str, ModuleType], dict[str, ModuleType]]
KNOWN = [
    (b"", 0),
    (b"123456789", 0xE3069283),
    (bytes(32), 0x8A9136AA),
    (b"\xff" * 32, 0x62A8AB43),
    (bytes(range(32)), 0x46DD794E),
]
"""The last three by RFC 3720."""


@pytest.fixture(scope="module")
def both() -> Both:
    with modules_without_c("checksums") as found:
        numba = dict(found)
    return {name: import_module(f"bale.compressors.kernels.{name}") for name in numba}, numba


@pytest.mark.parametrize(("data", "expected"), KNOWN)
def test_known_ones(data: bytes, expected: int) -> None:
    assert crc32c(np.frombuffer(data, np.uint8), TABLE, 0) == expected


@pytest.mark.parametrize("count", [0, 1, 7, 8, 9, 5003])
@pytest.mark.parametrize("crc", [0, 0xFFFFFFFF, 0x12345678])
def test_the_same_in_both(count: int, crc: int, both: Both) -> None:
    data = np.random.default_rng(count).integers(0, 256, count, np.uint8)
    assert_same("checksums", "crc32c", *both, data, TABLE, crc)
    assert_same("checksums", "crc32c", *both, data[1:], TABLE, crc)


def test_in_pieces() -> None:
    data = np.random.default_rng(0).integers(0, 256, 1000, np.uint8)
    for cut in (0, 1, 8, 500, 999, 1000):
        assert crc32c(data[cut:], TABLE, crc32c(data[:cut], TABLE, 0)) == crc32c(data, TABLE, 0)

"""CRC-32C, the checksum of TensorFlow, LevelDB and iSCSI."""

from __future__ import annotations

import numpy as np

from bale.compressors.kernels import compiled
from bale.spec import Array

_POLYNOMIAL = 0x82F63B78
_PLACES = 8


@compiled
def crc32c(data: Array, table: Array, crc: int) -> int:
    """The CRC-32C of bytes that follow those of `crc`, which is 0 for none.

    Parameters
    ----------
    data : Array
        uint8, shape ``(n,)``.
    table : Array
        `TABLE`.
    """
    state = np.uint32(crc) ^ np.uint32(0xFFFFFFFF)
    whole = data.size // 8 * 8
    for i in range(0, whole, 8):
        for k in range(4):
            state ^= np.uint32(data[i + k]) << np.uint32(8 * k)
        found = np.uint32(0)
        for k in range(4):
            found ^= table[7 - k, (state >> np.uint32(8 * k)) & np.uint32(255)]
            found ^= table[3 - k, data[i + 4 + k]]
        state = found
    for i in range(whole, data.size):
        state = (state >> np.uint32(8)) ^ table[0, (state ^ np.uint32(data[i])) & np.uint32(255)]
    return np.int64(state ^ np.uint32(0xFFFFFFFF))


def _table() -> Array:
    """What a byte does to a CRC, with 0 to 7 bytes of zeros behind it: uint32, shape ``(8, 256)``."""
    found = np.empty((_PLACES, 256), np.uint32)
    found[0] = np.arange(256)
    for _ in range(8):
        found[0] = (found[0] >> 1) ^ (found[0] & 1) * np.uint32(_POLYNOMIAL)
    for place in range(1, _PLACES):
        found[place] = (found[place - 1] >> 8) ^ found[0][found[place - 1] & 255]
    return found


TABLE = _table()

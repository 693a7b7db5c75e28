"""What the tests of the lossless codec share."""

from __future__ import annotations

import numpy as np
import zstandard

from bale.compressors.base import Values
from bale.compressors.lossless.codec import Lossless
from bale.spec import Array, TensorSpec

CODEC = Lossless()
SHAPES = ((), (0,), (3, 0), (1,), (7,), (33, 65), (2, 3, 4, 5, 6))


def encode(array: Array, dtype: str, shape: tuple[int, ...] | None = None) -> bytes:
    return bytes(CODEC.encode(Values(TensorSpec(dtype, array.shape if shape is None else shape), array)))


def check(array: Array, dtype: str, shape: tuple[int, ...] | None = None) -> bytes:
    """Encode, decode both ways, compare bits; the chunk."""
    spec = TensorSpec(dtype, array.shape if shape is None else shape)
    before = array.tobytes()
    chunk = encode(array, dtype, shape)
    assert array.tobytes() == before
    assert len(chunk) <= array.nbytes + 1
    fresh = CODEC.decode(memoryview(chunk), spec)
    assert (fresh.dtype, fresh.shape) == (spec.storage, spec.storage_shape)
    assert fresh.tobytes() == before
    out = np.full(spec.storage_shape, 1, spec.storage)
    assert CODEC.decode(memoryview(chunk), spec, None, out) is out
    assert out.tobytes() == before
    return chunk


def frame_of(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def bfloats(values: Array) -> Array:
    return (np.asarray(values, np.float32).view("<u4") >> 16).astype("<u2")


def weights(size: int, seed: int = 5) -> Array:
    return np.random.default_rng(seed).normal(scale=0.02, size=size).astype(np.float32)

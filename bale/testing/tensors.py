"""Tensors that codecs are tried on."""

from __future__ import annotations

import numpy as np

from bale.compressors.floats import from_float32
from bale.spec import Array, TensorSpec

LOSSY_DTYPES = ("F32", "F64", "F16", "BF16", "F8_E4M3", "F8_E5M2", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
"""The dtypes that a lossy codec can take and give back; all others of `bale.spec.DTYPES` are coded exactly."""

SHAPES = ((), (0, 3), (1,), (7,), (33, 65), (2, 3, 4, 5, 6))
"""A single value, no elements, a vector, a matrix, and more dimensions than most codecs think of."""

LARGEST = float(np.finfo(np.float32).max)

ROUNDING = {
    "F32": (2.0**-24, 2.0**-150),
    "F64": (2.0**-24, 2.0**-150),  # what is coded is its float32
    "F16": (2.0**-11, 2.0**-25),
    "BF16": (2.0**-8, 2.0**-134),
    "F8_E4M3": (2.0**-4, 2.0**-10),
    "F8_E5M2": (2.0**-3, 2.0**-17),
    "F8_E4M3FNUZ": (2.0**-4, 2.0**-11),
    "F8_E5M2FNUZ": (2.0**-3, 2.0**-18),
}
"""Unit roundoff, and half the least subnormal, of each of `LOSSY_DTYPES`."""


def rounding(y: Array, spec: TensorSpec) -> Array:
    """What rounding to the tensor's own dtype may have added to the error of each of the decoded values."""
    roundoff, least = ROUNDING[spec.dtype]
    return np.asarray(roundoff * 1.01 * np.abs(y) + least)


def random_bits(spec: TensorSpec, seed: int) -> Array:
    """Storage bits without any structure, NaN and infinity among them."""
    data = np.random.default_rng(seed).integers(0, 256, spec.nbytes, np.uint8)
    return data.view(spec.storage).reshape(spec.storage_shape)


def random_values(spec: TensorSpec, seed: int) -> Array:
    """Storage bits of normal deviates; random bits where the dtype has no values to speak of."""
    if spec.dtype not in LOSSY_DTYPES:
        return random_bits(spec, seed)
    values = np.random.default_rng(seed).normal(size=spec.shape).astype(np.float32)
    return from_float32(values, spec).reshape(spec.shape)


def adversarial(seed: int, ndim: int = 2, longest: int = 39) -> dict[str, Array]:
    """Float32 matrices, or tensors of more dimensions, that codecs tend to break on, by what is bad about them."""
    rng = np.random.default_rng(seed)
    shape = tuple(int(n) for n in rng.integers(1, longest + 1, ndim))
    plain = rng.normal(size=shape).astype(np.float32)
    outlier = plain.copy()
    outlier.flat[rng.integers(plain.size)] = 1e30
    zero_rows = plain.copy()
    zero_rows[::2] = 0
    return {
        "normal": plain,
        "all equal": np.full(shape, plain.flat[0], np.float32),
        "one outlier": outlier,
        "subnormal": (plain * np.float32(2**-60)) * np.float32(2.0**-80),
        "least subnormal": np.full(shape, np.float32(2.0**-149)),
        "zero rows": zero_rows,
        "zeros": np.zeros(shape, np.float32),
        "huge half": np.clip(plain * 60000, -65504, 65504).astype(np.float32),
        "largest": np.where(plain > 0, np.float32(LARGEST), np.float32(-LARGEST)),
        "positive": np.abs(plain) + 100,
        "mixed scales": plain * np.float32(10) ** rng.integers(-30, 30, shape).astype(np.float32),
        "of rank one": np.multiply.outer(plain[:, 0], plain[0]).reshape(shape) if ndim == 2 else plain[:1] + 0 * plain,
        "huge": plain * np.float32(2.0**110),
        "small": plain * np.float32(2.0**-110),
        "tiny": plain[tuple(slice(0, 2) for _ in shape)].copy(),
    }

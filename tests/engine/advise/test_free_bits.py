"""Free low bits, and narrower dtypes that hold all values."""

from __future__ import annotations

import numpy as np

from bale.engine.advise.free_bits import exact_dtypes, free_low_bits
from tests.making import weights


def test_free_low_bits() -> None:
    values = weights(64, 64)
    assert free_low_bits(values, "F32") == 0
    cut = (values.view("<u4") & ~np.uint32(0x7F)).view("<f4")
    assert free_low_bits(cut, "F32") == 7
    assert free_low_bits(values.astype("<f2").astype("<f4"), "F32") == 13
    assert free_low_bits(np.zeros(8, "<f4"), "F32") == 0
    assert free_low_bits(np.array([1.0, -2.0, 0.5], "<f4"), "F32") == 23
    assert free_low_bits(np.zeros(0, "<f4"), "F32") == 0
    assert free_low_bits(np.arange(8, dtype="<i4"), "I32") == 0


def test_exact_dtypes() -> None:
    values = weights(64, 64)
    assert exact_dtypes(values, "F32") == ()
    assert exact_dtypes(values.astype("<f2").astype("<f4"), "F32") == ("F16",)
    bf16 = (values.view("<u4") & np.uint32(0xFFFF0000)).view("<f4")
    assert "BF16" in exact_dtypes(bf16, "F32")
    assert exact_dtypes(values.astype("<f8"), "F64") == ("F32",)
    assert exact_dtypes(np.array([1.0, 2.0], "<f4"), "F32") == ("BF16", "F16")
    assert exact_dtypes(values.astype("<f2"), "F16") == ()


def test_infinities_and_zeros_with_a_sign_are_values_too() -> None:
    assert exact_dtypes(np.array([np.inf], "<f4"), "F32") == ()
    assert exact_dtypes(np.array([-0.0, 0.0], "<f4"), "F32") == ("BF16", "F16")

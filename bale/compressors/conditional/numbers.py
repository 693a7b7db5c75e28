"""Maps float bits to ordered integers, so that differences can be counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bale.compressors.kernels.differences import differences
from bale.spec import Array

_MANTISSA = {"BF16": 7, "F16": 10, "F32": 23, "F64": 20, "F8_E4M3": 3, "F8_E4M3FNUZ": 3, "F8_E5M2": 2, "F8_E5M2FNUZ": 2}
"""Bits of the mantissa; of F64 in its upper 32 bits."""

_LONGEST_CUT = 30
NO_DECAY = np.zeros(1, np.int64)


@dataclass(frozen=True)
class Numbers:
    """The bits of a word, those of the mantissa (0 for whole numbers), low bits that were cut off."""

    bits: int
    mantissa: int
    cut: int = 0

    @classmethod
    def of(cls, dtype: str, bits: int) -> Numbers:
        """The numbers of a dtype; of the upper half of longer words."""
        return cls(bits, _MANTISSA.get(dtype, 0))

    def without_zeros(self, words: Array, reference: Array) -> Numbers:
        """Without the low bits that are zero in all of both."""
        if int(np.bitwise_or.reduce(words[:64])) & 1:
            return self
        used = int(np.bitwise_or.reduce(words) | np.bitwise_or.reduce(reference))
        zeros = (used & -used).bit_length() - 1
        return Numbers(self.bits, self.mantissa, max(0, min(zeros, _LONGEST_CUT, (self.mantissa or self.bits) - 1)))

    @property
    def sign(self) -> int:
        """The bit of the sign."""
        return 1 << (self.bits - self.cut - 1)

    @property
    def fraction(self) -> int:
        """Bits of the mantissa that are left; whole numbers are all mantissa."""
        return self.mantissa - self.cut if self.mantissa else self.bits

    def spacings(self) -> Array:
        """For each exponent the spacing of floats, up to a factor for all."""
        exponents = np.maximum(np.arange((self.sign - 1 >> self.fraction) + 1), 1)
        spacings: Array = np.ldexp(1.0, np.clip(exponents - exponents.size // 2, -480, 480))
        return spacings

    def differences(self, words: Array, reference: Array, curve: Array = NO_DECAY) -> tuple[Array, Array]:
        """Distances of words from those of the reference, uint32, and whether they lie towards zero, uint8."""
        sizes, negative = np.empty(words.size, np.uint32), np.empty(words.size, np.uint8)
        if self.mantissa:
            differences(words, reference, self.sign, self.fraction, curve, sizes, negative)
        else:
            signed = (words - reference).view(f"<i{words.itemsize}").astype(np.int64)
            np.less(signed, 0, out=negative.view(np.bool_))
            np.copyto(sizes, np.abs(signed), casting="unsafe")
        return sizes, negative

"""The types of tensors in GGUF files, by their numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class GgmlType:
    """A type of elements: a dtype, or blocks of quantized ones.

    Attributes
    ----------
    dtype : str
        Of the elements; U8 for those of blocks.
    elements : int
        Of a block; 1 where there are none.
    width : int
        Bytes of a block.
    """

    name: str
    dtype: str
    elements: int = 1
    width: int = 1

    @property
    def is_quantized(self) -> bool:
        """Whether elements are in blocks."""
        return self.elements > 1


_FLOATS = {0: "F32", 1: "F16", 28: "F64", 30: "BF16"}
_WHOLE = {24: "I8", 25: "I16", 26: "I32", 27: "I64"}
_BLOCKS = {
    2: ("Q4_0", 32, 18),
    3: ("Q4_1", 32, 20),
    6: ("Q5_0", 32, 22),
    7: ("Q5_1", 32, 24),
    8: ("Q8_0", 32, 34),
    10: ("Q2_K", 256, 84),
    11: ("Q3_K", 256, 110),
    12: ("Q4_K", 256, 144),
    13: ("Q5_K", 256, 176),
    14: ("Q6_K", 256, 210),
    15: ("Q8_K", 256, 292),
    16: ("IQ2_XXS", 256, 66),
    17: ("IQ2_XS", 256, 74),
    18: ("IQ3_XXS", 256, 98),
    19: ("IQ1_S", 256, 50),
    20: ("IQ4_NL", 32, 18),
    21: ("IQ3_S", 256, 110),
    22: ("IQ2_S", 256, 82),
    23: ("IQ4_XS", 256, 136),
    29: ("IQ1_M", 256, 56),
    34: ("TQ1_0", 256, 54),
    35: ("TQ2_0", 256, 66),
    39: ("MXFP4", 32, 17),
    40: ("NVFP4", 64, 36),
}
TYPES = {
    **{number: GgmlType(name, name) for number, name in (_FLOATS | _WHOLE).items()},
    **{number: GgmlType(name, "U8", elements, width) for number, (name, elements, width) in _BLOCKS.items()},
}
"""Those that files hold; Q8_1 (9) is for intermediate results, and its size has changed."""

"""Names that libraries of Python give to dtypes, and bale's for the same."""

from __future__ import annotations

BY_CODE = {
    "b1": "BOOL",
    **{f"{kind}{bits // 8}": f"{name}{bits}" for kind, name in (("i", "I"), ("u", "U")) for bits in (8, 16, 32, 64)},
    "f2": "F16",
    "f4": "F32",
    "f8": "F64",
    "c8": "C64",
    "c16": "C128",
}
"""By kind and bytes, as numpy writes them."""

BY_NAME = {
    "bool": "BOOL",
    **{f"{kind}{bits}": f"{name}{bits}" for kind, name in (("int", "I"), ("uint", "U")) for bits in (8, 16, 32, 64)},
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
    "complex64": "C64",
    "complex128": "C128",
    "bfloat16": "BF16",
    "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
    "float8_e4m3fnuz": "F8_E4M3FNUZ",
    "float8_e5m2fnuz": "F8_E5M2FNUZ",
    "float8_e8m0fnu": "F8_E8M0",
}
"""By the names of numpy, of what ml_dtypes adds, and of torch, which has more."""

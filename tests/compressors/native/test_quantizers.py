"""Quantizers by loops in C give what they give by numpy, bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bale.compressors import floats
from bale.compressors.base import Quantizer, Values
from bale.compressors.floats import all_finite, from_float32
from bale.compressors.kernels import native
from bale.compressors.pipeline import Pipeline
from bale.spec import TensorSpec

PIPELINES = [
    "int8",
    "int4",
    "int:bits=1,zero=float",
    "int:bits=3,group=50,symmetric=true",
    "int:bits=5,group=column",
    "int:bits=4,group=7,rows=3",
    "int:bits=4,group=32,scale=log",
    "int:bits=2,clip=mse",
    "fp8",
    "fp8:scale=bf16",
    "nf4",
    "mxfp4",
    "codebook",
    "codebook:bits=6",
    "codebook:bits=2,group=row",
    "log",
    "nvfp4",
    "nvfp4:range=fixed",
    "mxfp6",
]
SHAPES = [(70, 1001), (1, 5), (300,), (4, 3, 50, 50)]


@pytest.fixture
def without_c(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    assert native.available()
    return monkeypatch


def tensor(shape: tuple[int, ...], spread: float) -> np.ndarray[Any, Any]:
    generator = np.random.default_rng(len(shape))
    rows = np.exp(spread * generator.standard_normal((*shape[:1], *[1] * (len(shape) - 1))))
    values = generator.standard_normal(shape) * rows
    values[generator.random(shape) < 0.05] = 0
    values[generator.random(shape) < 0.02] *= -0.0
    return values.astype(np.float32)


def coded(quantizer: Quantizer, values: Values) -> list[bytes]:
    parts = quantizer.encode(values)
    return [*(part.array.tobytes() for part in parts.values()), quantizer.decode(parts, values.spec).tobytes()]


@pytest.mark.parametrize("text", PIPELINES)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("spread", [0, 3, 25])
def test_same_parts_and_values(text: str, shape: tuple[int, ...], spread: float, without_c: pytest.MonkeyPatch) -> None:
    quantizer = Pipeline.parse(text).transforms[-1]
    assert isinstance(quantizer, Quantizer)
    array = tensor(shape, spread)
    values = Values(TensorSpec("F32", shape), np.clip(array, -20, 20) if "range=fixed" in text else array)
    found = coded(quantizer, values)
    with without_c.context() as patch:
        patch.setattr(native, "of", lambda name: None)
        assert coded(quantizer, values) == found


def test_bf16_is_rounded_alike(without_c: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    words = generator.integers(0, 1 << 32, 200_000).astype(np.uint32)
    words[:8] = [0, 1 << 31, 0x7F800000, 0xFF800000, 0x7F7F8000, 0x3F808000, 0x3F818000, 0x7FC00001]
    values, spec = words.view(np.float32), TensorSpec("BF16", words.shape)
    found = from_float32(values, spec)
    finite = [all_finite(values), all_finite(values[np.isfinite(values)])]
    with without_c.context() as patch:
        patch.setattr(floats.native, "of", lambda name: None)
        assert from_float32(values, spec).tobytes() == found.tobytes()
        assert [all_finite(values), all_finite(values[np.isfinite(values)])] == finite == [False, True]

"""Scales of groups: rounded up, never zero."""

import numpy as np
import pytest

from bale.compressors.quantizers import scales
from bale.compressors.quantizers.scales import DOUBLE, load, store, values
from bale.errors import Refused

KINDS = ("auto", "fp16", "bf16", "fp32", "fp8", "log", DOUBLE)


def back(wanted, kind):
    wanted = np.array(wanted, np.float32)
    found = values(store(wanted, kind))
    bounds = {part.name: part for part in scales.parts(kind, wanted.size)}
    assert found.keys() == bounds.keys()
    assert all(part.array.shape == bounds[name].spec.shape for name, part in found.items())
    return found, load(found, kind, wanted.size, slice(0, wanted.size))


def test_floats_of_8_bits_by_hand():
    parts, again = back([448, 1, 1.0625, 2.0**-12, 0], "fp8")
    assert parts["scale.range"].array.tolist() == [1]
    assert parts["scale"].array.tolist() == [0x7E, 0x38, 0x39, 0x01, 0x01]  # 448, 1, 1.125, 2^-9 twice
    assert again.tolist() == [448, 1, 1.125, 2.0**-9, 2.0**-9]


def test_bfloat16_by_hand():
    parts, again = back([1, 1.0001, 1 + 2.0**-7, 3e38, 0], "bf16")
    assert parts["scale"].array.tolist() == [0x3F80, 0x3F81, 0x3F81, 0x7F62, 0x3F80]
    assert again[:3].tolist() == [1, 1 + 2.0**-7, 1 + 2.0**-7]


def test_logarithmic_by_hand():
    parts, again = back([2.0**-3, 2.0**122, 1, 1.5], "log")
    assert parts["scale.range"].array.tolist() == [2.0**-3, 2.0**122]
    assert parts["scale"].array.tolist() == [0, 255, 7, 8]
    # 125 / 255 of an octave each: 3.4314 and 3.9216 octaves above 1/8, between powers of two straight lines
    assert again[2:].tolist() == pytest.approx([1.4314, 1.9216], abs=1e-4)


def test_double_by_hand():
    wanted = np.full(257, 255.0, np.float32)
    wanted[:3] = 1, 1.5, 1e-9
    wanted[256] = 51
    parts, again = back(wanted, DOUBLE)
    assert parts["scale.range"].array.tolist() == [1, np.float32(0.2)]
    assert parts["scale"].array[[0, 1, 2, 3, 256]].tolist() == [1, 2, 1, 255, 255]
    assert again[[0, 1, 2]].tolist() == [1, 2, 1]
    assert again[256] >= 51


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", range(20))
def test_never_below_and_never_zero(kind, seed):
    rng = np.random.default_rng(seed)
    size, spread = int(rng.integers(1, 600)), float(rng.choice([0, 1, 5, 35]))
    if kind == "fp16":
        spread = min(spread, 1)
    wanted = np.float32(10) ** (spread * rng.uniform(-1, 1, size)).astype(np.float32)
    wanted[rng.random(size) < 0.1] = 0
    _, again = back(wanted, kind)
    assert (again >= wanted).all()
    assert (again > 0).all()
    assert np.isfinite(again).all()
    assert wanted.max() == 0 or again[wanted.argmax()] <= wanted.max() * (1 + 2.0 ** (-7 if kind == "bf16" else -10))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("only", [0.0, 1.0, 2.0**-149, float(np.finfo(np.float32).max)])
def test_extremes(kind, only):
    if kind == "fp16" and only not in (0, 1):
        with pytest.raises(Refused, match="F16"):
            back([only] * 3, kind)
        return
    if kind == "bf16" and only > 2:
        with pytest.raises(Refused, match="beyond BF16"):
            back([only] * 3, kind)
        return
    _, again = back([only] * 3, kind)
    assert (again >= only).all()
    assert (again > 0).all()
    assert np.isfinite(again).all()


def test_too_large_is_refused():
    with pytest.raises(Refused, match="beyond"):
        store(scales.rounded_up(np.array([1e39])), "auto")


def test_forged_parts():
    found, _ = back([1, 2], "fp8")
    found["scale"].array[0] = 0x7F
    with pytest.raises(ValueError, match="not a number"):
        load(found, "fp8", 2, slice(0, 2))
    with pytest.raises(ValueError, match="3 groups"):
        load(found, "fp8", 3, slice(0, 3))

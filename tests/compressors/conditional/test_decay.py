"""Weight decay as a function of the mantissa."""

import numpy as np
import pytest

from bale.compressors.conditional import delta
from bale.compressors.conditional.decay import Decay, find
from bale.compressors.conditional.numbers import Numbers
from bale.compressors.contexts.axes import axes_of

F32 = Numbers.of("F32", 32)


def words(values):
    return values.astype(np.float32).reshape(-1).view(np.uint32)


def decayed(base, moved, steps=300, rate=2e-5, seed=0):
    """What AdamW makes of a matrix, with a weight decay of 0.01 and gradients of some rows only."""
    rng = np.random.default_rng(seed)
    values = base.astype(np.float32)
    for _ in range(steps):
        values = values * np.float32(1 - 0.01 * rate)
    rows = rng.random((base.shape[0], 1)) < moved
    return np.where(rows, values + np.float32(rate) * rng.standard_normal(base.shape).astype(np.float32), values)


def test_curve_by_hand():
    # BF16: 128 values from 1.0 to 2.0; half of each is lost.
    numbers = Numbers.of("BF16", 16)
    assert Decay(1 << 31).curve(numbers).tolist() == [64 + (i + 1) // 2 for i in range(129)]
    known = np.array([0x3F80, 0x3FFF, 0xBF80, 0x0001, 0x0000, 0x8000], np.uint16)
    sizes, negative = numbers.differences(known, known, Decay(1 << 31).curve(numbers))
    assert sizes.tolist() == [64, 128, 64, 0, 0, 0]  # subnormal ones stay
    assert not negative.any()


def test_curve_is_straight_between_knots():
    knots = np.zeros(257, np.int64)
    knots[:3] = 0, 1000, 500
    known = np.array([0x3F800000 + part for part in (0, 0x4000, 0x8000, 0xC000, 0x10000)], np.uint32)
    sizes, _ = F32.differences(known, known, knots)
    assert sizes.tolist() == [0, 500, 1000, 750, 500]


@pytest.mark.parametrize("rate", [2e-5, 2e-4])
def test_staircase_of_rounded_steps_is_found(rate):
    base = 0.05 * np.random.default_rng(1).standard_normal((800, 256))
    known, now = words(base), words(decayed(base, 0.2, rate=rate))
    lost = find(now, known, F32)
    assert lost.knots is not None
    still = (words(decayed(base, 0, rate=rate)) == now).reshape(base.shape).all(axis=1)
    sizes, _ = F32.differences(now, known, lost.curve(F32))
    assert (sizes.reshape(base.shape)[still] == 0).mean() > 0.85
    data = delta.encode(now, known, "F32", axes_of(base.shape, 0, base.size))
    assert 8 * len(data) < 5 * base.size  # 8 bits and more with no curve


def test_smooth_decay_is_one_number():
    rng = np.random.default_rng(2)
    base = rng.standard_normal((256, 256)).astype(np.float32)
    noise = (1e-6 * rng.standard_normal(base.shape)).astype(np.float32)
    lost = find(words(base * np.float32(1 - 1e-3) + noise), words(base), F32)
    assert lost.knots is None
    assert lost.share == pytest.approx(1e-3 * 2**32, rel=1e-3)
    axes = axes_of(base.shape, 0, base.size)
    one, other = (
        len(delta.encode(words(each), words(base), "F32", axes))
        for each in (base * np.float32(1 - 1e-3) + noise, base + noise)
    )
    assert one < 1.05 * other  # 13 bits a weight without


def test_nothing_is_found_where_nothing_is_lost():
    rng = np.random.default_rng(3)
    base = rng.standard_normal((256, 256))
    assert find(words(base + 1e-3 * rng.standard_normal(base.shape)), words(base), F32) == Decay()
    assert find(words(base * 1.001), words(base), F32) == Decay()
    assert find(words(base[:4]), words(base[:4]), F32) == Decay()
    assert find(words(base), words(base), Numbers.of("I32", 32)) == Decay()


def test_knots_come_back():
    knots = np.cumsum(np.random.default_rng(4).integers(0, 9, 257))
    lost, rest = Decay.read(Decay(0, knots).code, memoryview(Decay(0, knots).write() + b"x"), F32)
    assert (lost.curve(F32) == knots).all()
    assert bytes(rest) == b"x"


def test_knots_out_of_range_are_refused():
    for value in (-1, (1 << 23) + 1):
        with pytest.raises(ValueError, match="a decay makes no sense"):
            Decay.read(1 << 31, memoryview(Decay(0, np.full(257, value)).write()), F32)
    for code in (1 << 30, (1 << 31) + 1):
        with pytest.raises(ValueError, match="a decay makes no sense"):
            Decay.read(code, memoryview(b""), F32)
    with pytest.raises(ValueError, match="a decay makes no sense"):
        Decay.read(5, memoryview(b""), Numbers.of("I32", 32))

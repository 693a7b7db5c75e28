"""How bytes are spread over tensors, against what is possible at best."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from bale.compressors.base import Values
from bale.compressors.trellis.codec import Trellis
from bale.planning.allocate import EMBEDDING, FIRST, TIED, WEIGHT, Curve, Item, offsets, solve_error, solve_size
from bale.spec import TensorSpec
from tests.soak import few

STEPS = np.arange(-10.0, 4.0)


def item(elements: int = 1000, deviation: float = 1.0, kind: str = WEIGHT, bend: float = 0.0, **more: float) -> Item:
    """A tensor of normal deviates, roughly: n d^2 / 12, and log2(deviation / d) + 2 bits, less where those are few."""
    steps = STEPS + np.log2(deviation)
    rates = np.log2(deviation) - steps + 2.05
    bits = np.log2(1 + 2.0 ** (1.5 * rates)) / 1.5 + bend
    error2 = np.minimum(np.log2(elements / 12) + 2 * steps, np.log2(elements * deviation**2))
    return Item(elements, elements * deviation**2, Curve(steps, bits, error2), kind, **more)


def spent(items: list[Item], factors: np.ndarray, step: float) -> float:
    return sum(each.size(step + factor) for each, factor in zip(items, factors, strict=True))


def test_hand_computed_curve() -> None:
    curve = Curve(np.array([0.0, 1.0, 2.0]), np.array([4.0, 3.0, 2.5]), np.array([-2.0, 0.0, 2.0]))
    assert curve.bits_at(0) == 4
    assert curve.bits_at(0.5) == 3.53125  # slopes -0.5 (one-sided, halved) and -0.75 at the ends
    assert curve.bits_at(-2) == 6  # a bit more for each octave below
    assert curve.bits_at(9) == 2.5
    assert curve.error2_at(1) == 1
    assert curve.error2_at(-1) == 2.0**-4
    moved = curve.through(1.0, 3.3, 4.0)
    assert moved.bits_at(1) == pytest.approx(3.3)
    assert moved.bits_at(0) == pytest.approx(4.3)
    assert moved.error2_at(1) == pytest.approx(4)
    assert Curve(curve.steps, curve.bits, curve.error2, finest=-1).bits_at(-5) == 5


def test_a_size_is_met() -> None:
    items = [item(1000, 1), item(5000, 0.02), item(300, 7)]
    factors = offsets(items, "quality")
    for limit in (600.0, 1500.0, 4000.0):
        step = solve_size(items, factors, limit)
        assert step is not None
        assert spent(items, factors, step) == pytest.approx(limit, rel=1e-6)


def test_an_error_is_met() -> None:
    items = [item(1000, 1), item(5000, 0.02), item(300, 7)]
    factors = offsets(items, "relative")
    limit2 = 0.03**2 * sum(each.norm2 for each in items)
    step = solve_error(items, factors, limit2)
    assert sum(each.error2(step + f) for each, f in zip(items, factors, strict=True)) == pytest.approx(limit2, rel=1e-6)


def test_less_than_the_least_is_none() -> None:
    items = [item(1000, least=64.0), item(1000, least=64.0)]
    assert solve_size(items, np.zeros(2), 127) is None
    assert solve_size(items, np.zeros(2), 400) is not None
    assert solve_size([], np.zeros(0), 1) == 0
    assert solve_size([], np.zeros(0), -1) is None


def test_no_tensor_takes_more_than_without_loss() -> None:
    items = [item(1000, lossless=300.0), item(1000)]
    step = solve_size(items, np.zeros(2), 1500)
    assert step is not None
    assert items[1].size(step) == pytest.approx(1200)


@pytest.mark.parametrize("seed", few(range(200), 40))
def test_absolute_errors_are_as_small_as_can_be(seed: int) -> None:
    """Within half a per cent of the least error in as many bytes, of all choices of 25 steps for each tensor."""
    rng = np.random.default_rng(seed)
    items = [sampled(rng) for _ in range(int(rng.integers(2, 5)))]
    limit = float(rng.uniform(2, 7)) * sum(each.elements for each in items) / 8
    step = solve_size(items, np.zeros(len(items)), limit)
    assert step is not None
    assert sum(each.error2(step) for each in items) <= 1.005 * least_error2(items, limit)


def sampled(rng: np.random.Generator) -> Item:
    """A tensor of one of some distributions, with any scale and size, and the curve that the codec measures."""
    steps, bits, errors, variance = measured(int(rng.integers(6)))
    elements, scale = int(rng.integers(1000, 100_000)), float(rng.uniform(-3, 2))
    curve = Curve(steps + scale, bits, np.log2(elements * errors) + 2 * scale)
    return Item(elements, elements * variance * 4.0**scale, curve)


@cache
def measured(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    rng = np.random.default_rng(seed)
    draw = (rng.standard_normal, rng.laplace, rng.logistic)[seed % 3]
    x = draw(size=(100, 200)).astype(np.float32)
    member = Trellis().member(Values(TensorSpec("F32", x.shape), x), x.size)
    found = [member.trial(2.0**step, True) for step in STEPS]
    sizes, errors = (np.array([getattr(each, name) for each in found]) / x.size for name in ("size", "error2"))
    return STEPS, 8 * sizes, errors, float(np.square(x).mean())


def least_error2(items: list[Item], limit: float) -> float:
    sizes, errors2 = np.zeros(1), np.zeros(1)
    for each in items:
        menu = np.linspace(each.curve.steps[0], each.curve.steps[-1], 25).tolist()
        sizes = np.add.outer(sizes, [each.size(step) for step in menu]).reshape(-1)
        errors2 = np.add.outer(errors2, [each.error2(step) for step in menu]).reshape(-1)
    return float(errors2[sizes <= limit].min())


def test_weights() -> None:
    small, large = item(2**8, 1.0), item(2**16, 4.0)
    assert offsets([small, large], "absolute").tolist() == [0, 0]
    assert np.diff(offsets([small, large], "relative")) == pytest.approx([2])
    assert np.diff(offsets([small, large], "quality")) == pytest.approx([2])  # 2^16 / 2^8 by a quarter


def test_embeddings() -> None:
    rest = [item(2**10) for _ in range(3)]
    plain = offsets([*rest, item(2**20)], "quality")
    looked_up = offsets([*rest, item(2**20, kind=EMBEDDING)], "quality")
    tied = offsets([*rest, item(2**20, kind=TIED)], "quality")
    assert plain[3] - plain[0] == pytest.approx(2.5)
    assert looked_up[3] - looked_up[0] == pytest.approx(2)
    assert tied[3] - tied[0] == pytest.approx(0)
    assert offsets([item(kind=TIED)], "quality").size == 1


def test_kinds_get_the_same_relative_error() -> None:
    items = [item(1000, 1.0), item(2000, 0.5), item(1000, 1e-4, FIRST), item(500, 3e-4, FIRST)]
    factors = offsets(items, "quality")
    weights, moments = items[:2], items[2:]

    def relative(own: list[Item], own_factors: np.ndarray) -> float:
        lost = sum(each.elements * 4**f for each, f in zip(own, own_factors, strict=True))
        return float(lost / sum(each.norm2 for each in own))

    assert relative(weights, factors[:2]) == pytest.approx(relative(moments, factors[2:]))


def test_no_moment_is_erased_for_others() -> None:
    items = [item(1000, 2.0**-k, FIRST) for k in range(0, 40, 4)]
    relative = offsets(items, "quality") - np.array([np.log2(each.norm2 / each.elements) / 2 for each in items])
    assert np.ptp(relative) <= 4


def test_a_curve_that_is_raised_still_comes_to_nothing() -> None:
    curve = Curve(np.arange(14.0), np.maximum(6.0 - np.arange(14), 0), 2 * np.arange(14.0))
    raised = curve.through(5.5, curve.bits_at(5.5) + 0.6, 2.0**11)
    assert raised.bits_at(5.5) == pytest.approx(curve.bits_at(5.5) + 0.6)
    assert raised.bits_at(13.0) == 0
    assert (np.diff(raised.bits) <= 0).all()

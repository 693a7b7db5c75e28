"""Updates of low rank: the product comes back, and takes far less than the update."""

import tracemalloc

import numpy as np
import pytest

from bale.compressors.conditional import delta
from bale.compressors.conditional.adapter import Product, find
from bale.compressors.contexts.axes import Axis, axes_of
from bale.compressors.kernels.differences import add_product, eliminate

SHAPE = (300, 192)


def bf16(values):
    return (values.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)


def words(values, dtype):
    if dtype == "BF16":
        return bf16(values).reshape(-1)
    kind = {"F16": np.float16, "F32": np.float32}[dtype]
    return values.astype(kind).reshape(-1).view(f"<u{np.dtype(kind).itemsize}")


def merged(dtype, rank=4, shape=SHAPE, seed=0):
    rng = np.random.default_rng(seed)
    base = 0.05 * rng.standard_normal(shape)
    update = 0.002 * rng.standard_normal((shape[0], rank)) @ rng.standard_normal((rank, shape[1]))
    return words(base + update, dtype), words(base, dtype), axes_of(shape, 0, base.size)


def round_trip(now, known, dtype, axes):
    data = delta.encode(now, known, dtype, axes)
    out = np.empty_like(now)
    delta.decode(memoryview(data), known, dtype, out)
    assert (out == now).all()
    return data


def test_sums_are_in_order():
    left, right = np.array([[1.0, 1e16, -1e16]]), np.array([[1.0, 2.0], [1.0, 1.0], [1.0, 1.0]])
    out = np.zeros((1, 2))
    add_product(left, right, out)
    assert out.tolist() == [[0.0, 2.0]]  # 1 + 1e16 rounds to 1e16; 2 + 1e16 is exact


def test_elimination_by_hand():
    matrix = np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [0.0, 0.0, 1.0]])
    rows, bits = np.arange(3), np.zeros(3, np.int64)
    eliminate(matrix, np.full(3, 2.0**-20), rows, bits)
    assert rows.tolist()[:2] == [1, 2]  # the largest first; the row of halves is nothing then
    assert bits[2] == pytest.approx(-10 << 16, abs=16)


def test_product_by_hand():
    # Rows of four, of which a chunk begins with the last element of one.
    known = np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], np.float32).view(np.uint32)
    left, right = np.array([[1.0], [2.0], [3.0]], np.float32), np.array([[1.0, 0.0, 10.0, 100.0]], np.float32)
    product = Product(Axis(1, 3, 4), left, right, (0, 1))
    added = product.added(known, "F32").view(np.float32)
    assert added.tolist() == [201.0, 6.0, 3.0, 44.0, 405.0, 12.0]
    again, rest = Product.read(memoryview(product.write() + b"rest"), "F32", 6)
    assert bytes(rest) == b"rest"
    assert (again.added(known, "F32") == product.added(known, "F32")).all()


@pytest.mark.parametrize(("dtype", "share"), [("BF16", 0.5), ("F16", 0.45), ("F32", 0.25)])
def test_merged_adapter_takes_little(dtype, share):
    now, known, axes = merged(dtype)
    product = find(now, known, dtype, axes)
    assert product is not None
    assert 4 <= product.left.shape[1] <= 6
    assert len(round_trip(now, known, dtype, axes)) < share * len(delta._encode(now, known, dtype, axes))


def test_chunks_that_begin_within_a_row():
    now, known, _ = merged("F32")
    start = 100
    axes = axes_of(SHAPE, start, now.size - start)
    data = round_trip(now[start:], known[start:], "F32", axes)
    assert len(data) < 0.3 * len(delta._encode(now[start:], known[start:], "F32", axes))


def test_updates_of_full_rank_are_left_alone():
    rng = np.random.default_rng(1)
    base = rng.standard_normal(SHAPE)
    axes = axes_of(SHAPE, 0, base.size)
    moved = rng.random((SHAPE[0], 1)) < 0.05  # few rows, which a sample of rows spans
    for update in (rng.standard_normal(SHAPE), moved * rng.standard_normal(SHAPE), np.zeros(SHAPE)):
        assert find(words(base + 1e-2 * update, "F32"), words(base, "F32"), "F32", axes) is None


def test_numbers_that_are_not_finite_are_left_alone():
    now, known, axes = merged("F32")
    for place in (0, 5000):
        broken = now.copy()
        broken[place] = 0x7FC00001
        assert find(broken, known, "F32", axes) is None
        round_trip(broken, known, "F32", axes)


@pytest.mark.parametrize("power", [-140, -60, 60, 120])
def test_values_of_every_size(power):
    rng = np.random.default_rng(2)
    base = rng.standard_normal(SHAPE)
    tuned = base + 0.1 * rng.standard_normal((SHAPE[0], 2)) @ rng.standard_normal((2, SHAPE[1]))
    now, known = (words(np.ldexp(each, power), "F32") for each in (tuned, base))
    axes = axes_of(SHAPE, 0, base.size)
    assert find(now, known, "F32", axes) is not None
    round_trip(now, known, "F32", axes)


def test_damage_is_an_error_or_other_words():
    now, known, axes = merged("BF16", shape=(80, 64))
    data = round_trip(now, known, "BF16", axes)
    assert data[0] == delta._ADAPTED
    out = np.empty_like(now)
    for end in range(0, len(data), 7):
        with pytest.raises(ValueError):  # noqa: PT011
            delta.decode(memoryview(data[:end]), known, "BF16", out)
    for at in (*range(40), *range(40, len(data), 11)):
        flipped = bytearray(data)
        flipped[at] ^= 0xFF
        try:
            delta.decode(memoryview(flipped), known, "BF16", out)
        except ValueError:
            continue
    product = data[: data.index(bytes([delta._CODED]), 1)]
    with pytest.raises(ValueError):  # noqa: PT011
        delta.decode(memoryview(product + data), known, "BF16", out)


def test_it_takes_no_more_memory_than_a_difference_does():
    """So much is what a job says that it holds; see `bale.engine.coding.exact`."""
    now, known, axes = merged("BF16", shape=(1024, 1024))
    data = round_trip(now, known, "BF16", axes)
    assert data[0] == 2
    out = np.empty_like(now)
    tracemalloc.start()
    for call in (
        lambda: delta.encode(now, known, "BF16", axes),
        lambda: delta.decode(memoryview(data), known, "BF16", out),
    ):
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        call()
        assert tracemalloc.get_traced_memory()[1] - before < 20 * now.size
    tracemalloc.stop()

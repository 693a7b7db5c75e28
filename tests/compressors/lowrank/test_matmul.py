from fractions import Fraction

import numpy as np
import pytest

from bale.compressors.lowrank.matmul import exact_matmul


def matrices(m, r, n, seed, spread=0):
    rng = np.random.default_rng(seed)
    u = rng.normal(size=(m, r)) * 2.0 ** rng.integers(-spread, spread + 1, (m, r))
    v = rng.normal(size=(r, n)) * 2.0 ** rng.integers(-spread, spread + 1, (r, n))
    return u.astype(np.float32), v.astype(np.float32)


def to_fixed(row, bits):
    """Whole numbers and their unit, in exact arithmetic; ties to even."""
    largest = max(abs(Fraction(float(x))) for x in row)
    exponent = 0
    while largest and largest >= Fraction(2) ** exponent:
        exponent += 1
    while largest and largest < Fraction(2) ** (exponent - 1):
        exponent -= 1
    unit = Fraction(2) ** (exponent - bits)
    return [round(Fraction(float(x)) / unit) for x in row], unit


def reference(u, v):
    """The definition, with fractions."""
    r = u.shape[1]
    whole = 53 - max(r - 1, 0).bit_length()
    rows = [to_fixed(row, whole // 2) for row in u]
    columns = [to_fixed(column, whole - whole // 2) for column in v.T]
    exact = [[sum(a * b for a, b in zip(left, right, strict=True)) * s * t for right, t in columns] for left, s in rows]
    return np.array([[float(x) for x in row] for row in exact]).astype(np.float32)


def test_by_hand():
    u = np.array([[1, 2], [3, 4]], np.float32)
    v = np.array([[5, 6, 0], [7, -8, 0.5]], np.float32)
    assert exact_matmul(u, v).tolist() == [[19, -10, 1], [43, -14, 2]]


@pytest.mark.parametrize(("m", "r", "n", "spread"), [(3, 1, 4, 0), (5, 7, 6, 3), (4, 33, 3, 20), (2, 64, 2, 60)])
def test_against_fractions(m, r, n, spread):
    u, v = matrices(m, r, n, seed=r, spread=spread)
    assert exact_matmul(u, v).tobytes() == reference(u, v).tobytes()


def test_order_and_blocks_make_no_difference(monkeypatch):
    u, v = matrices(70, 129, 65, seed=1, spread=4)
    whole = exact_matmul(u, v)
    order = np.random.default_rng(2).permutation(129)
    assert exact_matmul(u[:, order], v[order]).tobytes() == whole.tobytes()
    assert exact_matmul(np.asfortranarray(u), np.asfortranarray(v)).tobytes() == whole.tobytes()
    for block in (1, 65 * 3, 65 * 64):
        monkeypatch.setattr("bale.compressors.lowrank.matmul._BLOCK", block)
        assert exact_matmul(u, v).tobytes() == whole.tobytes()
    assert np.concatenate([exact_matmul(u[i : i + 1], v) for i in range(70)]).tobytes() == whole.tobytes()
    assert np.concatenate([exact_matmul(u, v[:, i : i + 1]) for i in range(65)], axis=1).tobytes() == whole.tobytes()


def test_threads_make_no_difference():
    from threadpoolctl import threadpool_limits

    u, v = matrices(300, 200, 300, seed=3)
    with threadpool_limits(1):
        one = exact_matmul(u, v)
    with threadpool_limits(2):
        assert exact_matmul(u, v).tobytes() == one.tobytes()


@pytest.mark.parametrize("r", [1, 64, 128, 1000, 5000])
def test_accuracy(r):
    u, v = matrices(20, r, 30, seed=r)
    whole = 53 - max(r - 1, 0).bit_length()
    lost = 2.0 ** -(whole // 2) + 2.0 ** -(whole - whole // 2)
    true = u.astype(np.longdouble) @ v.astype(np.longdouble)
    bound = r * np.abs(u).max(axis=1)[:, None] * np.abs(v).max(axis=0) * lost + np.abs(true) * 2.0**-23
    assert (np.abs(exact_matmul(u, v) - true) <= bound).all()
    assert whole // 2 >= (23 if r <= 128 else 20)


def test_extremes():
    u = np.array([[3e38, 3e38], [0, 0], [2.0**-149, 0]], np.float32)
    v = np.array([[3e38, -3e38, 1], [3e38, 0, 0]], np.float32)
    largest = np.finfo(np.float32).max
    product = exact_matmul(u, v)
    assert product[0].tolist() == [largest, -largest, np.float32(3e38)]
    assert product[1].tolist() == [0, 0, 0]
    assert product[2, 2] == np.float32(2.0**-149)


def test_worst_case_sums_stay_exact():
    """All entries at the largest fixed-point number: the sum is exactly 2^53 units at a power of two."""
    u = np.full((2, 64), np.float32(1) - np.float32(2**-24))
    assert exact_matmul(u, u.T.copy()).tobytes() == reference(u, u.T).tobytes()

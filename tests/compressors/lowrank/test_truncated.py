import numpy as np
import pytest

from bale.compressors.lowrank import truncated
from bale.compressors.lowrank.truncated import eigenvectors, gram, squares, truncated_svd, truncated_svd_to


def matrix_of(m, n, values, seed=0):
    rng = np.random.default_rng(seed)
    left, _ = np.linalg.qr(rng.normal(size=(m, len(values))))
    right, _ = np.linalg.qr(rng.normal(size=(n, len(values))))
    return ((left * values) @ right.T).astype(np.float32)


def is_sound(found, matrix):
    product = (found.u * found.s) @ found.vh.astype(np.float64)
    error2 = float(np.square(product - matrix.astype(np.float64)).sum())
    k = found.s.size
    return (
        np.abs(found.u.T @ found.u - np.eye(k)).max() < 1e-4
        and np.abs(found.vh @ found.vh.T - np.eye(k)).max() < 1e-4
        and abs(error2 - found.tails[-1]) <= 1e-6 * found.norm2
        and abs(found.norm2 - np.square(matrix.astype(np.float64)).sum()) <= 1e-10 * found.norm2
    )


@pytest.mark.parametrize("shape", [(7, 5), (5, 7), (40, 40), (300, 20), (1, 9), (9, 1)])
def test_all_singular_values_are_those_of_lapack(shape):
    matrix = np.random.default_rng(1).normal(size=shape).astype(np.float32)
    found = truncated_svd(matrix, min(shape))
    expected = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    assert found.whole
    assert np.abs(found.s - expected).max() < 1e-5 * expected[0]
    assert is_sound(found, matrix)
    assert found.tails[0] == pytest.approx(found.norm2)
    assert found.tails[-1] == 0


def test_small_singular_values_are_seen():
    values = 10.0 ** -np.arange(7)
    found = truncated_svd(matrix_of(30, 20, values), 7)
    assert np.abs(found.s / values - 1).max() < 0.1  # float32 rounds the matrix itself by about 1e-7


def test_hand_made_squares_and_gram(monkeypatch):
    matrix = np.arange(6, dtype=np.float32).reshape(3, 2)
    monkeypatch.setattr(truncated, "_BLOCK", 2)
    assert squares(matrix) == 55
    assert gram(matrix).tolist() == [[20, 0], [26, 35]]
    assert np.abs(eigenvectors(np.diag([1.0, 9.0, 4.0]), 2)).tolist() == [[0, 0], [1, 0], [0, 1]]


def test_another_driver_steps_in(monkeypatch):
    from scipy import linalg

    def failing(*arguments, **options):
        raise linalg.LinAlgError("did not converge")

    monkeypatch.setattr(linalg, "eigh", failing)
    assert truncated_svd(np.diag([1.0, 2.0]).astype(np.float32), 2).s.tolist() == [2, 1]


@pytest.mark.parametrize("shape", [(1100, 1030), (1030, 1300)])
@pytest.mark.parametrize("spectrum", ["flat", "falling", "low"])
def test_a_sketch_is_within_two_per_cent(shape, spectrum):
    rng = np.random.default_rng(2)
    if spectrum == "flat":
        matrix = rng.normal(size=shape).astype(np.float32)
    else:
        values = 0.97 ** np.arange(200.0) if spectrum == "falling" else np.ones(30)
        matrix = matrix_of(*shape, values) + 1e-4 * rng.normal(size=shape).astype(np.float32)
    found = truncated_svd(matrix, 100)
    assert not found.whole
    assert is_sound(found, matrix)
    s = np.linalg.svd(matrix, compute_uv=False).astype(np.float64)
    least = np.sqrt((s[100:] ** 2).sum())
    assert least * 0.999 <= np.sqrt(found.tails[-1]) <= 1.02 * least


def test_a_sketch_is_the_same_again():
    matrix = np.random.default_rng(3).normal(size=(1100, 1040)).astype(np.float32)
    one, two = truncated_svd(matrix, 20), truncated_svd(matrix.copy(), 20)
    assert one.u.tobytes() == two.u.tobytes()
    assert one.vh.tobytes() == two.vh.tobytes()


def test_more_is_computed_until_the_bound_is_met(monkeypatch):
    ranks = []
    real = truncated._sketched

    def spied(matrix, rank):
        ranks.append(rank)
        return real(matrix, rank)

    monkeypatch.setattr(truncated, "_sketched", spied)
    matrix = matrix_of(1100, 1100, np.concatenate([np.full(60, 5.0), np.full(80, 0.5)]))
    found = truncated_svd_to(matrix, 100.0)
    assert found.tails[-1] <= 100
    assert not found.whole
    assert ranks == [34, 68]
    flat = np.random.default_rng(4).normal(size=(1100, 1100)).astype(np.float32)
    ranks.clear()
    assert truncated_svd_to(flat, 0.01 * squares(flat)).whole  # seen to be hopeless after one sketch
    assert ranks == [34]

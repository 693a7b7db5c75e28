"""Low rank where it pays, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from bale.engine.advise.spectrum import COLUMNS, PAYS, ROWS, low_rank


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype("<f4")


def factors(rows: int, columns: int, rank: int, share: float) -> np.ndarray:
    """A matrix of so low a rank with noise, which has this share of the energy."""
    low = noise(rows, rank, seed=1) @ noise(rank, columns, seed=2) / np.sqrt(rank)
    return (np.sqrt(1 - share) * low + np.sqrt(share) * noise(rows, columns, seed=3)).astype("<f4")


def signs(rows: int, columns: int) -> np.ndarray:
    """Signs of rank 1, whose rows and columns are all of one size, with noise of a 16th of the energy."""
    low = np.sign(noise(rows, 1, seed=1) @ noise(1, columns, seed=2))
    return (np.sqrt(15 / 16) * low + np.sqrt(1 / 16) * noise(rows, columns)).astype("<f4")


def test_factors_with_noise_pay_what_is_computed_by_hand() -> None:
    bits, rank = low_rank(signs(512, 512))
    assert rank == 1
    assert bits == pytest.approx(np.log2(16) / 2 - 7.5 * 1024 / 512**2, abs=0.02)


@pytest.mark.parametrize("shape", [(64, 64), (384, 384), (2000, 40), (40, 3000), (1536, 384)])
def test_noise_does_not_pay(shape: tuple[int, int]) -> None:
    assert low_rank(noise(*shape)) == (0.0, 0)


def test_rows_and_columns_of_differing_sizes_do_not_pay() -> None:
    """They look like a low rank, and classes of rows and columns have that gain already."""
    rows, columns = np.exp2(3 * noise(256, 1, seed=1)), np.exp2(2 * noise(1, 256, seed=2))
    assert low_rank((noise(256, 256) * rows).astype("<f4"))[0] < PAYS
    assert low_rank((noise(256, 256) * columns).astype("<f4"))[0] < PAYS


def test_it_is_the_same_for_the_transposed_matrix() -> None:
    matrix = factors(300, 500, 3, 1 / 8)
    bits, rank = low_rank(matrix)
    assert low_rank(np.ascontiguousarray(matrix.T)) == (pytest.approx(bits, abs=1e-3), rank)


def test_large_matrices_are_picked_from() -> None:
    bits, rank = low_rank(signs(4 * ROWS, COLUMNS + 100))
    assert rank == 1
    assert bits == pytest.approx(2.0, abs=0.03)


@pytest.mark.parametrize("matrix", [np.zeros((8, 8)), np.ones((1, 9)), np.full((4, 4), np.inf), np.zeros((0, 4))])
def test_what_has_no_spectrum(matrix: np.ndarray) -> None:
    assert low_rank(matrix.astype("<f4")) == (0.0, 0)


def test_no_more_than_the_error_leaves_to_gain() -> None:
    assert low_rank(factors(512, 512, 1, 1e-12))[0] <= np.log2(20)


def test_the_scale_does_not_matter() -> None:
    matrix = factors(100, 100, 1, 1 / 16)
    for scale in (1e-30, 1e30):
        assert low_rank((matrix * np.float32(scale)).astype("<f4"))[0] == pytest.approx(low_rank(matrix)[0], abs=1e-3)

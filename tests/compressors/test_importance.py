"""Statistics of inputs: spread over elements, turned, and of samples."""

from __future__ import annotations

import numpy as np
import pytest

from bale.compressors.importance import Importance

COLUMNS = Importance(np.float32([[1, 2, 3]]), np.float32([[1, 4, 5], [4, 2, 6], [5, 6, 3]]))
ROWS = Importance(np.float32([[1], [2], [3], [4]]))


def test_elements_have_the_weight_of_their_column_or_row() -> None:
    assert COLUMNS.weights((4, 3), 2, 5).tolist() == [3, 1, 2, 3, 1]
    assert ROWS.weights((4, 3), 2, 5).tolist() == [1, 2, 2, 2, 3]
    assert Importance(np.float32(5)).weights((), 0, 1).tolist() == [5]


@pytest.mark.parametrize("start", [0, 7, 23])
def test_a_run_of_a_kernel_is_that_of_all_its_weights(start: int) -> None:
    importance = Importance(np.random.default_rng(start).random((1, 3, 4), np.float32))
    whole = np.broadcast_to(importance.second_moment, (5, 3, 4)).reshape(-1)
    assert importance.weights((5, 3, 4), start, 20).tolist() == whole[start : start + 20].tolist()


def test_a_turned_tensor_has_its_inputs_in_another_order() -> None:
    kernel = Importance(np.arange(6, dtype=np.float32).reshape(1, 2, 3), np.arange(36, dtype=np.float32).reshape(6, 6))
    turned = kernel.transposed((2, 0, 1))
    assert turned.second_moment.tolist() == [[[0, 3]], [[1, 4]], [[2, 5]]]
    assert turned.covariance is not None
    assert kernel.covariance is not None
    assert turned.covariance[1].tolist() == kernel.covariance[3][[0, 3, 1, 4, 2, 5]].tolist()
    back = turned.transposed((1, 2, 0))
    assert back.covariance is not None
    assert back.covariance.tolist() == kernel.covariance.tolist()


def test_a_sample_of_whole_rows_is_used_as_the_tensor_is() -> None:
    assert COLUMNS.sampled((4, 3), [0, 6], (2, 3)) is COLUMNS
    assert ROWS.sampled((4, 3), [0, 6], (2, 3)).second_moment.tolist() == [[1, 1, 1], [3, 3, 3]]
    assert COLUMNS.sampled((4, 3), [0], (5,)).second_moment.tolist() == [1, 2, 3, 1, 2]

"""What a tensor's inputs say about its elements."""

import numpy as np

from bale.compressors.importance import Importance
from bale.compressors.trellis.scaled_tensor import ScaledTensor
from bale.spec import TensorSpec


def tensor(second, shape=(4, 5), balanced=False):
    array = np.tile(np.float32([4, 1, 1, 1, 1]), shape[0])
    return ScaledTensor(array, TensorSpec("F32", shape), balanced=balanced, importance=Importance(np.float32([second])))


def test_weights_are_mean_squares_of_inputs_up_to_sixteen_times_the_median():
    # The median of those above zero is 2: 32 weighs 255, as does all above it.
    found = tensor([1, 2, 2, 320, 0]).weights(slice(0, 20))
    assert found.tolist() == [8, 16, 16, 255, 1] * 4
    assert tensor([1, 2, 2, 320, 0]).weights(slice(3, 7)).tolist() == [255, 1, 8, 16]


def test_the_largest_mean_square_weighs_most_where_all_are_alike():
    assert tensor([1, 2, 2, 2, 2]).weights(slice(0, 5)).tolist() == [128, 255, 255, 255, 255]
    assert tensor([0, 0, 0, 0, 0]).weights(slice(0, 5)).tolist() == [1, 1, 1, 1, 1]


def test_errors_of_balanced_columns_count_as_they_come_back():
    one = tensor([1, 1, 1, 1, 1], (4, 5)).weights(slice(0, 5))
    balanced = tensor([1, 1, 1, 1, 1], (4, 5), balanced=True)
    factors = balanced.scaling.columns(np.ones(5, np.float32), 0, np.multiply)
    assert factors[0] > 1.5 > 1 > factors[1]
    expected = np.minimum(np.rint(255 * np.square(factors)), 255)
    assert one.tolist() == [255] * 5
    assert balanced.weights(slice(0, 5)).tolist() == expected.tolist()


def test_without_statistics_there_are_no_weights():
    plain = ScaledTensor(np.ones(4, np.float32), TensorSpec("F32", (4,)), balanced=False)
    assert plain.weights(slice(0, 4)).size == plain.sample_weights.size == 0

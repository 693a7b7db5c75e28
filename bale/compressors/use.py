"""How much errors of a tensor's elements count, by what the elements are multiplied with when the tensor is used."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bale.spec import Array


@dataclass(frozen=True)
class Use:
    """Statistics of the inputs of a tensor, which a model multiplies with its elements.

    Encoders may take them as a hint: with W' for W, the output of a layer ``W x`` is off by ``(W' - W) x``, whose mean
    square is the sum of ``second * (W' - W)^2`` as far as inputs are uncorrelated. Decoders know nothing of them.

    Attributes
    ----------
    second : Array
        Float32, not negative, with as many dimensions as the tensor, each as long or 1: the mean square of the input
        that an element is multiplied with. ``(1, n)`` for a matrix of n input channels.
    covariance : Array or None
        Float32, shape ``(second.size, second.size)``: mean products of two inputs, whose diagonal is `second`.
    """

    second: Array
    covariance: Array | None = None

    def spread(self, shape: Sequence[int], start: int, count: int) -> Array:
        """The weight of each of some elements of a tensor of this shape, flat."""
        if not self.second.ndim:
            return np.broadcast_to(self.second, (count,))
        row = math.prod(shape[1:])
        first, last = start // row, -(-(start + count) // row)
        rows = np.broadcast_to(self.second, tuple(shape))[first:last].reshape(-1)
        return np.asarray(rows[start - first * row :][:count])

    def transposed(self, order: Sequence[int]) -> Use:
        """Of the tensor with its dimensions in this order."""
        inputs = np.arange(self.second.size).reshape(self.second.shape).transpose(order).reshape(-1)
        covariance = None if self.covariance is None else self.covariance[np.ix_(inputs, inputs)]
        return Use(self.second.transpose(order), covariance)

    def sampled(self, shape: Sequence[int], starts: Sequence[int], sample: Sequence[int]) -> Use:
        """Of a sample, of this shape, of runs of elements that begin at `starts`."""
        if sample[1:] == shape[1:] and self.second.ndim and len(self.second) == 1:
            return self
        length = math.prod(sample) // max(1, len(starts))
        runs = [self.spread(shape, start, length) for start in starts]
        return replace(self, second=np.concatenate(runs).reshape(sample), covariance=None)

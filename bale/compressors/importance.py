"""Importance of a tensor's elements: how much their errors count, by what a model multiplies the elements with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from bale.spec import Array


@dataclass(frozen=True)
class Importance:
    """Statistics of the inputs that a model multiplies the elements of a tensor with.

    Encoders may take them as a hint: with W' for W, the output of a layer ``W x`` is off by ``(W' - W) x``, whose mean
    square is the sum of ``second_moment * (W' - W)^2`` as far as inputs are uncorrelated. Decoders know nothing of
    them.

    Attributes
    ----------
    second_moment : Array
        Float32, not negative, with as many dimensions as the tensor, each as long or 1: the mean square of the input
        that an element is multiplied with. ``(1, n)`` for a matrix of n input channels.
    covariance : Array or None
        Float32, shape ``(n, n)`` for n the size of `second_moment`, which is its diagonal: mean products of two inputs.
    """

    second_moment: Array
    covariance: Array | None = None

    def weights(self, shape: Sequence[int], start: int, count: int) -> Array:
        """The weight of each of `count` elements from `start` on of a tensor of this shape, flat."""
        if not self.second_moment.ndim:
            return np.broadcast_to(self.second_moment, (count,))
        row = math.prod(shape[1:])
        first, last = start // row, -(-(start + count) // row)
        rows = np.broadcast_to(self.second_moment, tuple(shape))[first:last].reshape(-1)
        return np.asarray(rows[start - first * row :][:count])

    def transposed(self, order: Sequence[int]) -> Importance:
        """Importance for the tensor with its dimensions in this order."""
        inputs = np.arange(self.second_moment.size).reshape(self.second_moment.shape).transpose(order).reshape(-1)
        covariance = None if self.covariance is None else self.covariance[np.ix_(inputs, inputs)]
        return Importance(self.second_moment.transpose(order), covariance)

    def sampled(self, shape: Sequence[int], starts: Sequence[int], sample: Sequence[int]) -> Importance:
        """Importance for a sample, of this shape, of runs of elements that begin at `starts`."""
        if sample[1:] == shape[1:] and self.second_moment.ndim and len(self.second_moment) == 1:
            return self
        length = math.prod(sample) // max(1, len(starts))
        runs = [self.weights(shape, start, length) for start in starts]
        return replace(self, second_moment=np.concatenate(runs).reshape(sample), covariance=None)

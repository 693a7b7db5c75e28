"""Size and error of a tensor with any step, by its sample, and the model that codes it so."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from bale.compressors.kernels.trellis import UNIT, contexts_of, survey, tokens_of
from bale.compressors.trellis import tables
from bale.compressors.trellis.context_classes import Classes
from bale.compressors.trellis.coordinate_descent import descend
from bale.compressors.trellis.scaled_tensor import ScaledTensor
from bale.compressors.trellis.stream import MOST_SHIFT, Chunk, Dequantizer, Model, explicit_bytes, fields_of
from bale.compressors.trellis.viterbi import Code, Search, paths_of
from bale.spec import Array

_DEAD = 24
_SEEN = 16  # values that a level must have to get a centroid
_MANY = 1 << 16  # elements of a tensor that can pay for many centroids


@dataclass(frozen=True)
class Trial:
    """Outcome of a step: bytes of the whole tensor, the sum of squared errors if it was asked for, and the model."""

    step: float
    size: float
    error2: float = 0.0
    model: Model | None = None


@dataclass(frozen=True)
class _Fit:
    """A model for levels of a sample, their tokens, the bits that tables take for these, and the bytes of all."""

    model: Model
    size: float
    tokens: Array
    contexts: Array
    counts: Array
    bits: float

    def chunk(self, levels: Array) -> Chunk:
        """The sample as a chunk, where it is all there is."""
        return Chunk(self.tokens, self.contexts, self.counts, fields_of(levels, self.tokens, self.model))


class Estimator:
    """Tries steps on the sample of a tensor.

    Parameters
    ----------
    tensor : ScaledTensor
        The tensor.
    code : Code
        The trellis.

    Attributes
    ----------
    code : Code
        The trellis.
    search : Search
        What finds the levels.
    """

    def __init__(self, tensor: ScaledTensor, code: Code) -> None:
        self._tensor, self.code = tensor, code
        self._classes: Classes | None = None  # those that suit the first step best
        self._near = 24 if tensor.size >= _MANY else 6
        self.search = Search(code, paths_of(tensor.size), _DEAD)

    @property
    def descends(self) -> bool:
        """Whether paths are searched again by covariances."""
        return self._tensor.covariance is not None and not self.search.scalar

    def estimate(self, step: float, *, measured: bool) -> Trial:
        """Size and, if it is wanted, error of the whole tensor, and the model that suits the step."""
        levels = self._levels(np.float32(step))
        fit = self._fit(levels, np.float32(step))
        error2 = self._error2(fit, levels) * self._times if measured else 0.0
        more = self._tensor.excess * self._tensor.size / 8
        return Trial(step, max(self._with_tables(fit) + more, 1.0), error2, fit.model)

    def chunk(self, step: float) -> tuple[Model, Chunk]:
        """The model that suits a step, and the tokens of a tensor that is its own sample."""
        levels = self._levels(np.float32(step))
        fit = self._fit(levels, np.float32(step))
        return fit.model, fit.chunk(levels)

    def _levels(self, step: np.float32) -> Array:
        """Levels of the sample."""
        tensor = self._tensor
        levels = self.search.levels(tensor.sample, step, tensor.sample_weights)
        if tensor.whole and self.descends:
            levels = descend(levels, tensor, self.search, step)
        return levels

    def _fit(self, levels: Array, step: np.float32) -> _Fit:
        """The model that suits the levels of the sample."""
        lengths, (counts, sums) = np.zeros(32, np.int64), np.zeros((2, self._near + 1), np.int64)
        survey(self._tensor.sample, np.float32(UNIT) / step, levels, lengths, counts, sums)
        centroids = np.clip(np.rint(sums[1:] / np.maximum(counts[1:], 1)), -127, 127) * (counts[1:] >= _SEEN)
        centroids = np.trim_zeros(centroids.astype(np.int8), "b")
        tokens = _tokens(levels, 0)
        best = self._priced(Model(self.code, step, 0, centroids, self._classes or Classes()), levels, tokens)
        longer = lengths[::-1].cumsum()[::-1]  # pairs of at least that many bits
        if shift := min(int((longer[6:] > levels.size >> 6).sum()), MOST_SHIFT):
            shifted = replace(best.model, shift=shift, centroids=np.zeros(0, np.int8))
            best = min(best, self._priced(shifted, levels, _tokens(levels, shift)), key=_size)
        if self._classes is None:
            shape, starts, length = self._tensor.spec.shape, self._tensor.starts, self._tensor.length
            options = (Classes.along(axes, shape, starts, length) for axes in self._tensor.axes)
            models = (replace(best.model, classes=each) for each in options)
            best = min((best, *(self._priced(each, levels, best.tokens) for each in models)), key=_size)
            self._classes = best.model.classes
        return best

    def _priced(self, model: Model, levels: Array, tokens: Array) -> _Fit:
        """A model, and the bytes of the whole tensor with it, by the levels of the sample and their tokens."""
        tensor = self._tensor
        classes = model.classes.of(tensor.spec.shape, tensor.starts, tensor.length)
        contexts, counts = np.empty(levels.size, np.uint8), np.zeros((model.contexts, tables.TOKENS), np.uint32)
        contexts_of(levels, classes, tokens, contexts, counts)
        bits = tables.fit(counts, model.shift)[2] / 65536
        left_open = int(counts.sum(axis=0) @ model.runs[1].astype(np.int64))
        side = 20 + 2 * model.contexts + sum(len(each.packed) for each in model.classes.axes)
        size = (bits + left_open) / 8 * self._times + side + 40 * len(tensor.chunks)
        return _Fit(model, size, tokens, contexts, counts, bits)

    @property
    def _times(self) -> float:
        """Elements of the whole tensor for each of the sample."""
        return self._tensor.size / self._tensor.sample.size

    def _with_tables(self, fit: _Fit) -> float:
        """Bytes of the whole tensor with the tables that will be smaller: generated, or explicit."""
        generated = fit.bits / 8 * self._times
        return fit.size - generated + min(generated, explicit_bytes(fit.counts, self._times, generated))

    def _error2(self, fit: _Fit, levels: Array) -> float:
        """Sum of squared errors of the sample."""
        tensor, total = self._tensor, 0.0
        dequantizer = Dequantizer(fit.model, tensor.scaling)
        for number, start in enumerate(tensor.starts.tolist()):
            at = slice(number * tensor.length, (number + 1) * tensor.length)
            fields = fields_of(levels[at], fit.tokens[at], fit.model)
            chunk = Chunk(fit.tokens[at], fit.contexts[at], fit.counts, fields)
            total += tensor.difference2(chunk.decode(dequantizer, start), start)
        return total


def _tokens(levels: Array, shift: int) -> Array:
    tokens = np.empty(levels.size, np.uint8)
    tokens_of(levels, shift, tokens)
    return tokens


def _size(fit: _Fit) -> float:
    return fit.size

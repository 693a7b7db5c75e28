"""Coding of a whole tensor with a step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np

from bale.compressors.pages import Pages
from bale.compressors.parallel import in_order
from bale.compressors.trellis.coordinate_descent import descend
from bale.compressors.trellis.estimator import Estimator, Trial
from bale.compressors.trellis.scaled_tensor import ScaledTensor
from bale.compressors.trellis.stream import Chunk, Dequantizer, Model, Reader, write
from bale.spec import Array


@dataclass(frozen=True)
class Coded(Trial):
    """Outcome of a step, and the stream."""

    data: bytes = b""


class Coder:
    """Codes a tensor with any step.

    Parameters
    ----------
    tensor : ScaledTensor
        The tensor.
    estimator : Estimator
        Of that tensor.
    model : Model or None
        One that suits the steps; None for a tensor that is its own sample, with a model for each step.
    """

    def __init__(self, tensor: ScaledTensor, estimator: Estimator, model: Model | None) -> None:
        self._tensor, self._estimator, self._model = tensor, estimator, model
        self._chunks: list[Chunk] = []
        self._pages: Pages | None = None
        self._last: Coded | None = None

    def encode(self, step: float, *, measured: bool) -> Coded:
        """Code the whole tensor."""
        tensor, self._chunks = self._tensor, []  # those of one trial are held at a time
        if self._model is None:
            model, chunk = self._estimator.chunk(step)
            self._chunks = [chunk]
        else:
            model = replace(self._model, step=np.float32(step))
            self._chunks = self._all_chunks(model)
        data = write(self._chunks, model, tensor.scaling)
        error2 = self._error2(model) if measured else 0.0
        self._last = Coded(step, len(data), error2, model, data)
        return self._last

    def decoded(self, coded: Coded) -> Array:
        """The storage bits, flat, that a stream comes back as."""
        tensor, chunks, pages = self._tensor, self._chunks, self._pages
        self._chunks, self._pages = [], None
        if coded is not self._last or coded.model is None or not chunks:
            return Reader.open(memoryview(coded.data), tensor.spec).decode()
        out, dequantizer = np.empty(tensor.size, tensor.spec.storage), Dequantizer(coded.model, tensor.scaling)

        def decode(number: int) -> None:
            at = tensor.chunks[number]
            chunks[number].decode(dequantizer, at.start, out[at])
            if pages is not None:
                pages.free(2 * at.start, 2 * at.stop)

        in_order(decode, range(len(tensor.chunks)))
        return out

    def _all_chunks(self, model: Model) -> list[Chunk]:
        tensor, search, step = self._tensor, self._estimator.search, model.step
        self._pages = pages = self._pages or Pages(2 * tensor.size)

        def levels_of(at: slice) -> Array:
            return search.levels(tensor.down(at), step, tensor.weights(at))

        def chunk(levels: Iterable[Array], at: slice) -> Chunk:
            return Chunk.of(levels, at, model, tensor.spec.shape, pages.array[2 * at.start : 2 * at.stop])

        if not self._estimator.descends:
            return in_order(lambda at: chunk(map(levels_of, tensor.blocks_of(at)), at), tensor.chunks)
        levels = np.concatenate([levels_of(at) for at in tensor.chunks])
        levels = descend(levels, tensor, search, step)
        return [chunk([levels[at]], at) for at in tensor.chunks]

    def _error2(self, model: Model) -> float:
        """The sum of squared errors."""
        tensor, dequantizer = self._tensor, Dequantizer(model, self._tensor.scaling)

        def error2(each: tuple[Chunk, slice]) -> float:
            chunk, at = each
            return tensor.difference2(chunk.decode(dequantizer, at.start), at.start)

        return sum(in_order(error2, zip(self._chunks, tensor.chunks, strict=True)))

"""Bytes that are floats of a width and place that nobody has said."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from bale.compressors.base import Serializer, Values
from bale.compressors.lossless.codec import Lossless
from bale.compressors.settings import setting
from bale.spec import Array, TensorSpec

_PERIOD = 8
"""Bytes of the longest word."""

_RUNS, _RUN = 8, 4096
"""A sample is this many runs of this many bytes."""

_ALIKE = 0.25
"""Bits by which the entropies of bytes at different places differ at least where there are words."""

_CONSTANT = 0.05
"""Bits of entropy of a byte that is nearly always the same, as the lowest ones of converted floats are."""

_GAIN = 0.99
"""Share of the size as bytes, by the sample, up to which words are taken."""


@dataclass(frozen=True)
class Words(Serializer):
    """Bytes as floats, from some byte on, by `lossless`; the bytes before and behind them as they are.

    For bytes. It is chosen by itself, chunk by chunk, where those of a format without a reader turn out to be floats:
    they take as much then as with one, within some parts in a thousand. Not for bytes that are no floats.

    Own.

    >>> numbers = np.linspace(0, 1, 1000, dtype=np.float32).tobytes()
    >>> x = Values(TensorSpec("U8", (4003,)), np.frombuffer(b"abc" + numbers, np.uint8))
    >>> data = Words(of="F32", phase=3).encode(x)
    >>> len(data) < 3500
    True
    >>> bool((Words(of="F32", phase=3).decode(data, x.spec) == x.array).all())
    True
    """

    name: ClassVar[str] = "words"

    of: Literal["BF16", "F16", "F32", "F64"] = setting("F32", help="what the words are")
    phase: int = setting(0, low=0, high=7, help="bytes before the first word")
    effort: Literal["fast", "max"] = setting("fast", help="that of lossless")

    def validate(self, spec: TensorSpec) -> None:
        """Accept every tensor, whose bytes are taken."""

    def encode(self, values: Values) -> memoryview:
        """Bytes of one chunk: those around the words, then the words as a chunk of `lossless`."""
        data = np.ascontiguousarray(values.array).reshape(-1).view(np.uint8)
        first, end = self._range(data.size)
        words = data[first:end].copy()
        spec = self._spec(words.size)
        coded = Lossless(effort=self.effort).encode(Values(spec, words.view(spec.storage)))
        return memoryview(b"".join((data[:first].tobytes(), data[end:].tobytes(), coded)))

    def decode(
        self, data: bytes | bytearray | memoryview, spec: TensorSpec, bits: int | None = None, out: Array | None = None
    ) -> Array:
        """Array of one chunk, in `out` if given.

        Raises
        ------
        ValueError
            When these cannot be the bytes that `encode` returned.
        """
        if out is None:
            out = np.empty(spec.storage_shape, spec.storage)
        found = out.reshape(-1).view(np.uint8)
        first, end = self._range(found.size)
        around, view = first + found.size - end, memoryview(data)
        if len(view) < around:
            raise ValueError(f"{len(view)} bytes where {around} lie around words")
        found[:first] = np.frombuffer(view[:first], np.uint8)
        found[end:] = np.frombuffer(view[first:around], np.uint8)
        words = Lossless(effort=self.effort).decode(view[around:], self._spec(end - first))
        found[first:end] = words.view(np.uint8)
        return out

    def _range(self, size: int) -> tuple[int, int]:
        """Where the words of so many bytes begin and end."""
        width = TensorSpec(self.of, ()).nbytes
        first = min(self.phase, size)
        return first, size - (size - first) % width

    def _spec(self, nbytes: int) -> TensorSpec:
        return TensorSpec(self.of, (nbytes // TensorSpec(self.of, ()).nbytes,))


def words_in(data: Array, effort: str) -> Words | None:
    """The words that bytes are smaller as, by a sample; None where they are better left as bytes."""
    if data.size < _RUNS * _RUN:
        sample = data[: data.size // _PERIOD * _PERIOD]
    else:
        step = data.size // _RUNS // _PERIOD * _PERIOD
        sample = np.concatenate([data[at : at + _RUN] for at in range(0, _RUNS * step, step)])
    entropies = np.array([_entropy(column) for column in sample.reshape(-1, _PERIOD).T])
    if not sample.size or np.ptp(entropies) < _ALIKE:
        return None
    sizes = {each: _size(each, sample) for each in _candidates(entropies)}
    best = min(sizes, key=sizes.__getitem__)
    as_bytes = len(Lossless().encode(Values(TensorSpec("U8", (sample.size,)), sample)))
    return Words(best.of, best.phase, effort) if sizes[best] <= _GAIN * as_bytes else None  # type: ignore[arg-type]


def _candidates(entropies: Array) -> list[Words]:
    """Words of each kind that end with the byte that varies least, in which exponents are; zeros may be below them."""
    found = []
    for of in ("BF16", "F16", "F32", "F64"):
        width = TensorSpec(of, ()).nbytes
        places = entropies.reshape(-1, width).mean(axis=0)
        varying = np.where(places < _CONSTANT, np.inf, places)
        for last in {int(places.argmin()), int(varying.argmin())}:
            found.append(Words(of, (last + 1) % width))
    return found


def _size(words: Words, sample: Array) -> int:
    return len(words.encode(Values(TensorSpec("U8", (sample.size,)), sample)))


def _entropy(column: Array) -> float:
    counts = np.bincount(column, minlength=256)
    shares = counts[counts > 0] / max(1, column.size)
    return float(-(shares * np.log2(shares)).sum())

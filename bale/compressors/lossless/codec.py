"""The default codec: every bit comes back, at the speed of numpy and zstd."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from bale.compressors.base import Serializer, Values
from bale.compressors.lossless.modes import choose_modes, sample_of
from bale.compressors.lossless.planes import SIGNED, Word, word_of
from bale.compressors.lossless.tree import FIELDS, decode_planes, encode_general, encode_planes
from bale.compressors.settings import setting
from bale.spec import Array, TensorSpec

_FEW = 256
"""Words from which on `max` is worth a try: below, its tables take more than they save."""

_MANY = 1 << 17
"""Words from which on planes are tried beside fields only if by a sample they could be shorter."""

_CONSTANT = 32
"""Chunks that planes make this much smaller are not worth more work."""


@dataclass(frozen=True)
class Lossless(Serializer):
    """The fields of all words as separate planes, each of them raw, constant or Huffman-coded by zstd.

    For every dtype. Saves a third of BF16, about a sixth of F16, F32 and 8-bit floats, and negligibly little of packed
    low-bit codes. Integers are offered to zstd as a whole too. Not for the last per cent: coders with contexts store
    BF16 in one per cent less, at a quarter of the speed.

    Works on one chunk at a time, about 2^20 elements, from any thread; buffers are kept per thread and are about as
    large as the largest chunk. The same chunk and version of zstd give the same bytes.

    The layout of a chunk is in ``docs/format.md``. That exponents are worth coding apart is from ZipNN
    (Hershcovitch et al. 2024, arXiv:2411.05239).

    >>> x = Values(TensorSpec("F32", (1000,)), np.linspace(0, 1, 1000, dtype=np.float32))
    >>> data = Lossless().encode(x)
    >>> len(data) < x.spec.nbytes
    True
    >>> bool((Lossless().decode(data, x.spec) == x.array).all())
    True
    """

    name: ClassVar[str] = "lossless"

    effort: Literal["fast", "max"] = setting(
        "fast", help="max codes floats given the sizes of their rows and columns: smaller, at a third of the speed"
    )

    def validate(self, spec: TensorSpec) -> None:
        """Accept every tensor."""

    def encode(self, values: Values) -> memoryview:
        """Bytes of one chunk: at most one more than the chunk has.

        Parameters
        ----------
        values : Values
            Storage bits, in any shape. An array that is not contiguous is copied first.

        Returns
        -------
        memoryview
            Bytes that belong to the caller.

        Raises
        ------
        ValueError
            When the array has not the size that its spec says.
        """
        if values.array.nbytes != values.spec.nbytes:
            raise ValueError(f"{values.array.nbytes} bytes are not {values.spec}")
        word = _root_of(values.spec)
        words = np.ascontiguousarray(values.array).reshape(-1).view(word.dtype)
        if self.effort == "max" and words.size >= _FEW:
            return _encode_max(values, word, words)
        return _encode_fast(values.spec, word, words)

    def decode(
        self, data: bytes | bytearray | memoryview, spec: TensorSpec, bits: int | None = None, out: Array | None = None
    ) -> Array:
        """Storage bits of one chunk.

        Parameters
        ----------
        data : bytes-like
            What `encode` returned.
        spec : TensorSpec
            Spec of the chunk.
        bits : int, optional
            Not used.
        out : Array, optional
            Contiguous array of ``spec.storage``, as long as the chunk, that is written into and returned.

        Returns
        -------
        Array
            `out`, or a fresh array of ``spec.storage_shape``.

        Raises
        ------
        ValueError
            When these cannot be the bytes of a chunk of this spec, or `out` does not fit. `out` is undefined then.
            Not all damage is found here: that is what the archive's digests are for.
        """
        if out is None:
            out = np.empty(spec.storage_shape, spec.storage)
        elif out.dtype != spec.storage or out.nbytes != spec.nbytes or not out.flags.c_contiguous:
            raise ValueError(f"the array to decode into is not a contiguous {spec}")
        word = _root_of(spec)
        words = out.reshape(-1).view(word.dtype)
        if len(data) and data[0] == FIELDS:
            _decode_max(memoryview(data), spec, words)
        else:
            decode_planes(memoryview(data), word, words)
        return out


def _root_of(spec: TensorSpec) -> Word:
    """Kind of word that a chunk consists of: `word_of`, but for floats of one byte."""
    return SIGNED if spec.info.kind == "float" and spec.info.bits == 8 else word_of(spec)


def _encode_fast(spec: TensorSpec, word: Word, words: Array) -> memoryview:
    """Chunk of planes; of whole numbers also with repetitions, if that is shorter."""
    chunk = encode_planes(choose_modes(word, words), words)
    if spec.info.kind in ("int", "bool") and _general_pays(word, words):
        chunk = min(chunk, encode_general(word, words), key=len)
    return chunk


def _encode_max(values: Values, word: Word, words: Array) -> memoryview:
    """Chunk with fields, if there are any, or of planes if that is shorter."""
    from bale.compressors.lossless import max_effort

    spec, layout = values.spec, max_effort.layout_of(values.spec.dtype)
    if layout is None:
        return _encode_fast(spec, word, words)
    if spec.is_float and words.size >= _MANY:
        sample = sample_of(words)
        expected = len(_encode_fast(spec, word, sample)) / sample.nbytes * words.nbytes
        if expected > words.nbytes / _CONSTANT:
            chunk = max_effort.encode(words, spec.dtype, layout, values.place)
            return chunk if len(chunk) < expected else min(chunk, _encode_fast(spec, word, words), key=len)
    planes = _encode_fast(spec, word, words)
    if len(planes) <= words.nbytes // _CONSTANT:
        return planes
    return min(planes, max_effort.encode(words, spec.dtype, layout, values.place), key=len)


def _decode_max(data: memoryview, spec: TensorSpec, words: Array) -> None:
    """Write the words of a chunk with fields; raise `ValueError` on bad bytes."""
    from bale.compressors.lossless import max_effort

    layout = max_effort.layout_of(spec.dtype)
    if layout is None:
        raise ValueError(f"{spec.dtype} has no fields")
    max_effort.decode(data, layout, words)


def _general_pays(word: Word, words: Array) -> bool:
    """Whether `encode_general` is worth a try, by a sample."""
    sample = sample_of(words)
    return len(encode_general(word, sample)) < len(encode_planes(choose_modes(word, sample), sample))

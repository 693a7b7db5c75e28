"""One chunk of a part as bytes, by the storage chain that makes it smallest, and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np

from bale.compressors.base import Compressor, Conditional, Reference, Serializer, Values
from bale.compressors.pipeline import Pipeline
from bale.compressors.serializers.records import are_records
from bale.compressors.serializers.smallest import smallest
from bale.spec import CHUNK_LIMIT, Array, TensorSpec

PLAIN = ""
EXACT = "exact"
_RANS, _RECORDS, _FAST, _MAX = "rans", "records", "lossless", "lossless:effort=max"
_EFFORTS = {_FAST: "fast", _MAX: "max"}
_FEW_BYTES = 1 << 12  # from which on they are looked at for words
_WORSE = 0.6  # of the plain bytes: a difference above is compared with coding without it


def flat_bytes(array: Array) -> Array:
    """The bytes of a contiguous array, as uint8."""
    return array.reshape(-1).view(np.uint8)


def flat_spec(spec: TensorSpec, elements: int) -> TensorSpec:
    """The spec of a run of elements."""
    return TensorSpec(spec.dtype, (elements,))


def chunk_ranges(elements: int, length: int = CHUNK_LIMIT) -> Iterator[tuple[int, int]]:
    """Start and length of the chunks of a tensor, all of `length` elements but the last."""
    for start in range(0, elements, length):
        yield start, min(length, elements - start)


def encode_chunk(
    values: Values, forced: str | None = None, known: Reference | None = None, *, compiled: bool = False
) -> tuple[str, bytes | bytearray | memoryview]:
    """Code one chunk with the chain that makes it smallest, or with the one the user forced.

    Given known values, the chunk is coded as its difference to them where that is smaller. What is not codes and would
    grow stays plain. What is not codes, and few codes, are coded by compiled code only if that is used anyway, and
    bytes that may be records; `rans` asks for it, and leaves the choice. Returns the chain and the bytes.
    """
    plain = flat_bytes(values.array).data
    compiled |= known is not None
    if forced == _RANS:
        forced, compiled = None, True
    if values.bits is None:
        found: list[tuple[str, bytes | bytearray | memoryview]] = [(PLAIN, plain)]
        if known is not None:
            found.append((EXACT, given(EXACT).encode(values, known)))
        if known is None or len(found[-1][1]) > _WORSE * plain.nbytes:
            chain = _with_words(values, forced or (_MAX if compiled else _FAST))
            found.append((chain, _encode(values, chain)))
            if known is None and forced in (None, _MAX) and are_records(values):
                found.append((_RECORDS, _encode(values, _RECORDS)))
        return min(found, key=lambda each: len(each[1]))
    return smallest(values, compiled=compiled) if forced is None else (forced, _encode(values, forced))


def decode_chunk(
    data: bytes,
    chain: str,
    spec: TensorSpec,
    bits: int | None,
    out: Array | None = None,
    known: Reference | None = None,
) -> Array:
    """The flat array of one chunk, in its storage bits; the mirror image of `encode_chunk`.

    Parameters
    ----------
    out : uint8 array or None
        Where the array's bytes go, if given.
    known : Reference or None
        What the chunk was coded given.

    Raises
    ------
    ValueError, UsageError
        For bytes that this chain cannot have written, or a chain that is none.
    """
    target = None if out is None else out.view(spec.storage)
    if chain == PLAIN:
        array = np.frombuffer(data, spec.storage)
        if array.nbytes != spec.nbytes:
            raise ValueError(f"{array.nbytes} bytes for {spec}")
        if target is None:
            return array
        np.copyto(target, array)
        return target
    if chain == EXACT:
        if known is None:
            raise ValueError("a difference to nothing")
        return given(chain).decode(memoryview(data), spec, known, target).reshape(-1)
    serializer, compressor = _stages(chain)
    view = memoryview(data)
    if compressor is not None:
        view = memoryview(compressor.decode(view, (spec.elements * (bits or spec.info.bits) + 7) // 8))
    return serializer.decode(view, spec, bits, target).reshape(-1)


def forced_chain(pipeline: Pipeline) -> str | None:
    """The chain that the last stages of its first layer name, or None when the smallest is to be chosen."""
    if pipeline.storers is None or pipeline.is_exact:
        return None
    return "+".join(str(Pipeline((stage,))) for stage in pipeline.storers)


def join_chunks(spec: TensorSpec, bits: int | None, chunk: int, chunks: Sequence[tuple[str, bytes]]) -> Values:
    """The array of a part from all its chunks."""
    array = np.empty(spec.nbytes, np.uint8)
    for index, (chain, data) in enumerate(chunks):
        count = min(chunk, spec.elements - index * chunk)
        piece = flat_spec(spec, count)
        at = index * chunk * spec.info.bits // 8
        decode_chunk(data, chain, piece, bits, array[at : at + piece.nbytes])
    return Values(spec, array.view(spec.storage).reshape(spec.storage_shape), bits)


def codecs_of(chains: Sequence[str]) -> set[str]:
    """Names of the codecs in storage chains."""
    return {stage.name for chain in chains if chain for stage in Pipeline.parse(chain, chain=True).codecs}


def _encode(values: Values, chain: str) -> bytes | bytearray | memoryview:
    serializer, compressor = _stages(chain)
    data = serializer.encode(values)
    return data if compressor is None else compressor.encode(data)


def _with_words(values: Values, chain: str) -> str:
    """The same chain, or, for bytes that turn out to be words of some kind, one of these with the same effort."""
    if values.spec.dtype != "U8" or chain not in _EFFORTS or values.spec.elements < _FEW_BYTES:
        return chain
    from bale.compressors.lossless.words import words_in

    words = words_in(flat_bytes(values.array), _EFFORTS[chain])
    return chain if words is None else str(Pipeline((words,)))


@cache
def given(chain: str) -> Conditional:
    """The codec of a chain that codes given known values."""
    (codec,) = Pipeline.parse(chain, chain=True).stages
    assert isinstance(codec, Conditional)
    return codec


@cache
def _stages(chain: str) -> tuple[Serializer, Compressor | None]:
    first, *rest = Pipeline.parse(chain).stages
    if not isinstance(first, Serializer) or len(rest) > 1 or not all(isinstance(stage, Compressor) for stage in rest):
        raise ValueError(f"{chain!r} is no storage chain")
    compressor = rest[0] if rest else None
    return first, compressor if isinstance(compressor, Compressor) else None

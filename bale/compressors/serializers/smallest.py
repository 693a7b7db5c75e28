"""The serializer that makes codes smallest."""

from __future__ import annotations

from bale.compressors import registry
from bale.compressors.base import Serializer, Values
from bale.compressors.serializers.rans import Rans
from bale.spec import TensorSpec

FEW = 1 << 14
"""Codes below which rANS is not tried: it saves tens of bytes there."""

_ABOUT = 64
"""Bytes that the size by rANS may be off by."""


def smallest(values: Values, *, compiled: bool = False) -> tuple[str, bytes | bytearray | memoryview]:
    """Name of the serializer that makes codes smallest, and their bytes; `compiled` if rANS is tried for few, too.

    Sizes are estimated from counts: within some bytes for rANS, and for Huffman codes from below. Both are coded only
    where that leaves a doubt.
    """
    coded: dict[str, bytes | bytearray | memoryview] = {}
    if values.spec.elements and (compiled or values.spec.elements >= FEW):
        plan = Rans().plan(values)
        if not _is_surely_best(plan.size, values):
            coded["huffman"] = _encode(values, "huffman")
        coded["rans"] = plan.encode()
    else:
        coded["huffman"] = _encode(values, "huffman")
    best = min(coded, key=lambda name: len(coded[name]))
    dense = (values.spec.elements * (values.bits or values.spec.info.bits) + 7) // 8
    return (best, coded[best]) if len(coded[best]) < dense else ("bitpack", _encode(values, "bitpack"))


def _is_surely_best(size: int, values: Values) -> bool:
    """Whether Huffman codes cannot be smaller than about so many bytes by rANS."""
    from bale.compressors.entropy.huffman_cost import least_bytes, repeats

    if values.bits is None:
        return False
    codes = values.array.reshape(-1)
    if size + size // 1000 + _ABOUT > least_bytes(codes, values.bits) or repeats(codes):
        return False
    samples = [codes[at : at + FEW] for at in (0, codes.size // 2)]  # where whole pieces of codes come again
    pieces = [Values(TensorSpec("U8", each.shape), each, values.bits) for each in samples]
    return all(len(_encode(each, "huffman")) >= least_bytes(each.array, values.bits) for each in pieces)


def _encode(values: Values, name: str) -> bytes | bytearray | memoryview:
    codec = registry.get(name)()
    assert isinstance(codec, Serializer)
    return codec.encode(values)

"""The serializer that makes codes smallest."""

from __future__ import annotations

from bale.compressors.base import Serializer, Values
from bale.compressors.serializers.bitpack import Bitpack
from bale.compressors.serializers.huffman import Huffman
from bale.compressors.serializers.rans import Rans

FEW = 1 << 14
"""Codes below which rANS is not tried: it saves tens of bytes there, and its compiled code loads in half a second."""

_BITPACK, _HUFFMAN, _RANS = Bitpack(), Huffman(), Rans()


def smallest(values: Values, *, compiled: bool = False) -> tuple[str, bytes | bytearray | memoryview]:
    """Name of the serializer that makes codes smallest, and their bytes; `compiled` if rANS is loaded anyway."""
    coders: tuple[Serializer, ...] = (_HUFFMAN, _RANS) if compiled or values.spec.elements >= FEW else (_HUFFMAN,)
    coded = {coder.name: coder.encode(values) for coder in coders}
    best = min(coded, key=lambda name: len(coded[name]))
    dense = (values.spec.elements * (values.bits or values.spec.info.bits) + 7) // 8
    return (best, coded[best]) if len(coded[best]) < dense else (_BITPACK.name, _BITPACK.encode(values))

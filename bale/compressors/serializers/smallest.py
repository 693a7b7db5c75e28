"""The serializer that makes codes smallest."""

from __future__ import annotations

from bale.compressors import registry
from bale.compressors.base import Serializer, Values

FEW = 1 << 14
"""Codes below which rANS is not tried: it saves tens of bytes there, and its compiled code loads in half a second."""


def smallest(values: Values, *, compiled: bool = False) -> tuple[str, bytes | bytearray | memoryview]:
    """Name of the serializer that makes codes smallest, and their bytes; `compiled` if rANS is loaded anyway."""
    names = ("huffman", "rans") if compiled or values.spec.elements >= FEW else ("huffman",)
    coded = {name: _encode(values, name) for name in names}
    best = min(coded, key=lambda name: len(coded[name]))
    dense = (values.spec.elements * (values.bits or values.spec.info.bits) + 7) // 8
    return (best, coded[best]) if len(coded[best]) < dense else ("bitpack", _encode(values, "bitpack"))


def _encode(values: Values, name: str) -> bytes | bytearray | memoryview:
    codec = registry.get(name)()
    assert isinstance(codec, Serializer)
    return codec.encode(values)

"""The beginning of an ONNX model, which has no magic number."""

from __future__ import annotations

_VERSION, _NEWEST = 0x08, 64
_TEXTS = (0x12, 0x1A, 0x22, 0x32)  # the producer's name and version, the domain, a text for people
_MODEL_VERSION, _GRAPH, _OPERATORS = 0x28, 0x3A, 0x42
_IN_GRAPH = (0x0A, 0x12, 0x2A, 0x52, 0x5A, 0x62, 0x6A, 0x72)
"""Tags of the fields of a graph: nodes, name, initializers, a text, inputs, outputs, values, quantization."""


def begins_as_onnx(head: bytes) -> bool:
    """Whether a file begins with the IR's version, then texts and numbers of a model, then its graph."""
    if len(head) < 8 or head[0] != _VERSION or not 0 < head[1] <= _NEWEST:
        return False
    at = 2
    while at < len(head):
        tag = head[at]
        value, at = _varint(head, at + 1)
        if tag == _GRAPH:
            return at < len(head) and head[at] in _IN_GRAPH
        if tag in _TEXTS:
            if not _is_text(head[at : at + value]):
                return False
            at += value
        elif tag == _OPERATORS:
            at += value
        elif tag != _MODEL_VERSION:
            return False
    return False


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """A varint, and what lies behind it."""
    value = shift = 0
    for byte in data[at : at + 10]:
        value |= (byte & 127) << shift
        shift, at = shift + 7, at + 1
        if byte < 128:
            break
    return value, at


def _is_text(data: bytes) -> bool:
    return all(byte >= 32 or byte in b"\t\n\r" for byte in data)

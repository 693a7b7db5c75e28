"""The weights of OpenVINO models as sources."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.faults import Unsupported
from bale.io.sources.described import Place, described
from bale.io.sources.openvino.network import Graph, Layer, read_network
from bale.io.sources.openvino.quantized import quantized
from bale.io.storage.bytes import ByteSource
from bale.io.storage.files import reading
from bale.spec import TensorSpec

_HEAD, _LIMIT = 512, 1 << 26  # bytes of the .xml: that are looked at first, and at most
_RANK_LIMIT, _DIGITS = 64, 19
_DTYPES = {
    "boolean": "BOOL",
    "f16": "F16",
    "bf16": "BF16",
    "f32": "F32",
    "f64": "F64",
    "f8e4m3": "F8_E4M3",
    "f8e5m2": "F8_E5M2",
    "f8e8m0": "F8_E8M0",
    **{f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in "iu" for bits in (8, 16, 32, 64)},
}
_BITS = {"u1": 1, "i2": 2, "u2": 2, "u3": 3, "i4": 4, "u4": 4, "nf4": 4, "f4e2m1": 4, "u6": 6}
"""Of types that have several elements in a byte."""


def is_openvino_data(path: Path) -> bool:
    """Whether a file is the weights of the model beside it; nothing in them says what they are."""
    if path.suffix.lower() != ".bin":
        return False
    try:
        return b"<net " in _read(path.with_suffix(".xml"), _HEAD)
    except SourceError:
        return False


def read_openvino_data(path: Path, source: ByteSource) -> Checkpoint:
    """Read weights by the model beside them; raise `Malformed` where they end early."""
    beside = path.with_suffix(".xml")
    graphs = read_network(_read(beside, _LIMIT + 1))
    places = [place for graph in graphs for place in _places(graph)]
    if not places:
        raise Unsupported("the weights of an OpenVINO model whose .xml has no constants in them")
    return described(path, "openvino", source.size, places, beside.name)


def _read(path: Path, most: int) -> bytes:
    with reading(path) as source:
        if most > _LIMIT and source.size > _LIMIT:
            raise Unsupported(f"the weights of an OpenVINO model with an .xml of {source.size} bytes")
        return source.read(min(source.size, most), 0)


def _places(graph: Graph) -> Iterator[Place]:
    reasons = quantized(graph)
    for number, layer in graph.layers.items():
        if layer.is_const:
            spec, start = _spec(layer), layer.data.get("offset", "")
            if spec is not None and _is_number(start) and layer.data.get("size") == str(spec.nbytes):
                yield Place(layer.name, spec, int(start), reasons.get(number))


def _spec(layer: Layer) -> TensorSpec | None:
    """Dtype and shape of a constant, if bale has them."""
    sizes = [size.strip() for size in layer.data.get("shape", "").split(",")]
    shape = [] if sizes == [""] else sizes
    if len(shape) > _RANK_LIMIT or not all(map(_is_number, shape)):
        return None
    dimensions, kind = tuple(map(int, shape)), layer.data.get("element_type", "")
    if kind in _BITS:
        return TensorSpec("U8", (-(-math.prod(dimensions) * _BITS[kind] // 8),))
    return TensorSpec(_DTYPES[kind], dimensions) if kind in _DTYPES else None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < _DIGITS

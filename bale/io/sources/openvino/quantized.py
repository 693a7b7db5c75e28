"""Constants of OpenVINO models that are codes of a quantizer, or that belong to such."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection

from bale.io.checkpoint import QUANTIZED
from bale.io.faults import printable
from bale.io.sources.openvino.network import Graph

_CODES = ("i8", "u8", "i4", "u4", "u3", "i2", "u2", "u1", "u6", "nf4", "f4e2m1", "f8e4m3", "f8e5m2", "f8e8m0")
_SCALING = ("Multiply", "Subtract")
_PASSING = ("Convert", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Broadcast")
_QUANTIZER = "FakeQuantize"


def quantized(graph: Graph) -> dict[str, str]:
    """Reasons why constants must stay exact, by their layers: codes, their scales and zero points, limits of ranges."""
    layers, takes, gives = graph.layers, defaultdict[str, list[str]](list), defaultdict[str, list[str]](list)
    for one, other in graph.edges:
        if one in layers and other in layers:
            takes[other].append(one)
            gives[one].append(other)
    ends = {layer: _QUANTIZER for layer, each in layers.items() if each.type == _QUANTIZER}
    codes = {layer: each.data.get("element_type", "") for layer, each in layers.items() if each.is_const}
    reached = {layer: what for layer, what in codes.items() if what in _CODES}
    scaled = {
        layer: what
        for layer, what in _spread(graph, reached, gives, (*_PASSING, *_SCALING)).items()
        if layers[layer].type in _SCALING
    }
    found = _spread(graph, {**scaled, **ends}, takes, (*_PASSING, "Const"), scaled)
    return {layer: f"{QUANTIZED}{printable(what)}" for layer, what in found.items() if layers[layer].is_const}


def _spread(
    graph: Graph,
    begin: dict[str, str],
    neighbours: defaultdict[str, list[str]],
    types: Collection[str],
    others: Collection[str] = (),
) -> dict[str, str]:
    """What reaches a layer from where it begins, over layers of some types and some others."""
    found, left = dict(begin), list(begin)
    while left:
        layer = left.pop()
        for other in neighbours[layer]:
            if other not in found and (graph.layers[other].type in types or other in others):
                found[other] = found[layer]
                left.append(other)
    return found

"""The ``.xml`` of an OpenVINO model: layers and edges, read without anything that XML has beyond elements."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NoReturn
from xml.parsers import expat

from bale.io.faults import Unsupported

_DEPTH = 100
_MOST = 1 << 21  # elements and attributes: those of tens of thousands of layers
_GRAPHS = 1 << 12  # bodies of loops and branches
_LONGEST, _PIECE = 1 << 22, 1 << 20  # bytes: of a tag with its attributes, and that are parsed at a time
_CONST = "Const"
_DATA = ("element_type", "shape", "offset", "size")


@dataclass(slots=True)
class Layer:
    """A layer: its type, its name, and what its data says, where it is a constant."""

    type: str
    name: str
    data: dict[str, str] = field(default_factory=dict)

    @property
    def is_const(self) -> bool:
        """Whether it is a constant."""
        return self.type == _CONST


@dataclass(slots=True)
class Graph:
    """Layers by their ids, and what passes its values to what; a body within a layer is a graph of its own."""

    layers: dict[str, Layer] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)


@dataclass(slots=True)
class _Element:
    """An element that is open, and the graph and the layer that it is in."""

    name: str
    graph: Graph
    layer: Layer | None = None


def read_network(text: bytes) -> list[Graph]:
    """All graphs of a network that have layers.

    `Unsupported` is raised for what is no XML, or has a document type, which entities need, or more of anything than
    would fit into bounded memory and time.
    """
    graphs, path, count = list[Graph](), [_Element("", Graph())], 0

    def start(name: str, attributes: dict[str, str]) -> None:
        nonlocal count
        parent, count = path[-1], count + 1 + len(attributes)
        if count > _MOST:
            raise ValueError(f"more than {_MOST} elements and attributes")
        if len(path) > _DEPTH:
            raise ValueError(f"more than {_DEPTH} elements in each other")
        found = _Element(name, parent.graph, parent.layer)
        if name == "layers":
            parent.graph = found.graph = Graph()  # also that of the edges behind them
        elif name == "layer" and parent.name == "layers":
            found.layer = Layer(attributes.get("type", ""), attributes.get("name", ""))
            if not found.graph.layers:
                graphs.append(found.graph)
                if len(graphs) > _GRAPHS:
                    raise ValueError(f"more than {_GRAPHS} graphs")
            found.graph.layers[attributes.get("id", "")] = found.layer
        elif name == "data" and parent.name == "layer" and found.layer is not None and found.layer.is_const:
            found.layer.data = {key: attributes[key] for key in _DATA if key in attributes}
        elif name == "edge" and parent.name == "edges":
            found.graph.edges.append((attributes.get("from-layer", ""), attributes.get("to-layer", "")))
        path.append(found)

    def end(name: str) -> None:
        path.pop()

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.StartDoctypeDeclHandler = _refuse
    try:
        for at in range(0, len(text), _PIECE):
            parser.Parse(text[at : at + _PIECE], False)
            if at - parser.CurrentByteIndex > _LONGEST:  # before its attributes become objects
                raise ValueError(f"a tag of more than {_LONGEST} bytes")
        parser.Parse(b"", True)
    except (expat.ExpatError, ValueError, LookupError) as problem:
        raise Unsupported(f"the weights of an OpenVINO model whose .xml cannot be read ({problem})") from None
    return graphs


def _refuse(*_: object) -> NoReturn:
    raise ValueError("it has a document type")

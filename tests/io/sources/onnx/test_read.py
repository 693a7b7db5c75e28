"""ONNX models: initializers, constants and graphs within graphs, and what is not followed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.sources.onnx.head import begins_as_onnx
from bale.io.sources.open import read_checkpoint
from bale.spec import TensorSpec
from tests.io.in_memory import InMemory
from tests.io.sources.samples import field, onnx, onnx_tensor, varint

FOUR = np.arange(4, dtype=np.float32).tobytes()


def read(data: bytes, name: str = "m.onnx") -> Checkpoint:
    return read_checkpoint(Path(name), InMemory(data))


def specs(graph: bytes) -> dict[str, TensorSpec]:
    """Specs by names, and that the bytes of each are where they should be."""
    data = onnx(graph)
    found = read(data)
    assert found.kind == "onnx"
    return {unit.label: unit.spec for unit in found.units}


def node(operator: bytes, inputs: tuple[bytes, ...] = (), output: bytes = b"y", *attributes: bytes) -> bytes:
    parts = [field(1, each) for each in inputs] + [field(2, output), field(4, operator)]
    return field(1, b"".join(parts) + b"".join(field(5, each) for each in attributes))


@pytest.mark.parametrize(
    ("kind", "dtype", "width"),
    [
        *((1, "F32", 4), (2, "U8", 1), (3, "I8", 1), (7, "I64", 8), (9, "BOOL", 1), (10, "F16", 2), (11, "F64", 8)),
        *((16, "BF16", 2), (17, "F8_E4M3", 1), (20, "F8_E5M2FNUZ", 1), (15, "C128", 16), (24, "F8_E8M0", 1)),
    ],
)
def test_raw_numbers(kind: int, dtype: str, width: int) -> None:
    graph = field(5, onnx_tensor("w", kind, (2, 3), (9, bytes(6 * width))))
    assert specs(graph) == {"w": TensorSpec(dtype, (2, 3))}


def test_numbers_in_fields_of_their_own() -> None:
    tensors = [
        onnx_tensor("floats", 1, (4,), (4, FOUR)),
        onnx_tensor("doubles", 11, (2,), (10, FOUR)),
        onnx_tensor("varints", 7, (4,), (7, bytes([1, 2, 3, 4]))),
        onnx_tensor("halves", 14, (2,), (4, FOUR)),
        onnx_tensor("scalar", 1, (), (9, FOUR[:4])),
        onnx_tensor("empty", 1, (0, 5), (9, b"")),
        field(1, varint(2) + varint(2)) + field(2, 1) + field(9, FOUR) + field(8, b"packed sizes"),
    ]
    assert specs(b"".join(field(5, each) for each in tensors)) == {
        "floats": TensorSpec("F32", (4,)),
        "doubles": TensorSpec("F64", (2,)),
        "scalar": TensorSpec("F32", ()),
        "empty": TensorSpec("F32", (0, 5)),
        "packed sizes": TensorSpec("F32", (2, 2)),
    }


@pytest.mark.parametrize(
    "tensor",
    [
        onnx_tensor("w", 1, (5,), (9, FOUR)),
        onnx_tensor("w", 1, (1 << 63, 0), (9, b"")),
        onnx_tensor("w", 1, (1,) * 65, (9, FOUR[:4])),
        onnx_tensor("w", 8, (2,), (6, b"text"), (6, b"text")),
        onnx_tensor("w", 99, (16,), (9, FOUR)),
        onnx_tensor("w", 22, (5,), (9, FOUR)),
        onnx_tensor("w", 1, (4,)),
    ],
)
def test_tensors_that_are_left_where_they_are(tensor: bytes) -> None:
    assert specs(field(5, tensor)) == {}


def test_constants_and_graphs_within_graphs() -> None:
    def attribute(number: int, content: bytes) -> bytes:
        return field(1, b"value") + field(number, content)

    inner = node(b"Constant", (), b"deep", attribute(5, onnx_tensor("", 1, (4,), (9, FOUR))))
    graph = inner + field(5, onnx_tensor("inside", 1, (4,), (9, FOUR)))
    graph = node(b"If", (b"c",), b"y", attribute(6, graph)) + field(5, onnx_tensor("w", 1, (4,), (9, FOUR)))
    assert list(specs(graph)) == ["deep", "inside", "w"]
    for _ in range(30):
        graph = node(b"If", (b"c",), b"y", attribute(6, graph))
    assert specs(graph) == {}


def test_quantized_models_stay_exact() -> None:
    names = ("codes", "scale", "zero")
    tensors = [onnx_tensor("codes", 3, (4,), (9, bytes(4))), onnx_tensor("zero", 3, (1,), (9, bytes(1)))]
    tensors += [onnx_tensor(name, 1, (4,), (9, FOUR)) for name in ("scale", "activation", "w")]
    tensors.append(onnx_tensor("four", 22, (7,), (9, FOUR[:4])))
    graph = node(b"DequantizeLinear", tuple(name.encode() for name in names))
    graph += node(b"QuantizeLinear", (b"w", b"activation")) + b"".join(field(5, each) for each in tensors)
    reasons = {unit.label: unit.exact for unit in read(onnx(graph)).units}
    quantized = dict.fromkeys(names, "quantized already: DequantizeLinear")
    assert reasons == quantized | {
        "activation": "quantized already: QuantizeLinear",
        "w": None,
        "four": "quantized already: INT4",
    }


def test_what_is_not_here_is_told() -> None:
    tensor = onnx_tensor("w", 1, (4,), (13, field(1, b"location") + field(2, b"m.data")), (14, 1))
    (note,) = read(onnx(field(5, tensor))).notes
    assert (note.kind, note.text) == ("external", "1 tensor with data in another file, not here (w)")
    many = onnx_tensor("ids", 7, (50_000,), (7, bytes(50_000)))
    (note,) = read(onnx(field(5, many))).notes
    assert note.text == "50.0 kB of 50.0 kB are numbers as varints (ids): kept exactly, no pipeline reaches them"
    wrong = onnx_tensor("w", 1, (50_000,), (9, bytes(50_000)))
    (note,) = read(onnx(field(5, wrong))).notes
    assert "are tensors that are not read (w)" in note.text


def test_broken_models() -> None:
    data = onnx(field(5, onnx_tensor("w", 1, (4,), (9, FOUR))))
    for broken, message in (
        (data[:-20], "reaches out of its message"),
        (data + b"\x0b", "a field of kind 3"),
        (data + b"\x08" + b"\xff" * 10, "more than 64 bits"),
        (onnx(field(1, b"\x08\x80") + field(2, b"g")), "a number reaches out of its message"),
        (onnx(field(5, field(1, b"\x04\x80") + field(2, 1))), "a number reaches out of its message"),
        (data + b"\x02\x00", "reaches out of its message"),
    ):
        with pytest.raises(SourceError, match=message):
            read(broken)
        assert read(broken, "m.pb").kind == "opaque"
    assert read(data, "m.pb").kind == "onnx"


def test_the_beginning() -> None:
    graph = field(7, field(2, b"g"))
    assert begins_as_onnx(onnx(field(2, b"g")))
    assert begins_as_onnx(field(1, 3) + graph + bytes(8))
    assert begins_as_onnx(field(1, 10) + field(2, b"x") + field(5, 300) + field(6, b"doc\n") + field(8, b"") + graph)
    for other in (
        b"",
        field(1, 8) + field(2, b"\x0a" + bytes(90)),  # a SavedModel
        field(1, 0) + graph + bytes(8),
        field(1, 8) + field(7, bytes(20)),
        field(1, 8) + field(2, b"x" * 90),
        field(1, 8) + field(9, b"x" * 90) + graph,
    ):
        assert not begins_as_onnx(other)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    data = onnx(field(5, onnx_tensor("w", 1, (4,), (9, FOUR))) * 3)
    monkeypatch.setattr("bale.io.sources.storages.NAME_LIMIT", 2)
    assert "more than 2 tensors" in read(data).notes[0].text
    monkeypatch.setattr("bale.io.sources.onnx.wire._FIELDS", 8)
    assert "more than 8 fields" in read(data).notes[0].text


def test_a_name_that_very_many_tensors_share() -> None:
    """Tensors of an attribute have the name of the node's output."""
    tensor = field(5, onnx_tensor("", 3, (1,), (9, b"x")))
    name, attribute = b"n" * (1 << 19), tensor * 200
    assert "very long ones" in read(onnx(node(b"Constant", (), name, attribute))).notes[0].text

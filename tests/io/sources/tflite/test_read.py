"""TensorFlow Lite models: buffers that tensors name."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.sources.open import read_checkpoint
from bale.spec import TensorSpec
from tests.io.in_memory import InMemory
from tests.io.sources.samples import flatbuffer, tflite

FOUR = np.arange(4, dtype=np.float32).tobytes()


def read(data: bytes) -> Checkpoint:
    return read_checkpoint(Path("m.tflite"), InMemory(data))


def specs(data: bytes) -> dict[str, TensorSpec]:
    found = read(data)
    assert found.kind == "tflite"
    return {view.name: view.spec for unit in found.units for view in unit.views}


@pytest.mark.parametrize(
    ("kind", "dtype", "width"),
    [(0, "F32", 4), (1, "F16", 2), (2, "I32", 4), (3, "U8", 1), (4, "I64", 8), (6, "BOOL", 1), (9, "I8", 1)],
)
def test_types(kind: int, dtype: str, width: int) -> None:
    data = tflite([("w", kind, (2, 3), 1)], [bytes(range(6 * width))])
    assert specs(data) == {"w": TensorSpec(dtype, (2, 3))}
    (unit,) = read(data).units
    assert data[unit.start : unit.end] == bytes(range(6 * width))


def test_four_bits_are_bytes() -> None:
    assert specs(tflite([("w", 17, (3, 5), 1)], [bytes(8)])) == {"w": TensorSpec("U8", (8,))}


def test_tensors_that_share_a_buffer_are_views_of_one_unit() -> None:
    data = tflite([("a", 0, (2, 2), 1), ("b", 0, (4,), 1), ("a", 0, (1,), 2)], [FOUR, FOUR[:4]])
    first, second = read(data).units
    assert [view.name for view in first.views] == ["a", "b"]
    assert [view.name for view in second.views] == ["a~2"]
    assert first.exact is None
    (mixed,) = read(tflite([("a", 0, (4,), 1), ("b", 2, (4,), 1)], [FOUR])).units
    assert mixed.exact == "tensors of different dtypes share it"


@pytest.mark.parametrize(
    "tensor",
    [("w", 0, (5,), 1), ("w", 0, (4,), 0), ("w", 0, (4,), 7), ("w", 5, (4,), 1), ("w", 0, (1,) * 64 + (4,), 1)],
)
def test_tensors_that_have_no_data(tensor: tuple[str, int, tuple[int, ...], int]) -> None:
    assert specs(tflite([tensor], [FOUR])) == {}


def test_buffers_behind_the_tables() -> None:
    buffers = [{}, {1: struct.pack("<Q", 1000), 2: struct.pack("<Q", 16)}]
    row = {0: [4], 1: b"\0", 2: struct.pack("<I", 1), 3: "w"}
    data = flatbuffer({2: [{0: [row]}], 4: buffers}).ljust(1000, b"\0") + FOUR
    (unit,) = read(data).units
    assert (unit.start, unit.end) == (1000, 1016)
    for start, size in ((1000, 17), (2**63, 16), (1004, 2**63)):
        buffers[1] = {1: struct.pack("<Q", start), 2: struct.pack("<Q", size)}
        assert specs(flatbuffer({2: [{0: [row]}], 4: buffers}).ljust(1016, b"\0")) == {}
    buffers[1] = {1: struct.pack("<Q", 1000), 2: struct.pack("<Q", 16)}
    buffers.append({1: struct.pack("<Q", 1004), 2: struct.pack("<Q", 4)})
    rows = [row, {0: [1], 1: b"\0", 2: struct.pack("<I", 2), 3: "v"}]
    (note,) = read(flatbuffer({2: [{0: rows}], 4: buffers}).ljust(1016, b"\0")).notes
    assert note.text == "coded as opaque bytes: a TensorFlow Lite model whose buffers overlap"


@pytest.mark.parametrize("part", ["identifier", "model", "name", "vtable"])
def test_buffers_over_the_tables(part: str) -> None:
    """Loss would make other tables of them, so such a file is none of tensors."""

    def made(start: int) -> bytes:
        buffers = [{}, {1: struct.pack("<Q", start), 2: struct.pack("<Q", 4)}]
        return flatbuffer({2: [{0: [{0: [1], 1: b"\0", 2: struct.pack("<I", 1), 3: "name"}]}], 4: buffers}) + FOUR

    data = made(0)
    model = struct.unpack_from("<I", data)[0]
    places = {"identifier": 4, "model": model, "name": data.index(b"name")}
    places["vtable"] = model - struct.unpack_from("<i", data, model)[0]
    assert specs(made(len(data) - 16)) == {"name": TensorSpec("F32", (1,))}
    (note,) = read(made(places[part])).notes
    assert "'name' lies over what it was found by" in note.text


def test_bytes_of_no_tensor_are_told() -> None:
    (note,) = read(tflite([("w", 0, (4,), 1)], [FOUR, bytes(50_000)])).notes
    assert "are its graph, metadata, and buffers of no tensor" in note.text


def test_references_that_lead_nowhere() -> None:
    data = tflite([("w", 0, (4,), 1)], [FOUR])
    for broken in (b"\xff\xff\xff\x7f" + data[4:], data[: len(data) // 2], data[:8], b"\x10\0\0\0TFL3" + b"\xff" * 40):
        with pytest.raises(SourceError, match=r"broken: it (refers|has)"):
            read(broken)


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tflite([("w", 0, (4,), 1)] * 3, [FOUR])
    monkeypatch.setattr("bale.io.sources.tflite.read._LIMIT", 2)
    assert "3 tables in a vector" in read(data).notes[0].text
    monkeypatch.setattr("bale.io.sources.tflite.read._LIMIT", 1)
    assert "2 tables in a vector" in read(data).notes[0].text
    monkeypatch.setattr("bale.io.sources.tflite.flatbuffer._READS", 4)
    assert "too many tables" in read(data).notes[0].text


def test_a_name_that_very_many_tensors_share(monkeypatch: pytest.MonkeyPatch) -> None:
    data = tflite([("long name", 0, (4,), 1)] * 3, [FOUR])
    monkeypatch.setattr("bale.io.sources.storages.TEXT_LIMIT", 20)
    assert "very long ones" in read(data).notes[0].text

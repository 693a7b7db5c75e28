"""GGUF files: tensors by their types, keys of all kinds, and what is not followed."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.sources.gguf.types import TYPES
from bale.io.sources.open import read_checkpoint
from bale.spec import DTYPES, TensorSpec
from tests.io.in_memory import InMemory
from tests.io.reading import named_values, opened
from tests.io.sources.samples import WEIGHTS, gguf
from tests.making import bf16


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


def key(name: bytes, kind: int, value: bytes) -> bytes:
    return text(name) + struct.pack("<I", kind) + value


def array(kind: int, count: int, values: bytes) -> bytes:
    return struct.pack("<IQ", kind, count) + values


def read(data: bytes) -> Checkpoint:
    return read_checkpoint(Path("m.gguf"), InMemory(data))


def reason(data: bytes) -> str:
    """Why a file is coded as opaque bytes."""
    found = read(data)
    assert found.kind == "opaque"
    return found.notes[0].text


ONE = {"w": (0, (2, 3), bytes(24))}


@pytest.mark.parametrize("number", TYPES)
def test_all_types(number: int, tmp_path: Path) -> None:
    kind = TYPES[number]
    count = 6 * (kind.width if kind.is_quantized else DTYPES[kind.dtype].bits // 8)
    content = np.random.default_rng(number).bytes(count)
    (tmp_path / "m.gguf").write_bytes(gguf({"w": (number, (2, 3 * kind.elements), content)}))
    checkpoint = opened(tmp_path / "m.gguf")
    (unit,) = checkpoint.units
    assert named_values(checkpoint)["w"].tobytes() == content
    if kind.is_quantized:
        assert unit.spec == TensorSpec("U8", (2, 3, kind.width))
        assert unit.exact == f"quantized already: {kind.name}"
    else:
        assert unit.spec == TensorSpec(kind.dtype, (2, 3))
        assert unit.exact is None


def test_shapes_of_blocks() -> None:
    for shape, expected in (((64,), (1, 2, 34)), ((5, 64), (5, 2, 34)), ((2, 5, 32), (2, 5, 1, 34))):
        (unit,) = read(gguf({"w": (8, shape, bytes(np.prod(expected)))})).units
        assert unit.spec.shape == expected
    with pytest.raises(SourceError, match=r"rows of 48 elements, which are no whole blocks of Q8_0"):
        read(gguf({"w": (8, (2, 48), bytes(102))}))


def test_keys_of_all_kinds() -> None:
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
    keys = [key(b"k%d" % kind, kind, bytes(size)) for kind, size in sizes.items()]
    keys += [key(b"a%d" % kind, 9, array(kind, 5, bytes(5 * size))) for kind, size in sizes.items()]
    keys += [key(b"t", 8, text(b"hello")), key(b"at", 9, array(8, 3, text(b"") + text(b"a") + text(b"bc")))]
    found = read(gguf(ONE, b"".join(keys), len(keys)))
    assert [unit.label for unit in found.units] == ["w"]
    assert found.units[0].spec == TensorSpec("F32", (2, 3))


def test_other_alignments() -> None:
    for alignment in (1, 8, 64, 4096):
        data = gguf(ONE, key(b"general.alignment", 4, struct.pack("<I", alignment)), 1)
        directory = data[: data.index(b"\x01\0\0\0\0\0\0\0w") + 9 + 4 + 16 + 12]
        start = -(-len(directory) // alignment) * alignment
        (unit,) = read(directory.ljust(start, b"\0") + bytes(24)).units
        assert unit.start == start
    for alignment in (0, 3, 48):
        keys = key(b"general.alignment", 4, struct.pack("<I", alignment))
        with pytest.raises(SourceError, match=f"its alignment is {alignment}, no power of two"):
            read(gguf(ONE, keys, 1))


def test_version_2_and_big_endian_3(tmp_path: Path) -> None:
    data = bytearray(gguf(ONE))
    data[4] = 2
    assert read(bytes(data)).kind == "gguf"
    for version in (0, 1, 4):
        data[4] = version
        assert reason(bytes(data)) == f"coded as opaque bytes: a GGUF file of version {version}, which is not followed"
    content = WEIGHTS.astype(">f4").tobytes()
    head = b"GGUF" + struct.pack(">IQQQ", 3, 1, 0, 1) + b"w" + struct.pack(">IQQIQ", 2, 64, 24, 0, 0)
    (tmp_path / "m.gguf").write_bytes(head + bytes(-len(head) % 32) + content)
    checkpoint = opened(tmp_path / "m.gguf")
    assert (named_values(checkpoint)["w"] == WEIGHTS).all()
    assert (checkpoint.units[0].swapped, checkpoint.units[0].exact) == (True, "big-endian")


def test_vocabularies_alone() -> None:
    found = read(b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key(b"t", 8, text(b"hello")))
    assert (found.kind, found.units) == ("gguf", ())


def test_bytes_in_no_tensor_are_told() -> None:
    words = array(8, 5000, text(b"word") * 5000)
    (note,) = read(gguf(ONE, key(b"tokens", 9, words) + key(b"n", 0, b"\1"), 2)).notes
    assert note.text == "60.0 kB of 60.2 kB are metadata (tokens, n): kept exactly, no pipeline reaches them"
    (note,) = read(gguf(ONE | {"new": (77, (100,), bytes(50_000))})).notes
    assert "are tensors of types that are not known (new)" in note.text
    (note,) = read(gguf(ONE) + bytes(50_000)).notes
    assert "are filling and rests of its data" in note.text


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({"w": (0, (2, 4), bytes(24))}, "'w' takes 32 bytes from 0 on and its data are 24"),
        ({"w": (0, (2**40, 2**40), b"")}, "more elements than the file has room for"),
        ({"w": (0, (2**63, 0), b"")}, "more elements than the file has room for"),
        ({"w": (77, (2**63,), b"")}, "more elements than the file has room for"),
        ({"w": (0, (1,) * 5, bytes(4))}, "'w' has 5 dimensions, the limit is 4"),
    ],
)
def test_tensors_that_lie(tensors: dict[str, tuple[int, tuple[int, ...], bytes]], message: str) -> None:
    with pytest.raises(SourceError) as raised:
        read(gguf(tensors))
    assert message in raised.value.message


def test_empty_tensors_and_scalars() -> None:
    found = read(gguf({"w": (0, (0, 4), b""), "v": (0, (), bytes(4))}))
    assert {unit.label: unit.spec.shape for unit in found.units} == {"w": (0, 4), "v": ()}


def test_what_is_not_followed() -> None:
    nested = key(b"n", 9, array(9, 1, array(0, 1, b"\0")))
    assert "with arrays of arrays (n)" in reason(gguf(ONE, nested, 1))
    assert "'n' has the type 13" in reason(gguf(ONE, key(b"n", 13, b""), 1))
    assert "more than are looked at" in reason(b"GGUF" + struct.pack("<IQQ", 3, 250_001, 0))
    overlapping = gguf({"a": (0, (8,), bytes(32)), "b": (0, (8,), bytes(32))})
    entry = overlapping.rindex(struct.pack("<IQ", 0, 32))
    moved = overlapping[: entry + 4] + struct.pack("<Q", 0) + overlapping[entry + 12 :]
    assert "tensors overlap (b)" in reason(moved)


def test_counts_of_texts_are_not_trusted() -> None:
    for count in (1 << 20, 1 << 40, 1 << 62):
        with pytest.raises(SourceError, match="it announces"):
            read(gguf(ONE, key(b"t", 9, array(8, count, b"")), 1))
        with pytest.raises(SourceError, match="it ends at byte"):
            read(gguf(ONE, key(b"t", 9, array(0, count, b"")), 1))


def test_blocks_are_coded_as_records_and_are_never_lossy(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    blocks = np.empty((64, 16, 34), np.uint8)
    blocks[..., :2] = np.exp(rng.standard_normal((64, 16, 1)) / 4).astype("<f2").view(np.uint8)
    blocks[..., 2:] = np.rint(rng.standard_normal((64, 16, 32)) * 40).clip(-127, 127).astype(np.int8).view(np.uint8)
    floats = bf16(rng.standard_normal((64, 512)).astype(np.float32))
    tensors = {"q": (8, (64, 512), blocks.tobytes()), "f": (30, (64, 512), floats.data)}
    (tmp_path / "m.gguf").write_bytes(gguf(tensors))
    report = bale.compress(tmp_path / "m.gguf", pipeline="int8").to_json()
    rows = {row["name"]: row for row in report["tensors"]}
    assert rows["q"]["stored_bytes"] < 0.96 * blocks.nbytes
    assert rows["q"]["notes"] == ["quantized already: Q8_0"]
    assert (rows["q"]["pipeline"], rows["f"]["pipeline"]) == ("lossless", "int8")
    (archive,) = tmp_path.glob("*.bale")
    bale.decompress(archive, tmp_path / "back.gguf")
    back = opened(tmp_path / "back.gguf")
    assert back.kind == "gguf"
    assert (named_values(back)["q"] == blocks).all()


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = key(b"t", 9, array(8, 3, text(b"a") * 3))
    monkeypatch.setattr("bale.io.sources.gguf.header._TEXTS", 5)
    assert read(gguf(ONE, texts, 1)).kind == "gguf"
    assert "more than 5 texts in arrays" in reason(gguf(ONE, texts * 2, 2))

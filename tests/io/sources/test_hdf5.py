from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.sources import storages
from bale.io.sources.hdf5 import blocks
from bale.io.sources.open import open_checkpoint
from tests.io.reading import named_values, opened
from tests.io.sources.hdf5_files import (
    ATTRIBUTE,
    CONTINUATION,
    DATASPACE,
    DATATYPE,
    FILTERS,
    LAYOUT,
    LINK,
    NONE,
    SYMBOL_TABLE,
    File,
    dataspace,
    datatype,
    hdf5,
    layout,
    link,
)

W = np.arange(12, dtype=np.float32).reshape(3, 4)
BOTH = pytest.mark.parametrize("new", [False, True], ids=["old", "new"])


def read(tmp_path: Path, data: bytes) -> Checkpoint:
    (tmp_path / "m.h5").write_bytes(data)
    return opened(tmp_path / "m.h5")


def names(found: Checkpoint) -> list[str]:
    return [view.name for unit in found.units for view in unit.views]


@BOTH
def test_dtypes_and_shapes(tmp_path: Path, new: bool) -> None:
    dtypes = ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"]
    values = {dtype: np.arange(6).reshape(2, 3).astype(dtype) for dtype in dtypes}
    values |= {"scalar": np.float32(3), "empty": np.zeros((0, 3), np.float32)}
    found = read(tmp_path, hdf5({name: np.asarray(value) for name, value in values.items()}, new))
    assert found.kind == "hdf5"
    assert not found.notes
    for name, value in named_values(found).items():
        assert value.dtype == values[name].dtype
        assert value.shape == values[name].shape
        assert (value == values[name]).all()


@BOTH
def test_big_endian_is_exact(tmp_path: Path, new: bool) -> None:
    found = read(tmp_path, hdf5({"w": W.astype(">f4"), "one": np.zeros(3, ">i1")}, new))
    assert {unit.label: (unit.swapped, unit.exact) for unit in found.units} == {
        "w": (True, "big-endian"),
        "one": (False, None),
    }
    assert (named_values(found)["w"] == W).all()


@BOTH
def test_names_are_paths_and_each_object_is_seen_once(tmp_path: Path, new: bool) -> None:
    file = File(new)
    w = file.dataset(W)
    inner = file.group({"kernel": w})
    data = file.finish(file.group({"layers": file.group({"dense": inner}), "again": inner, "tied": w}))
    (unit,) = read(tmp_path, data).units
    assert [view.name for view in unit.views] == ["tied", "again/kernel"]


def test_groups_in_a_circle(tmp_path: Path) -> None:
    file = File(new=True)
    w, inner = file.dataset(W), len(file.data) + 400
    file.data += bytes(inner - len(file.data))
    assert file.put(b"") == inner
    file.object([(LINK, link("up", inner)), (LINK, link("w", w))])
    assert names(read(tmp_path, file.finish(inner))) == ["w"]


def test_dense_groups(tmp_path: Path) -> None:
    file = File(new=True)
    links = {f"weight-{number:03}": file.dataset(W + number) for number in range(100)}
    found = read(tmp_path, file.finish(file.dense_group(links)))
    assert sorted(names(found)) == sorted(links)
    assert all((value == W + int(name[-3:])).all() for name, value in named_values(found).items())


@BOTH
def test_headers_that_go_on_elsewhere(tmp_path: Path, new: bool) -> None:
    file = File(new)
    value = file.put(W.tobytes())
    rest = file.object([(DATATYPE, datatype(W.dtype)), (LAYOUT, layout(value, W.nbytes))])
    block = bytes(file.data[rest + (10 if new else 16) :])
    block = b"OCHK" + block if new else block
    place = struct.pack("<QQ", file.put(block), len(block))
    header = file.object([(DATASPACE, dataspace(W.shape)), (CONTINUATION, place)])
    (unit,) = read(tmp_path, file.finish(file.group({"w": header}))).units
    assert (unit.start, unit.spec.shape) == (value, W.shape)


@pytest.mark.parametrize("part", ["superblock", "header", "names", "node", "own header"])
def test_values_over_the_structure(tmp_path: Path, part: str) -> None:
    """Loss would make another structure of it, so such a file is none of tensors."""

    def made(at: int | None) -> tuple[bytes, dict[str, int]]:
        file = File()
        w, v = file.dataset(W), file.dataset(W)
        messages = [(DATASPACE, dataspace((2,))), (DATATYPE, datatype(W.dtype)), (LAYOUT, layout(at or 96, 8))]
        own = file.object(messages)
        data = file.finish(file.group({"w": w, "v": v, "over": own}))
        places = {"superblock": 60, "header": w + 16, "names": data.index(b"over"), "node": data.index(b"SNOD") + 4}
        return data, places | {"own header": own}

    _, places = made(None)
    checkpoint = read(tmp_path, made(places[part])[0])
    assert checkpoint.kind == "opaque"
    assert "'over' lies over what it was found by" in checkpoint.notes[0].text


def test_a_header_that_goes_on_in_a_circle(tmp_path: Path) -> None:
    file = File()
    block = file.object([(CONTINUATION, bytes(16))]) + 16
    file.data[block + 8 : block + 24] = struct.pack("<QQ", block, 24)
    (tmp_path / "m.h5").write_bytes(file.finish(file.object([(CONTINUATION, struct.pack("<QQ", block, 24))])))
    with pytest.raises(SourceError, match="circle"):
        open_checkpoint(tmp_path / "m.h5")


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ((LAYOUT, struct.pack("<BBBQ", 3, 2, 3, 800)), "in chunks"),
        ((LAYOUT, struct.pack("<BBH", 3, 0, 4) + bytes(4)), "compact"),
        ((LAYOUT, struct.pack("<BBQI", 4, 3, 800, 0)), "virtual"),
        ((LAYOUT, b"\x09\x01" + bytes(16)), "of an unknown layout"),
        ((LAYOUT, layout(NONE, 0)), "never written"),
        ((FILTERS, struct.pack("<BB6xHHHH", 1, 1, 3, 0, 0, 0)), "in filtered chunks"),
        ((DATATYPE, struct.pack("<BBBBI", 0x13, 0, 0, 0, 4) + bytes(8)), "of other types"),
        ((DATASPACE, struct.pack("<BBBB", 2, 0, 0, 2)), "of other types"),
    ],
)
def test_datasets_that_stay_in_the_skeleton(tmp_path: Path, message: tuple[int, bytes], words: str) -> None:
    file = File()
    big = file.put(bytes(range(256)) * 400)
    messages = [(DATASPACE, dataspace((25600,))), (DATATYPE, datatype(W.dtype)), (LAYOUT, layout(big, 102400))]
    odd = file.object([*messages, message])
    data = file.finish(file.group({"odd": odd, "w": file.dataset(W)}))
    found = read(tmp_path, data)
    assert names(found) == ["w"]
    (note,) = found.notes
    assert f"datasets {words} (odd)" in str(note)
    bale.compress(tmp_path / "m.h5", tmp_path / "m.bale")
    bale.decompress(tmp_path / "m.bale", tmp_path / "back.h5")
    assert (tmp_path / "back.h5").read_bytes() == data


def test_bfloat16_as_keras_marks_it(tmp_path: Path) -> None:
    file = File()
    heap = struct.pack("<HH4xQ", 1, 1, 8) + b"bfloat16" + struct.pack("<HH4xQ", 0, 0, 0)
    at = file.put(b"GCOL" + struct.pack("<B3xQ", 1, 16 + len(heap)) + heap)
    name = struct.pack("<BxHHH", 1, 6, 24, 8) + b"dtype\0\0\0" + bytes(32)
    opaque = struct.pack("<BBBBI", 0x15, 0, 0, 0, 2) + bytes(8)
    value = file.put(bytes(8))
    links = {}
    for key, text in {"w": (8, at, 1), "other": (8, at, 7)}.items():
        mark = (ATTRIBUTE, name + struct.pack("<IQI", *text))
        messages = [(DATASPACE, dataspace((4,))), (DATATYPE, opaque), (LAYOUT, layout(value, 8)), mark]
        links[key] = file.object(messages)
    (unit,) = read(tmp_path, file.finish(file.group(links))).units
    assert (unit.label, str(unit.spec)) == ("w", "BF16[4]")


def test_datasets_that_overlap(tmp_path: Path) -> None:
    file = File()
    value = file.put(bytes(96))
    headers = [
        file.object([(DATASPACE, dataspace((12,))), (DATATYPE, datatype(W.dtype)), (LAYOUT, layout(value + at, 48))])
        for at in (0, 40)
    ]
    found = read(tmp_path, file.finish(file.group({"a": headers[0], "b": headers[1]})))
    assert found.kind == "opaque"
    assert "a and b overlap" in str(found.notes[0])


def test_a_file_that_was_cut(tmp_path: Path) -> None:
    data = hdf5({"w": W})
    (tmp_path / "m.h5").write_bytes(data[:-1])
    with pytest.raises(SourceError, match=f"only {len(data) - 1} of the {len(data)} bytes"):
        open_checkpoint(tmp_path / "m.h5")


@pytest.mark.parametrize(("at", "value", "words"), [(8, 9, "superblock of version 9"), (13, 4, "addresses of 4 bytes")])
def test_files_of_other_kinds(tmp_path: Path, at: int, value: int, words: str) -> None:
    data = bytearray(hdf5({"w": W}))
    data[at] = value
    found = read(tmp_path, bytes(data))
    assert found.kind == "opaque"
    assert words in str(found.notes[0])


def test_symbol_nodes_that_a_tree_lists_over_and_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(blocks, "WORK_LIMIT", 1000)
    file = File()
    table = file.symbol_table({f"w{number}": file.dataset(W) for number in range(100)})
    tree, heap = struct.unpack("<QQ", table)
    node = struct.unpack_from("<Q", file.data, tree + 32)[0]
    children = struct.pack("<QQ", 0, node) * 60
    tree = file.put(b"TREE" + struct.pack("<BBHQQ", 0, 0, 60, NONE, NONE) + children)
    found = read(tmp_path, file.finish(file.object([(SYMBOL_TABLE, struct.pack("<QQ", tree, heap))])))
    assert found.kind == "opaque"
    assert "more than 1000 steps" in str(found.notes[0])


def test_paths_that_grow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storages, "TEXT_LIMIT", 10_000)
    file = File(new=True)
    at = file.dataset(W)
    for _ in range(200):
        at = file.group({"a": at})
    found = read(tmp_path, file.finish(at))
    assert found.kind == "opaque"
    assert "very long ones" in str(found.notes[0])


def test_very_many_names_of_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storages, "NAME_LIMIT", 50)
    file = File()
    w = file.dataset(W)
    found = read(tmp_path, file.finish(file.group({f"{number}": w for number in range(50)})))
    assert found.kind == "opaque"
    assert "more than 50 tensors" in str(found.notes[0])


def test_an_object_of_very_many_messages(tmp_path: Path) -> None:
    file = File(new=True)
    found = read(tmp_path, file.finish(file.object([(LINK, b"")] * 140_000)))
    assert found.kind == "opaque"
    assert "very many messages" in str(found.notes[0])


def test_enumerations(tmp_path: Path) -> None:
    links, file = dict[str, int](), File()
    head, base = struct.pack("<BBBBI", 0x18, 2, 0, 0, 1), datatype(np.dtype("i1"))
    booleans = head + base + b"FALSE\0\0\0TRUE\0\0\0\0\0\1"
    value_at = file.put(bytes(3))
    for name, element in {"b": booleans, "deep": head * 4000 + base}.items():
        messages = [(DATASPACE, dataspace((3,))), (DATATYPE, element), (LAYOUT, layout(value_at, 3))]
        links[name] = file.object(messages)
    (unit,) = read(tmp_path, file.finish(file.group(links))).units
    assert (unit.label, str(unit.spec)) == ("b", "BOOL[3]")


def test_continuations_of_nothing_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = File()
    empty = file.object([(CONTINUATION, struct.pack("<QQ", 8 + at, 0)) for at in range(70)])
    data = file.finish(file.group({"empty": empty}))
    assert read(tmp_path, data).kind == "hdf5"
    monkeypatch.setattr(blocks, "WORK_LIMIT", 100)
    assert "more than 100 steps" in str(read(tmp_path, data).notes[0])

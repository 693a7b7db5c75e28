from __future__ import annotations

from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.faults import TooMuch
from bale.io.sources import msgpack
from bale.io.sources.msgpack import Items, walk
from tests.io.reading import named_values, opened
from tests.io.sources.samples import WEIGHTS, flax_array, flax_map
from tests.io.test_bombs import at_most


def saved(path: Path, data: bytes) -> Checkpoint:
    path.write_bytes(data)
    return opened(path)


def test_dtypes_and_other_values(tmp_path: Path) -> None:
    arrays = {
        "w": WEIGHTS.astype(ml_dtypes.bfloat16),
        "i": np.arange(5),
        "scalar": np.array(2.5, "f2"),
        "none": np.zeros((0, 3), "f4"),
    }
    entries = {name: flax_array(array.shape, array.dtype.name, array.tobytes()) for name, array in arrays.items()}
    others = b"\x99\xc0\xc3\x07\xff\xcd\x01\x00\xcb" + bytes(8) + b"\xd5\x02\x00\x00\xa1x\xc4\x01x"
    checkpoint = saved(tmp_path / "m.msgpack", flax_map({"others": others, "p": flax_map(entries)}))
    values = named_values(checkpoint)
    assert values.keys() == {f"p.{name}" for name in arrays}
    for name, array in arrays.items():
        assert values[f"p.{name}"].shape == array.shape
        assert values[f"p.{name}"].tobytes() == array.tobytes()
    assert checkpoint.units[0].spec.dtype == "BF16"
    assert not checkpoint.notes


def test_arrays_in_chunks(tmp_path: Path) -> None:
    halves = np.split(WEIGHTS.reshape(-1), 2)
    chunks = flax_map({str(n): flax_array(half.shape, "float32", half.tobytes()) for n, half in enumerate(halves)})
    shape = flax_map({"0": b"\x18", "1": b"\x40"})
    data = flax_map({"w": flax_map({"__msgpack_chunked_a": b"\xc3", "shape": shape, "chunks": chunks})})
    assert list(named_values(saved(tmp_path / "m.msgpack", data))) == ["w.chunks.0", "w.chunks.1"]


@pytest.mark.parametrize(
    ("entry", "reason"),
    [
        (flax_array((24, 65), "float32", WEIGHTS.tobytes()), "without arrays"),
        (flax_array((24, 64), "int4", WEIGHTS.tobytes()), "without arrays"),
        (b"\xc9\xff\xff\xff\xff\x01", "bytes early"),
        (flax_array((24, 64), "float32", WEIGHTS.tobytes())[:18], "bytes early"),
        (b"\xc7\x04\x01\x93\x91\x01\xa7", "without arrays"),
        (b"\xdf\xff\xff\xff\xff\xa1x\x01", "before all that it announces"),
        (b"\xc1", "no msgpack at byte 3"),
        (b"\x91" * 2000 + b"\x01", "more than 1000 deep"),
        (b"\x81\x90\x01", "keys that are no texts"),
    ],
)
def test_what_is_not_followed_is_opaque(tmp_path: Path, entry: bytes, reason: str) -> None:
    with at_most(1 << 21):
        checkpoint = saved(tmp_path / "m.msgpack", flax_map({"w": entry}))
    assert checkpoint.kind == "opaque"
    assert reason in checkpoint.notes[0].text


@pytest.mark.parametrize("keys", [("a",), ("a", "b")])
def test_a_file_that_is_cut_in_an_array_or_behind_one_is_broken(tmp_path: Path, keys: tuple[str, ...]) -> None:
    array = flax_array(WEIGHTS.shape, "float32", WEIGHTS.tobytes())
    data = flax_map(dict.fromkeys(keys, array))
    for left in (1, 2, 1000, len(array) - 40):
        with pytest.raises(SourceError, match=rf"broken: its msgpack goes on behind byte {len(data) - left}, where"):
            saved(tmp_path / "m.msgpack", data[:-left])
    if len(keys) > 1:
        with pytest.raises(SourceError, match="broken"):
            saved(tmp_path / "m.msgpack", data[: -len(array)])


def test_windows_of_any_length() -> None:
    data = flax_map({"a": flax_map({"b": b"\xda\x00\x05hello", "c": b"\x92\x01\x02"}), "d": b"\xc0"})
    expected = ["a.b", "a.c.0", "a.c.1", "d"]
    for window in range(1, 20):
        found = walk(Items(lambda size, at: data[at : at + size], 0, len(data), window))
        assert [".".join(labels) for labels, _ in found] == expected


def test_more_items_than_any_file_has(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(msgpack, "ITEM_LIMIT", 100)
    for count, is_read in ((97, True), (98, False)):  # beside a map, a key and the array
        data = flax_map({"a": b"\xdc" + count.to_bytes(2) + bytes(count)})
        found = walk(Items(lambda size, at, data=data: data[at : at + size], 0, len(data)))
        if is_read:
            assert len(list(found)) == count
        else:
            with pytest.raises(TooMuch, match="more than 100 items"):
                list(found)

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.faults import Unsupported
from bale.io.sources import storages
from bale.io.sources.open import open_checkpoint
from bale.io.sources.tensorflow.data import CHECKED
from bale.io.sources.tensorflow.index import read_index
from bale.io.sources.tensorflow.renew import renewed
from tests.io.reading import named_values, opened
from tests.io.sources.tensorflow_files import MAGIC, block, checkpoint, entry, header, nested, number, table, varint

W = np.random.default_rng(0).standard_normal((24, 64)).astype(np.float32)
VALUES = {"layer/kernel": W, "layer/bias": W[0], "step": np.int64(7), "half": W[:2].astype("f2"), "none": W[:0]}
VALUES = {name: np.asarray(value) for name, value in VALUES.items()}


def with_index(folder: Path, data: bytes, written: bytes, name: str = "m.data-00000-of-00001") -> Checkpoint:
    (folder / name).write_bytes(data)
    (folder / "m.index").write_bytes(written)
    return open_checkpoint(folder / name)


def reason(found: Checkpoint) -> str:
    assert found.kind == "opaque"
    return str(found.notes[0])


def test_tensors_by_name(tmp_path: Path) -> None:
    found = opened(checkpoint(tmp_path, VALUES))
    assert found.kind == "tensorflow"
    assert not found.notes
    for name, value in named_values(found).items():
        assert value.dtype == VALUES[name].dtype
        assert value.shape == VALUES[name].shape
        assert (value == VALUES[name]).all()
    assert {unit.exact for unit in found.units} == {CHECKED}


def test_a_folder_comes_back_and_holds_each_weight_once(tmp_path: Path) -> None:
    folder = tmp_path / "model" / "variables"
    folder.mkdir(parents=True)
    (tmp_path / "model" / "saved_model.pb").write_bytes(b"\x08\1graph")
    data = checkpoint(folder, {"_all_variables/0": W, "variables/0": W}, "variables")
    before = {path.name: path.read_bytes() for path in (tmp_path / "model").rglob("*") if path.is_file()}
    bale.compress(tmp_path / "model", tmp_path / "small", pipeline="int4")
    bale.decompress(tmp_path / "small", tmp_path / "back")
    assert {path.name: path.read_bytes() for path in (tmp_path / "back").rglob("*") if path.is_file()} == before
    archive = tmp_path / "small" / "variables" / f"{data.name}.bale"
    assert archive.stat().st_size < 0.6 * data.stat().st_size


def test_data_without_its_index(tmp_path: Path) -> None:
    data = checkpoint(tmp_path, VALUES)
    (tmp_path / "m.index").unlink()
    assert "without the m.index" in reason(open_checkpoint(data))


def test_shards_and_slices(tmp_path: Path) -> None:
    key = b"\0part\xff\0\0\xffd\0\1\1\1"  # the name, and numbers of the slice
    pairs = [header(2), (key, entry(1, (2,), 4, 8, 1)), (b"part", entry(1, (4,), 0, 0) + nested(7, b""))]
    pairs += [(b"w", entry(1, (3,), 0, 12)), (b"x", entry(1, (1,), 0, 4, 1))]
    first = with_index(tmp_path, bytes(12), table(pairs), "m.data-00000-of-00002")
    second = with_index(tmp_path, bytes(12), table(pairs), "m.data-00001-of-00002")
    assert [unit.label for unit in first.units] == ["w"]
    assert [(unit.label, unit.start) for unit in second.units] == [("x", 0), ("part\\xff\0d", 4)]
    assert "is of 2 data files" in reason(with_index(tmp_path, bytes(12), table(pairs), "m.data-00000-of-00003"))


def test_big_endian_values(tmp_path: Path) -> None:
    found = with_index(
        tmp_path, bytes(9), table([header(big=True), (b"b", entry(4, (1,), 8, 1)), (b"w", entry(1, (2,), 0, 8))])
    )
    assert [(unit.label, unit.swapped) for unit in found.units] == [("w", True), ("b", False)]


@pytest.mark.parametrize("head", [b"\x81\xa1a", b"\x80\x02.", b"PK\x03\x04"])
def test_data_that_begins_as_another_format(tmp_path: Path, head: bytes) -> None:
    values = np.frombuffer(head.ljust(64, b"\7"), "<f4")
    checkpoint(tmp_path, {"w": values, "x": W})
    found = opened(tmp_path / "m.data-00000-of-00001")
    assert (found.kind, [unit.label for unit in found.units]) == ("tensorflow", ["w", "x"])


def test_texts_are_told_of(tmp_path: Path) -> None:
    (note,) = opened(checkpoint(tmp_path, VALUES, text=bytes(20_000))).notes
    assert "no numbers (~text)" in str(note)


def test_data_that_was_cut(tmp_path: Path) -> None:
    data = checkpoint(tmp_path, VALUES)
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(SourceError, match=r"its \.index puts 'step' at bytes"):
        open_checkpoint(data)


@pytest.mark.parametrize(
    ("written", "words"),
    [
        (b"", "no table"),
        (table([header(), (b"w", entry(1, (3,), 0, 12))], kind=1), "is compressed"),
        (table([(b"w", entry(1, (3,), 0, 12))]), "no header"),
        (table([header(), (b"w", entry(1, (3,), 0, 12)), (b"x", entry(1, (2,), 4, 8))]), "w and x overlap"),
        (table([header(), (b"w", entry(1, (1,) * 65, 0, 4))]), "impossible dimensions"),
        (table([header(), (b"w", entry(1, ((1 << 64) - 1,), 0, 4))]), "impossible dimensions"),
        (table([header(), (b"w", number(1, 1) + b"\x12\x7f")]), "a field of 127 bytes"),
        (table([header(), (b"w" * 20_000, entry(1, (3,), 0, 12))]), "a pair at byte"),
    ],
)
def test_an_index_that_is_not_followed(tmp_path: Path, written: bytes, words: str) -> None:
    assert words in reason(with_index(tmp_path, bytes(12), written))


def test_names_beyond_all_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storages, "NAME_LIMIT", 10)
    written = table([header(), *((f"{each:03}".encode(), entry(1, (1,), 0, 4)) for each in range(11))])
    with pytest.raises(Unsupported, match="more than 10 tensors"):
        read_index(written, 0)


def test_an_index_that_is_cut_or_changed_at_any_byte(tmp_path: Path) -> None:
    checkpoint(tmp_path, VALUES)
    whole = (tmp_path / "m.index").read_bytes()
    changed = [whole[:at] for at in range(0, len(whole), 3)]
    for pattern in (b"\xff" * 8, b"\0" * 4, b"\x80", b"\xff\xff\xff\x7f"):
        changed += [(whole[:at] + pattern + whole[at + len(pattern) :])[: len(whole)] for at in range(0, len(whole), 5)]
    for data in changed:
        with suppress(Unsupported):
            assert len(renewed(data, {(0, 512, 6144): 1}, len)) == len(data)
        try:
            found = with_index(tmp_path, bytes(7000), data)
        except SourceError:
            continue
        ends = [0, *(unit.end for unit in found.units)]
        assert all(end <= unit.start for end, unit in zip(ends, found.units, strict=False))
        assert ends[-1] <= 7000


def test_names_share_their_beginnings() -> None:
    written = table([header()], [(f"layer/{each:06}".encode(), entry(1, (1,), 4 * each, 4)) for each in range(2000)])
    found = read_index(written, 0)
    assert len(found.entries) == 2000
    assert found.entries[-1].name == "layer/001999"


def test_no_block_is_read_twice() -> None:
    data = block([header()]) + bytes(5)
    places = [varint(0) + varint(len(data) - 5)] * 2
    handles = block((b"%d" % number, place) for number, place in enumerate(places))
    footer = (bytes(2) + varint(len(data)) + varint(len(handles))).ljust(40, b"\0") + MAGIC
    with pytest.raises(Unsupported, match="a block at byte 0, before the end of another"):
        read_index(data + handles + bytes(5) + footer, 0)

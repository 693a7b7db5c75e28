"""Records, and the names in records and indexes, are taken for what they are: not trusted."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import bale
from bale.errors import ArchiveError, OutputError, SourceError
from bale.io.folders.indexes import read_index
from bale.io.folders.record import RECORD, Entry, Record, begin_folder, read_record
from bale.io.storage.leftovers import lock_folder
from tests.io.folders.examining import UNSAFE
from tests.making import names_in, weights, write


@pytest.mark.parametrize("name", ["n" * 256, "ü" * 128, f"a/{'n' * 300}/b", "a/" * 600 + "x", "\ud800", "a/\udfff"])
def test_names_that_no_file_can_have(tmp_path: Path, stored: Path, name: str) -> None:
    """In records and indexes alike: asking the system for such a file would be an error of another kind."""
    record = json.loads((stored / RECORD).read_text())
    entry = record["files"]["m.safetensors"]
    for called in (name, f"{name[:253]}.b"):
        forged = record | {"files": {called: {**entry, "stored": f"{called}.bale"}}}
        (stored / RECORD).write_text(json.dumps(forged))
        for ask in (bale.verify, bale.inspect, lambda path: bale.decompress(path, tmp_path / "out")):
            with pytest.raises(ArchiveError, match=r"too long|no file can be called|missing|cannot read"):
                ask(stored)
    source = tmp_path / "source"
    source.mkdir()
    write(source / "m.safetensors", {"w": weights(8)})
    (source / "m.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(SourceError, match=r"too long|no file can be called"):
        bale.compress(source)


def test_records_and_indexes_of_gigabytes_are_not_read(tmp_path: Path, stored: Path) -> None:
    """Sparse files, which cost nothing to make: memory would be several times as much."""
    with open(stored / RECORD, "r+b") as file:
        file.truncate(3 << 30)
    with pytest.raises(ArchiveError, match="more than 268435456 bytes"):
        read_record(stored)
    (tmp_path / "m.safetensors.index.json").write_text("{")
    os.truncate(tmp_path / "m.safetensors.index.json", 3 << 30)
    found = read_index(tmp_path, "m.safetensors.index.json")
    assert "more than 33554432 bytes" in str(found and found.problem)


def test_a_record_is_read_as_written(tmp_path: Path) -> None:
    entries = {
        "a/b\udcff": Entry("safetensors", "a/b\udcff.bale", 10, "0" * 64, 5, "1" * 64, "choices"),
        "c": Entry("copy", "c", 0, "2" * 64, 0, "2" * 64),
    }
    record = Record(True, entries)
    (tmp_path / RECORD).write_bytes(record.encode())
    assert read_record(tmp_path) == record
    assert Record(True, dict(reversed(entries.items()))).encode() == record.encode()
    assert b'"a/b\\udcff"' in record.encode()  # valid JSON to any reader
    assert record.encode().isascii()
    (tmp_path / RECORD).write_bytes(record.encode().replace(b"\\udcff", b"\xff"))  # as it was written once
    assert read_record(tmp_path) == record


# Forged records: a compressed folder that was tampered with.


def _entry(data: dict[str, Any]) -> dict[str, Any]:
    return data["files"]["README.md"]


def _weights(data: dict[str, Any]) -> dict[str, Any]:
    return data["files"]["m.safetensors"]


def _put(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda data: _entry(data).update({key: value})


def _rename(name: str) -> Callable[[dict[str, Any]], object]:
    return lambda data: data["files"].update({name: data["files"].pop("README.md")})


FORGED: dict[str, Callable[[dict[str, Any]], object]] = {
    **{f"name {name!r}": _rename(name) for name in UNSAFE},
    **{f"stored {name!r}": _put("stored", name) for name in UNSAFE},
    "the record's own name": _rename(RECORD),
    "negative size": lambda data: _entry(data)["source"].update(bytes=-1),
    "size of a text": lambda data: _entry(data)["source"].update(bytes="5"),
    "digest of a number": lambda data: _entry(data)["archive"].update(sha256=5),
    "digest of another file": lambda data: _entry(data)["archive"].update(sha256="0" * 64),
    "digest that is none": lambda data: _entry(data)["archive"].update(sha256="x" * 64),
    "other size": lambda data: _entry(data)["archive"].update(bytes=1),
    "no files": lambda data: data.update(files={}),
    "files are a list": lambda data: data.update(files=[]),
    "newer format": lambda data: data.update(format=2),
    "incomplete": lambda data: data.update(complete=False),
    "complete in another way": lambda data: data.update(complete="yes"),
    "folders are a text": lambda data: data.update(folders="a"),
    "a folder elsewhere": lambda data: data.update(folders=["../a"]),
    "a folder that is a file": lambda data: data.update(folders=["README.md"]),
    "a folder below a file": lambda data: data.update(folders=["README.md/a"]),
    "a file that is not there": _put("stored", "missing"),
    "other source of a copy": lambda data: _entry(data)["source"].update(sha256="0" * 64),
    "other source size of a copy": lambda data: _entry(data)["source"].update(bytes=1),
    "other source": lambda data: _weights(data)["source"].update(sha256="0" * 64),
    "other source size": lambda data: _weights(data)["source"].update(bytes=1),
    "other kind": lambda data: _weights(data).update(kind="torch"),
    "an archive as a copy": lambda data: _weights(data).update(kind="copy"),
    "an archive under another name": lambda data: data["files"].update({"n": data["files"].pop("m.safetensors")}),
    "the record as a file": _put("stored", RECORD),
}


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    source = tmp_path / "model"
    source.mkdir()
    write(source / "m.safetensors", {"w": weights(16, 16)})
    (source / "README.md").write_text("read me")
    bale.compress(source)
    return tmp_path / "model.bale"


@pytest.mark.parametrize("case", FORGED)
def test_forged_records(stored: Path, tmp_path: Path, case: str) -> None:
    record = stored / RECORD
    data = json.loads(record.read_text())
    FORGED[case](data)
    record.write_text(json.dumps(data))
    before = names_in(tmp_path)
    with pytest.raises(ArchiveError):
        bale.decompress(stored, tmp_path / "out")
    with pytest.raises(ArchiveError):
        bale.verify(stored)
    assert names_in(tmp_path) == before


@pytest.mark.parametrize("text", [b"", b"[]", b"{", b"\xff", b"null", b"[" * 100_000])
def test_records_that_make_no_sense(stored: Path, text: bytes) -> None:
    (stored / RECORD).write_bytes(text)
    for verb in (bale.verify, bale.inspect):
        with pytest.raises(ArchiveError, match="makes no sense"):
            verb(stored)


def test_a_folder_that_leads_out_is_not_followed(stored: Path, tmp_path: Path) -> None:
    """With `force` a target folder may exist, and hold links that somebody else has put there."""
    source = tmp_path / "deep"
    (source / "sub").mkdir(parents=True)
    write(source / "sub" / "m.safetensors", {"w": weights(8)})
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "m.safetensors.bale").write_text("precious")
    bale.compress(source)
    target = tmp_path / "target"
    target.mkdir()
    (target / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(OutputError, match="leads out"):
        bale.decompress(tmp_path / "deep.bale", target, force=True)
    again = tmp_path / "deep.bale"
    os.rename(again / "sub", tmp_path / "moved")
    (again / "sub").symlink_to(tmp_path / "outside")
    with pytest.raises(OutputError, match="leads out"):
        bale.compress(source, force=True)
    assert names_in(tmp_path / "outside") == ["m.safetensors.bale"]
    assert (tmp_path / "outside" / "m.safetensors.bale").read_text() == "precious"


def test_a_folder_has_its_record_as_soon_as_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "a" / "out"

    def renamed(old: Path, new: Path) -> None:
        assert not new.exists()
        assert read_record(old) == Record(False, {})
        os.rename(old, new)

    monkeypatch.setattr("bale.io.folders.record.rename_new", renamed)
    descriptor = begin_folder(out)
    assert descriptor is not None
    with pytest.raises(OutputError, match="another run is writing it"):
        lock_folder(out, out)
    os.close(descriptor)
    assert read_record(out) == Record(False, {})
    assert os.listdir(out.parent) == ["out"]


@pytest.mark.parametrize(("error", "result"), [(FileExistsError(), None), (OSError(errno.EIO, "x"), OutputError)])
def test_a_folder_that_cannot_be_begun_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: OSError, result: type[OutputError] | None
) -> None:
    def fail(old: Path, new: Path) -> None:
        raise error

    monkeypatch.setattr("bale.io.folders.record.rename_new", fail)
    if result is None:
        assert begin_folder(tmp_path / "out") is None
    else:
        with pytest.raises(result, match="cannot make the folder"):
            begin_folder(tmp_path / "out")
    assert os.listdir(tmp_path) == []

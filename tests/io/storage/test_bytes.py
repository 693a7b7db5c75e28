"""One suite for all sources and sinks: files, and bytes in memory."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.errors import ArchiveError, SourceError
from bale.io.archive.archive import read_archive
from bale.io.safetensors import read_layout
from bale.io.sources.open import open_checkpoint, read_checkpoint
from bale.io.storage import bytes as storage
from bale.io.storage.bytes import ByteSink, ByteSource
from bale.io.storage.commit import Target
from bale.io.storage.files import reading
from tests.io.in_memory import InMemory
from tests.making import weights, write

DATA = bytes(range(100))
Opens = Callable[[Path, bytes], AbstractContextManager[ByteSource]]


@contextmanager
def local(folder: Path, data: bytes) -> Iterator[ByteSource]:
    (folder / "f").write_bytes(data)
    with reading(folder / "f", SourceError) as source:
        yield source


@contextmanager
def target(folder: Path, data: bytes) -> Iterator[ByteSource]:
    with Target(folder / "f", None) as sink:
        sink.write(data, 0)
        yield sink.raising(SourceError)


@contextmanager
def in_memory(folder: Path, data: bytes) -> Iterator[ByteSource]:
    yield InMemory(data)


SOURCES = pytest.mark.parametrize("opens", [local, target, in_memory])
SINKS = pytest.mark.parametrize("sink", [lambda path: Target(path, None), lambda path: InMemory()])


@SOURCES
def test_ranges(tmp_path: Path, opens: Opens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "BLOCK", 7)
    with opens(tmp_path, DATA) as source:
        assert source.size == 100
        assert source.read(5, 10) == DATA[10:15]
        assert source.read(0, 500) == b""
        array = np.zeros((2, 3), "<u2")
        source.read_into(array, 4)
        assert array.tobytes() == DATA[4:16]
        assert b"".join(map(bytes, source.blocks(3, 50))) == DATA[3:53]
        assert list(source.blocks(3, 0)) == []
        assert source.sha256() == hashlib.sha256(DATA).hexdigest()
        assert source.sha256(9) == hashlib.sha256(DATA[:9]).hexdigest()


@SOURCES
def test_an_end_that_comes_early_is_the_error_asked_for(tmp_path: Path, opens: Opens) -> None:
    with opens(tmp_path, DATA) as source:
        for error in (SourceError, ArchiveError):
            with pytest.raises(error, match="1 bytes early"):
                source.raising(error).read(11, 90)
            with pytest.raises(error, match="early"):
                list(source.raising(error).blocks(90, 11))


@SOURCES
def test_streams(tmp_path: Path, opens: Opens) -> None:
    with opens(tmp_path, DATA) as source:
        stream = source.stream()
        assert stream.read(3) == DATA[:3]
        assert stream.seek(-2, os.SEEK_END) == 98
        assert stream.read(10) == DATA[98:]
        assert stream.read(10) == b""
        assert stream.seek(5) == stream.tell() == 5
        assert stream.seek(2, os.SEEK_CUR) == 7
        with pytest.raises(OSError, match="negative"):
            stream.seek(-1)


@SOURCES
def test_threads_do_not_disturb_each_other(tmp_path: Path, opens: Opens) -> None:
    with opens(tmp_path, DATA) as source:
        wrong: list[int] = []

        def look(at: int) -> None:
            for _ in range(200):
                if source.read(9, at) != DATA[at : at + 9]:
                    wrong.append(at)

        threads = [threading.Thread(target=look, args=(at,)) for at in range(0, 80, 10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong


@SINKS
def test_what_is_written_is_read_back(tmp_path: Path, sink: Callable[[Path], ByteSink]) -> None:
    with sink(tmp_path / "f") as opened:  # type: ignore[attr-defined]
        opened.write(b"abc", 0)
        before = opened.version
        opened.write(np.arange(3, dtype="<u2").reshape(1, 3), 5)
        assert opened.version != before
        assert opened.size == 11
        assert opened.read(11, 0) == b"abc\0\0" + np.arange(3, dtype="<u2").tobytes()
        opened.write(b"", 20)
        assert opened.size == 11
        opened.cut(4)
        opened.write(memoryview(b"z"), 1)
        assert opened.read(4, 0) == b"azc\0"
        opened.cut(6)
        assert opened.read(6, 0) == b"azc\0\0\0"
        opened.commit()


@SINKS
def test_without_a_commit_nothing_is_left(tmp_path: Path, sink: Callable[[Path], ByteSink]) -> None:
    with sink(tmp_path / "f") as opened:  # type: ignore[attr-defined]
        opened.write(b"abc", 0)
    assert os.listdir(tmp_path) == []
    assert not isinstance(opened, InMemory) or not opened.data


def test_checkpoints_and_archives_need_no_file(tmp_path: Path) -> None:
    """Readers take whatever has bytes at offsets."""
    torch = pytest.importorskip("torch")
    plain = write(tmp_path / "m.safetensors", {"w": weights(64, 65), "b": weights(9)}, {"key": "value"})
    torch.save({"w": torch.ones(4, 5)}, tmp_path / "m.pt")
    torch.save({"w": torch.ones(4, 5)}, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "opaque").write_bytes(DATA)
    for path in (plain, tmp_path / "m.pt", tmp_path / "old.pt", tmp_path / "opaque"):
        assert read_checkpoint(path, InMemory.of(path)) == open_checkpoint(path)
    assert read_layout(InMemory.of(plain)).metadata == {"key": "value"}
    bale.compress(plain, pipeline="int4")
    path = tmp_path / "m.lossy.safetensors.bale"
    found = read_archive(path, InMemory(path.read_bytes(), ArchiveError))
    assert {stored.unit.label for stored in found.manifest.units} == {"b", "w"}
    assert found.read_chunk(0, 0, 0)

from __future__ import annotations

import io
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from bale.errors import ArchiveError, SourceError
from bale.io.checkpoint import Checksum
from bale.io.sources.nested import Window, moved
from bale.io.sources.open import open_checkpoint, read_checkpoint
from tests.io.in_memory import InMemory
from tests.io.reading import torch_zip
from tests.io.sources.samples import SAMPLES, zipped

DATA = bytes(range(100))


def test_a_window_is_a_source_of_its_own() -> None:
    window = Window(InMemory(DATA), 10, 20)
    assert (window.size, window.name, window.local_path) == (20, "memory", None)
    assert window.read(20, 0) == DATA[10:30]
    assert b"".join(bytes(block) for block in window.blocks(0, 20)) == DATA[10:30]
    assert window.stream().read() == DATA[10:30]
    buffer = np.zeros(2, "<u2")
    window.read_into(buffer, 16)
    assert buffer.tobytes() == DATA[26:30]


@pytest.mark.parametrize(("size", "at"), [(21, 0), (1, 20), (1, -1), (5, 16)])
def test_nothing_beyond_a_window_is_read(size: int, at: int) -> None:
    window = Window(InMemory(DATA), 10, 20)
    with pytest.raises(SourceError, match="ends at byte 30"):
        window.read(size, at)
    with pytest.raises(ArchiveError):
        window.raising(ArchiveError).read(size, at)


def test_windows_in_windows() -> None:
    assert Window(Window(InMemory(DATA), 10, 20), 5, 3).read(3, 0) == DATA[15:18]


def test_units_and_checksums_are_moved() -> None:
    found = read_checkpoint(Path("m.npz"), InMemory(SAMPLES["npz"].make()))
    units, checksums = moved(found, 1000, lambda name: f"in/{name}")
    assert [unit.start for unit in units] == [unit.start + 1000 for unit in found.units]
    assert {view.name for unit in units for view in unit.views} == {"in/weight", "in/bias"}
    assert checksums[0] == Checksum(
        found.checksums[0].start + 1000,
        found.checksums[0].length,
        tuple(at + 1000 for at in found.checksums[0].fields),
    )


def test_pickles_without_end_are_not_tried_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Shared lists: few bytes give names to more tensors than are followed, and there are many such members."""
    storage = b"(U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuK\x01tQ"
    tensor = b"ctorch._utils\n_rebuild_tensor\n(" + storage + b"K\x00(K\x01t(K\x01ttR"
    levels = b"".join(b"q%c0](" % (level + 1) + b"h%c" % (level + 1) * 4 + b"e" for level in range(10))
    bomb = torch_zip(tmp_path / "bomb.pt", b"\x80\x02" + tensor + levels + b".", {"0": bytes(4)}).read_bytes()
    file = io.BytesIO(zipped({f"{number}.pt": bomb for number in range(200)}))
    assert zipfile.is_zipfile(file)
    (tmp_path / "m.zip").write_bytes(file.getvalue())
    monkeypatch.setattr("bale.io.sources.storages.NAME_LIMIT", 20_000)
    began = time.process_time()
    checkpoint = open_checkpoint(tmp_path / "m.zip")
    assert time.process_time() - began < 6
    assert checkpoint.kind == "opaque"
    assert "gives names to more than" in checkpoint.notes[0].text

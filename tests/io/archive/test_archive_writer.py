from __future__ import annotations

import numpy as np
import pytest

from bale.io.archive import archive
from bale.io.archive.archive import ArchiveWriter
from bale.io.safetensors import PREAMBLE
from tests.io.in_memory import InMemory


def test_parts_lie_back_to_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short ones wait for each other; long ones, a flush and a rewind do not leave them behind."""
    monkeypatch.setattr(archive, "_TOGETHER", 10)
    with InMemory() as sink:
        writer = ArchiveWriter(sink, 8)
        begin = PREAMBLE + 8
        parts = [b"abc", np.array([[1, 2]], "<u2"), b"", b"0123456789-", memoryview(b"xyz")]
        assert [writer.append(part) for part in parts] == [begin, begin + 3, begin + 7, begin + 7, begin + 18]
        assert sink.size == begin + 18  # the last one waits
        writer.flush()
        assert writer.read_back(21, begin) == b"abc\x01\x00\x02\x000123456789-xyz"
        writer.append(b"gone")
        writer.rewind(begin + 3)
        assert writer.append(b"new") == begin + 3
        writer.flush()
        assert sink.read(6, begin) == b"abcnew"

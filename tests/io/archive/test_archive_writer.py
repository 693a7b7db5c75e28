from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from bale.io.archive import archive
from bale.io.archive.archive import ArchiveWriter
from bale.io.safetensors import PREAMBLE


def test_parts_stand_one_behind_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Short ones wait for each other; long ones, a flush and a rewind do not leave them behind."""
    monkeypatch.setattr(archive, "_TOGETHER", 10)
    path = tmp_path / "a"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT)
    try:
        writer = ArchiveWriter(descriptor, path, 8)
        begin = PREAMBLE + 8
        parts = [b"abc", np.array([[1, 2]], "<u2"), b"", b"0123456789-", memoryview(b"xyz")]
        assert [writer.append(part) for part in parts] == [begin, begin + 3, begin + 7, begin + 7, begin + 18]
        assert os.fstat(descriptor).st_size == begin + 18  # the last one waits
        writer.flush()
        assert writer.read_back(21, begin) == b"abc\x01\x00\x02\x000123456789-xyz"
        writer.append(b"gone")
        writer.rewind(begin + 3)
        assert writer.append(b"new") == begin + 3
        writer.flush()
        assert path.read_bytes()[begin:] == b"abcnew"
    finally:
        os.close(descriptor)

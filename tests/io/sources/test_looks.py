import bz2
import gzip
import lzma
from pathlib import Path

import pytest
import zstandard

from bale.io.sources.looks import looks_like
from bale.io.sources.open import open_checkpoint


@pytest.mark.parametrize(
    ("data", "look"),
    [
        (gzip.compress(b"x" * 100), "a gzip file"),
        (zstandard.compress(b"x" * 100), "a zstd file"),
        (lzma.compress(b"x" * 100), "an xz file"),
        (bz2.compress(b"x" * 100), "a bzip2 file"),
    ],
    ids=["gzip", "zstd", "xz", "bzip2"],
)
def test_the_note_names_it(tmp_path: Path, data: bytes, look: str) -> None:
    assert looks_like(data) == look
    (tmp_path / "m.dat").write_bytes(data)
    (note,) = open_checkpoint(tmp_path / "m.dat").notes
    assert note.text == f"coded as opaque bytes: it looks like {look}, which no reader follows"


def test_nothing_is_made_up() -> None:
    for data in (b"", b"\x80", b"text", bytes(100), b"\x80\x04AB"):
        assert looks_like(data) is None

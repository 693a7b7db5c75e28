"""What a file looks like that has no reader, by its first bytes: for a note alone."""

from __future__ import annotations

_LOOKS = (
    (b"\x1f\x8b", "a gzip file"),
    (b"\x28\xb5\x2f\xfd", "a zstd file"),
    (b"\xfd7zXZ\0", "an xz file"),
    *((bytes([0x78, level]), "a zlib file, as joblib writes") for level in (0x01, 0x5E, 0x9C, 0xDA)),
    (b"BZh", "a bzip2 file"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip file"),
    (b"\x04\x22\x4d\x18", "an LZ4 file"),
    (b"lmgg", "a ggml file"),
    (b"tjgg", "a ggml file"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"%PDF-", "a PDF file"),
    (b"\x7fELF", "a program"),
)


def looks_like(head: bytes) -> str | None:
    """What a file looks like that begins with these bytes, in a noun with its article; None for anything else."""
    return next((what for magic, what in _LOOKS if head.startswith(magic)), None)

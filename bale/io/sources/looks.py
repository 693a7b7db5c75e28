"""What a file looks like that has no reader, by its first bytes: for a note alone."""

from __future__ import annotations

_LOOKS = (
    (0, b"\x1f\x8b", "a gzip file"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd file"),
    (0, b"\xfd7zXZ\0", "an xz file"),
    (0, b"BZh", "a bzip2 file"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7-Zip file"),
    (0, b"\x04\x22\x4d\x18", "an LZ4 file"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
    (0, b"GGUF", "a GGUF file"),
    (0, b"lmgg", "a ggml file"),
    (0, b"tjgg", "a ggml file"),
    (0, b"\x93NUMPY", "a NumPy file"),
    (4, b"TFL3", "a TensorFlow Lite file"),
    (0, b"PAR1", "a Parquet file"),
    (0, b"ARROW1", "an Arrow file"),
    (0, b"SQLite format 3\0", "an SQLite database"),
    (0, b"\x89PNG\r\n\x1a\n", "a PNG image"),
    (0, b"\xff\xd8\xff", "a JPEG image"),
    (0, b"%PDF-", "a PDF file"),
    (0, b"\x7fELF", "a program"),
    (0, b"\x80\x02", "a pickle"),
    (0, b"\x80\x03", "a pickle"),
    (0, b"\x80\x04\x95", "a pickle"),
    (0, b"\x80\x05\x95", "a pickle"),
)


def looks_like(head: bytes) -> str | None:
    """What a file looks like that begins with these bytes, in a noun with its article; None for anything else."""
    return next((what for at, magic, what in _LOOKS if head.startswith(magic, at)), None)

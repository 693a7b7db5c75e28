"""The directory of a ZIP file is read as the standard library reads it."""

from __future__ import annotations

import io
import zipfile

import pytest

from bale.io.faults import Malformed, Unsupported
from bale.io.sources.zip_directory import read_directory
from tests.io.in_memory import InMemory

NAMES = ("a/b", "ä", "\u4e2d", "with space", "x" * 300)


def made(comment: bytes = b"", before: bytes = b"", is_long: bool = False) -> bytes:
    file = io.BytesIO(before)
    with zipfile.ZipFile(file, "a") as archive:
        for number, name in enumerate(NAMES):
            member = zipfile.ZipInfo(name)
            member.compress_type = zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED
            with archive.open(member, "w", force_zip64=is_long) as written:
                written.write(bytes(100 * number))
        archive.comment = comment
    return file.getvalue()


def assert_same(data: bytes) -> None:
    entries, start = read_directory(InMemory(data))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert start == archive.start_dir
        assert [
            (each.name, each.flags, each.method, each.crc, each.packed, each.size, each.header) for each in entries
        ] == [
            (
                each.orig_filename,
                each.flag_bits,
                each.compress_type,
                each.CRC,
                each.compress_size,
                each.file_size,
                each.header_offset,
            )
            for each in archive.infolist()
        ]
    assert [data[each.at : each.at + 4] for each in entries] == [b"PK\x01\x02"] * len(entries)


@pytest.mark.parametrize("comment", [b"", b"of any length", b"x" * 65535])
@pytest.mark.parametrize("before", [b"", b"a program"])
@pytest.mark.parametrize("is_long", [False, True])
def test_it_is_what_zipfile_reads(comment: bytes, before: bytes, is_long: bool) -> None:
    assert_same(made(comment, before, is_long))


def test_many_members(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 3)  # as if there were 65536: it writes the ZIP64 records
    assert_same(made())


def test_sizes_in_the_extra_field(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 50)
    assert_same(made(is_long=True))


def test_names_of_old_programs() -> None:
    data = made().replace("ä".encode(), b"\x84!")
    at = data.rindex(b"\x84!")
    flags = data.rindex(b"PK\x01\x02", 0, at) + 8
    assert_same(data[:flags] + b"\0\0" + data[flags + 2 :])


def test_what_is_broken() -> None:
    data = made()
    for at in range(len(data) - 400, len(data)):
        with pytest.raises(Malformed):
            read_directory(InMemory(data[:at]))
    for at in range(data.index(b"PK\x01\x02"), len(data)):
        for lie in (b"\xff\xff\xff\xff", bytes(4)):
            changed = (data[:at] + lie + data[at + 4 :])[: len(data)]
            try:
                entries, _ = read_directory(InMemory(changed))
            except (Malformed, Unsupported):
                continue
            assert len(entries) <= len(NAMES)

from __future__ import annotations

from pathlib import Path

import pytest

import bale
from bale.errors import ArchiveError
from bale.io.stand_ins import EMPTY, LFS, WEB, StandIn, Text, as_text, stand_in

FILES = {
    b"": EMPTY,
    b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12\n": LFS,
    b"<!doctype html><title>404</title>": WEB,
    b"\n<html>": WEB,
}


@pytest.mark.parametrize("head", FILES)
def test_what_was_fetched_by_mistake(head: bytes) -> None:
    assert stand_in(head) == FILES[head]


@pytest.mark.parametrize("head", [b"\0", b"PK\3\4", b"hello", b"\2\0\0\0\0\0\0\0{}", b"versions"])
def test_anything_else(head: bytes) -> None:
    assert stand_in(head) is None


def test_texts() -> None:
    assert as_text(b"Entry\r\n not found") == Text("is a text ('Entry not found')", "download it again")
    long = as_text(("é" * 100).encode()[:-1])  # cut within a letter
    assert long is not None
    assert long.what == f"is a text ('{'é' * 60}...')"
    for data in (b"a\0", b"\x1b[31m", b"\xff", b"\x80\2}q\0."):
        assert as_text(data) is None


TEXT = b"Entry not found"


@pytest.mark.parametrize(("content", "wrong"), [*FILES.items(), (TEXT, as_text(TEXT))])
def test_in_place_of_an_archive(tmp_path: Path, content: bytes, wrong: StandIn) -> None:
    path = tmp_path / "m.safetensors.bale"
    path.write_bytes(content)
    for verb in (bale.decompress, bale.verify, bale.inspect, bale.open, lambda each: bale.compare(each, each)):
        with pytest.raises(ArchiveError) as caught:
            verb(path)
        assert caught.value.message.endswith(f"m.safetensors.bale is not a bale: it {wrong.what}")
        assert caught.value.hint == wrong.hint

from __future__ import annotations

import json
import os
import struct
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bale
from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.faults import Malformed
from bale.io.safetensors import ENTRY_LIMIT, HEADER_LIMIT, read_layout
from bale.io.sources.open import open_checkpoint
from bale.io.storage.files import reading
from bale.spec import TensorSpec
from tests.io.in_memory import InMemory
from tests.io.reading import named_values, opened
from tests.making import PORTABLE, random_raw, write


def refusal(path: Path) -> str:
    """The one line with which a source is refused; it names the file and says what to do."""
    with pytest.raises(SourceError) as caught:
        open_checkpoint(path)
    assert caught.value.code == 3
    assert caught.value.hint
    assert str(path) in caught.value.message
    assert "\n" not in str(caught.value)
    return str(caught.value)


def raw(path: Path, header: bytes, payload: bytes = b"", length: int | None = None) -> Path:
    """Write a safetensors file with whatever header."""
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + payload)
    return path


def assert_opaque(path: Path, reason: str = "no reader recognizes") -> Checkpoint:
    checkpoint = opened(path)
    assert checkpoint.kind == "opaque"
    (unit,) = checkpoint.units
    assert unit.spec == TensorSpec("U8", (path.stat().st_size,))
    assert [view.name for view in unit.views] == ["bytes"]
    (note,) = checkpoint.notes
    assert reason in note.text
    assert path.name not in note.text  # notes go into the archive, which knows no names of files
    return checkpoint


class TestSafetensors:
    @pytest.mark.parametrize("shape", [(), (0, 3), (1,), (6,), (2, 4), (1, 2, 1, 2, 2)])
    @pytest.mark.parametrize("dtype", PORTABLE)
    def test_every_dtype(self, tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
        if dtype.startswith(("F4", "F6")):
            shape = (*shape, 4)  # the format wants whole bytes
        value = random_raw(dtype, shape)
        tensors = {"before": random_raw("U8", (3,)), "x": value, "after": random_raw("F32", (2,))}
        checkpoint = opened(write(tmp_path / "m.safetensors", tensors, {"format": "pt"}))
        assert checkpoint.kind == "safetensors"
        assert {view.name: unit.spec for unit in checkpoint.units for view in unit.views}["x"] == TensorSpec(
            dtype, shape
        )
        assert named_values(checkpoint)["x"].tobytes() == value.data

    def test_offsets_and_skeleton(self, tmp_path: Path) -> None:
        tensors = {"z": np.ones((2, 3), "f4"), "empty": np.ones(0, "f4"), "a": np.ones(5, "u1")}
        path = write(tmp_path / "m.safetensors", tensors, None, ["a", "empty", "z"], padding=5)
        checkpoint = opened(path)
        end = path.stat().st_size
        assert list(checkpoint.skeleton_ranges()) == [(0, end - 29)]
        assert [unit.start for unit in checkpoint.units] == [end - 29, end - 5, end - 5]
        assert [unit.views[0].name for unit in checkpoint.units] == ["z", "empty", "a"]

    def test_by_content_whatever_the_suffix(self, tmp_path: Path) -> None:
        assert opened(write(tmp_path / "m.bin", {"x": np.ones(3, "f4")})).kind == "safetensors"
        torch.save({"x": torch.ones(3)}, tmp_path / "m.dat")
        assert opened(tmp_path / "m.dat").kind == "torch"

    @pytest.mark.parametrize("padding", [0, 6])
    def test_no_tensors(self, tmp_path: Path, padding: int) -> None:
        assert opened(raw(tmp_path / "m.safetensors", b"{}" + b" " * padding)).units == ()

    @given(st.dictionaries(st.text(min_size=1), st.integers(0, 5), max_size=6))
    def test_names(self, tmp_path: Path, sizes: dict[str, int]) -> None:
        sizes.pop("__metadata__", None)
        path = write(tmp_path / "m.safetensors", {name: np.ones(size, "u1") for name, size in sizes.items()})
        assert {name: len(values) for name, values in named_values(opened(path)).items()} == sizes

    def test_layout_for_other_readers(self, tmp_path: Path) -> None:
        path = write(tmp_path / "m.safetensors", {"x": np.ones(3, "f4")}, {"key": "value"})
        size = path.stat().st_size
        with reading(path, SourceError) as source:
            layout = read_layout(source)
        with pytest.raises(Malformed):
            read_layout(InMemory(path.read_bytes()[:-1]))
        assert layout.metadata == {"key": "value"}
        assert layout.payload == size - 12
        assert layout.tensors == (("x", TensorSpec("F32", (3,)), size - 12),)


def entry(dtype: str, shape: list[int], *offsets: int) -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize(
    "header",
    [
        {"x": entry("F32", [2], 0, 4)},
        {"x": entry("F32", [2], 4, 8)},
        {"x": entry("F32", [2], 0, 12)},
        {"x": entry("F32", [2**62, 4], 0, 8)},
        {"x": entry("F32", [2**63 - 1, 2**63 - 1], 0, 8)},
        {"x": entry("F32", [2**64, 1], 0, 8)},
        {"x": entry("F32", [-2], 0, 8)},
        {"x": entry("F32", [2], 8, 0)},
        {"x": entry("F32", [1], 0, 4), "y": entry("F32", [2], 4, 12)},
        {"x": entry("F32", [2**40] * 1000, 0, 8)},
        {"x": {"dtype": "F32"}},
        {"x": {"dtype": 32, "shape": [2], "data_offsets": [0, 8]}},
        {"x": []},
        {"x": 1},
    ],
)
def test_headers_that_lie(tmp_path: Path, header: object, suffix: str) -> None:
    assert "is broken" in refusal(raw(tmp_path / f"m{suffix}", json.dumps(header).encode(), bytes(8)))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"x": entry("F32", [1], 0, 4)}, "it has 4 bytes more than its tensors make up"),
        ({}, "it has 8 bytes more than its tensors make up"),
        ({"x": entry("F32", [1], 4, 8)}, "there are gaps between its tensors"),
        ({"x": entry("F32", [2], 0, 8), "y": entry("F32", [2], 0, 8)}, "its tensors overlap"),
    ],
)
def test_headers_that_are_not_of_the_bytes_behind_them(tmp_path: Path, header: object, words: str) -> None:
    assert f"is broken: {words}" in refusal(raw(tmp_path / "m.safetensors", json.dumps(header).encode(), bytes(8)))


@pytest.mark.parametrize(
    ("header", "oddity"),
    [
        ({"x": entry("F33", [2], 0, 8)}, "with the dtype 'F33'"),
        ({"__metadata__": {"step": 3, "x": None}, "x": entry("F32", [2], 0, 8)}, "whose metadata are not all texts"),
        ({"__metadata__": ["a"], "x": entry("F32", [2], 0, 8)}, "whose metadata are not all texts"),
    ],
)
def test_headers_that_are_odd_and_complete_are_stored_as_bytes(tmp_path: Path, header: object, oddity: str) -> None:
    path = raw(tmp_path / "m.safetensors", json.dumps(header).encode(), bytes(8))
    assert f"a safetensors file {oddity}" in assert_opaque(path, "a safetensors file").notes[0].text


@pytest.mark.parametrize(
    "header",
    [b' \n{"x":%s}', b'{"x":%s}' + b" " * 5000, b'{"__metadata__":{"t":"%s"},"x":%%s}' % (b":{[[" * 1_300_000)],
    ids=["white space before", "and behind", "signs in a text"],
)
def test_headers_that_the_library_reads_are_read(tmp_path: Path, header: bytes) -> None:
    """Colons and brackets of texts are no entries."""
    path = raw(tmp_path / "m.safetensors", header % json.dumps(entry("F32", [2], 0, 8)).encode(), bytes(8))
    assert named_values(opened(path))["x"].tolist() == [0, 0]


def test_escapes_do_not_end_a_text(tmp_path: Path) -> None:
    text = json.dumps('\\" {[[: \\' * 300_000)
    header = f'{{"__metadata__":{{"t":{text}}},"x":{json.dumps(entry("F32", [2], 0, 8))}}}'
    assert opened(raw(tmp_path / "m.safetensors", header.encode(), bytes(8))).kind == "safetensors"


@pytest.mark.parametrize("suffix", [".safetensors", ".bin"])
@pytest.mark.parametrize("header", [b'{"x', b'{"x":', b'{"a":' * 10_000, b'{"x"}' + b"\xff" * 20])
def test_headers_that_are_no_json(tmp_path: Path, header: bytes, suffix: str) -> None:
    assert "is broken" in refusal(raw(tmp_path / f"m{suffix}", header, bytes(8)))


def test_text_from_the_header_is_short_and_printable(tmp_path: Path) -> None:
    header = json.dumps({"x": entry("F\n\x1b" + "3" * 100_000, [2], 0, 8)})
    message = assert_opaque(raw(tmp_path / "m.safetensors", header.encode(), bytes(8)), "dtype").notes[0].text
    assert message.isprintable()
    assert len(message) < 500


def test_every_truncation_of_a_safetensors_file(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", {"x": np.ones(3, "f4"), "y": np.ones(5, "u1")})
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        refusal(path)
    path.write_bytes(data + b"\0")
    assert "1 byte more" in refusal(path)


@pytest.mark.parametrize("length", [HEADER_LIMIT + 1, 2**47, 2**48, 2**63, 2**64 - 1])
def test_headers_without_end(tmp_path: Path, length: int) -> None:
    refusal(raw(tmp_path / "m.safetensors", b'{"x":1}', length=length))


@pytest.mark.parametrize("shape", [[1] * 65, [1] * 1000, [1 << 62, 0, 1 << 62], [0, 1 << 62]])
def test_tensors_that_no_array_can_hold_are_stored_as_bytes(tmp_path: Path, shape: list[int]) -> None:
    size = 0 if 0 in shape else 4
    header = {"w": {"dtype": "F32", "shape": shape, "data_offsets": [0, size]}}
    path = raw(tmp_path / "m.safetensors", json.dumps(header).encode(), bytes(size))
    assert open_checkpoint(path).kind == "opaque"
    assert "dimensions" in str(open_checkpoint(path).notes[0])
    bale.compress(path)
    bale.decompress(f"{path}.bale", tmp_path / "back")
    assert path.read_bytes() == (tmp_path / "back").read_bytes()


def test_a_header_over_the_limit(tmp_path: Path) -> None:
    path = raw(tmp_path / "m.safetensors", b'{"x":1}', length=HEADER_LIMIT + 1)
    os.truncate(path, HEADER_LIMIT + 100)
    assert str(HEADER_LIMIT) in refusal(path)


@pytest.mark.parametrize(
    "one",
    [
        b'"%d":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}',
        b'"%d":{"d\\u0074ype":"U8","sh\\u0061pe":[0],"data\\u005foffsets":[0,0]}',
        b'"%d":{"dtype":"U8","shape":[],"x":[],"y":"","data_offsets":[0,0]}',
    ],
)
def test_too_many_entries_are_not_parsed(tmp_path: Path, one: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bale.io.safetensors.safe_open", None)
    header = b"{" + b",".join(one % index for index in range(ENTRY_LIMIT + 1)) + b"}"
    assert "more than 250000 entries" in refusal(raw(tmp_path / "m.safetensors", header))


def test_too_much_metadata_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bale.io.safetensors.safe_open", None)
    header = b'{"__metadata__":{' + b",".join(b'"%d":""' % index for index in range(2_000_000)) + b"}}"
    assert "more than 250000 entries" in refusal(raw(tmp_path / "m.safetensors", header))


def test_an_index_of_shards_is_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_text('{"weight_map": {"w": "model-00001-of-00002.safetensors"}}')
    assert_opaque(path, "give the folder that holds it")


@pytest.mark.parametrize("most", [0, 300, 1 << 30])
def test_ranges_between_units_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Each by itself, and all together."""
    path = tmp_path / "m.pt"
    torch.save({str(index): torch.zeros(3) for index in range(5)}, path)
    plain = opened(path)
    monkeypatch.setattr("bale.io.sources.open._SKELETON_RANGE", 400)
    monkeypatch.setattr("bale.io.sources.open._SKELETON", most)
    checkpoint = opened(path)
    assert [unit for unit in checkpoint.units if unit.views] == list(plain.units)
    kept = [size for _, size in checkpoint.skeleton_ranges()]
    assert max(kept, default=0) <= 400
    assert sum(kept) <= most
    bale.compress(path)
    bale.decompress(f"{path}.bale", tmp_path / "back")
    assert path.read_bytes() == (tmp_path / "back").read_bytes()


def test_a_bale_is_no_source(tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors.bale", {"x:data": np.ones(3, "u1")}, {"bale": "1.0"})
    message = refusal(path)
    assert "is a bale archive already" in message
    assert "decompress" in message


@pytest.mark.parametrize("page", [b"<!DOCTYPE html><html>", b"\n <html lang=en>", b"\xef\xbb\xbf<?xml version='1.0'?>"])
def test_web_pages(tmp_path: Path, page: bytes) -> None:
    for name in ("m.safetensors", "m.pt", "m.bin", "m.h5"):
        path = tmp_path / name
        path.write_bytes(page * 30)
        message = refusal(path)
        assert "looks like a web page, not a checkpoint" in message
        assert "download it again" in message
    assert_opaque(path.rename(tmp_path / "m.html"), "a web page")


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt", "m"])
def test_git_lfs_pointers(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 12\n")
    assert "git lfs pull" in refusal(path)


@pytest.mark.parametrize("name", ["m.safetensors", "m.pt", "m"])
def test_empty_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    assert "is empty" in refusal(tmp_path / name)


@pytest.mark.parametrize(
    "content",
    [b"x\0", bytes(100), bytes(8) + b"{[]}", os.urandom(300), b"\x80\x04N."],
)
def test_unknown_content(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.bin"
    path.write_bytes(content)
    assert_opaque(path)
    refusal(path.rename(tmp_path / "m.SafeTensors"))


@pytest.mark.parametrize("content", ["Entry not found", '{"error": "Repository not found"}\n', "<Error>ä" + "x" * 5000])
def test_texts_in_the_place_of_weights(tmp_path: Path, content: str) -> None:
    path = tmp_path / "m.bin"
    path.write_text(content)
    assert_opaque(path, f"a text ('{content[:12]}")
    message = refusal(path.rename(tmp_path / "m.SafeTensors"))
    assert f"is a text ('{content[:12]}" in message
    assert "download it again" in message
    assert_opaque((tmp_path / "m.SafeTensors").rename(tmp_path / "m.txt"))


def test_other_formats_under_the_wrong_name(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    for zipped in (True, False):
        torch.save({"x": torch.ones(3)}, path, _use_new_zipfile_serialization=zipped)
        assert "proper suffix" in refusal(path)


def test_tar_files_of_the_first_torch(tmp_path: Path) -> None:
    (tmp_path / "pickle").write_bytes(b"N.")
    with tarfile.open(tmp_path / "m.pt", "w") as tar:
        tar.add(tmp_path / "pickle", "pickle")
    assert_opaque(tmp_path / "m.pt", "a tar file")


def test_what_is_no_file(tmp_path: Path) -> None:
    assert "not a regular file" in refusal(tmp_path)
    os.mkfifo(tmp_path / "fifo")
    assert "not a regular file" in refusal(tmp_path / "fifo")
    assert "cannot read" in refusal(tmp_path / "missing")


@given(
    st.binary(min_size=1, max_size=120), st.sampled_from([b"", b"PK\3\4", b'\x10\0\0\0\0\0\0\0{"', b"\x80\x02\x8a\x0a"])
)
def test_random_files_are_read_or_refused(tmp_path: Path, content: bytes, head: bytes) -> None:
    path = tmp_path / "m.pt"
    path.write_bytes(head + content)
    try:
        opened(path)
    except SourceError as problem:
        assert_one_line(problem)


def assert_one_line(problem: SourceError) -> None:
    assert "\n" not in str(problem)
    assert problem.hint

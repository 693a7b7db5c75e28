"""The manifest: what is written is read again, the same; forged ones are in test_archive.py."""

from __future__ import annotations

import json

import pytest

from bale.errors import ArchiveError
from bale.io.archive.manifest import Chunk, Manifest, Part, StoredUnit, decode_manifest
from bale.io.checkpoint import Checksum
from bale.notes import Note
from bale.spec import TensorSpec, Unit, View

MATRIX = TensorSpec("BF16", (4, 8))
DIGEST = "0123456789abcdef"


def chunks(*sizes: int) -> tuple[Chunk, ...]:
    return tuple(Chunk(0, size, DIGEST) for size in sizes)


def full() -> Manifest:
    """One of everything that a manifest can hold."""
    plain = Part("data", MATRIX, None, ("",), 1 << 20, chunks(64))
    views = (
        View("a", MATRIX),
        View("t", TensorSpec("BF16", (8, 4)), 0, (1, 8)),
        View("row", TensorSpec("BF16", (8,)), 8),
    )
    parts = (
        Part(
            "qdata", TensorSpec("U8", (4, 8)), 4, ("huffman", "bitpack"), 16, (Chunk(0, 9, DIGEST), Chunk(1, 8, DIGEST))
        ),
        Part("scale", TensorSpec("F16", (1,)), None, ("",), 1 << 20, chunks(2)),
    )
    units = (
        StoredUnit(
            Unit(10, MATRIX, views),
            "lossless",
            "default",
            DIGEST * 2,
            (plain,),
            norm2=2.5,
            notes=(Note("vanished", "n"),),
        ),
        StoredUnit(Unit(80, MATRIX, (View("b", MATRIX),)), "lossless", "r", DIGEST * 2, (), same_as=0),
        StoredUnit(Unit(150, MATRIX, ()), "lossless", "default", DIGEST * 2, (plain,)),
        StoredUnit(
            Unit(220, MATRIX, (View("\ud800c", MATRIX),), "because", True),
            "int4",
            "-p int4",
            DIGEST * 2,
            parts,
            errors=(0.1, 0.2, 0.3, 0.4, 0.5),
            worst_row=0.75,
        ),
    )
    covered = 4 * 64
    return Manifest(
        "0.1.0",
        {"int": 1, "lossless": 2},
        "torch",
        300,
        DIGEST * 4,
        300 - covered,
        20,
        DIGEST,
        units,
        (Note("opaque", "a note"),),
        (Checksum(10, 60, (3, 296)),),
    )


def test_what_is_written_is_read_again() -> None:
    manifest = full()
    assert decode_manifest(manifest.encode()) == manifest


def test_the_json_is_canonical() -> None:
    text = full().encode().decode("utf-8", "surrogatepass")
    data = json.loads(text)
    assert text == json.dumps(data, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    assert data["format"] == [1, 1]
    assert data["units"][0]["views"] == [
        ["a"],
        ["t", "BF16", [8, 4], 0, [1, 8]],
        ["row", "BF16", [8], 8, None],
    ]
    assert "swapped" not in data["units"][0]
    assert "bits" not in data["units"][0]["parts"][0]


def test_parts_are_named_after_the_first_name() -> None:
    assert [name for name, _ in full().part_names()] == ["a:data", ":gap.0", "\ud800c:qdata", "\ud800c:scale"]


def test_what_a_part_is_in_the_header() -> None:
    spec = TensorSpec("F32", (3,))
    plain = Part("data", spec, None, ("",), 1 << 20, chunks(12))
    coded = Part("data", spec, None, ("lossless",), 1 << 20, chunks(9))
    mixed = Part(
        "data", TensorSpec("U8", (20,)), None, ("", "lossless"), 16, (Chunk(0, 16, DIGEST), Chunk(1, 2, DIGEST))
    )
    odd = Part("data", TensorSpec("C128", (2,)), None, ("",), 1 << 20, chunks(32))
    assert plain.stored_spec == spec
    assert coded.stored_spec == TensorSpec("U8", (9,))
    assert mixed.stored_spec == TensorSpec("U8", (18,))
    assert odd.stored_spec == TensorSpec("U8", (32,))
    assert mixed.starts == (0, 16)
    assert [mixed.elements_of(index) for index in range(2)] == [16, 4]


def test_exact_or_not() -> None:
    manifest = full()
    assert not manifest.exact


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"[]", b"null", b"5", b'{"format":[1,0]}', b'{"format":[1]}', b"\xff", b"[" * 100_000, b'{"a":NaN}'],
)
def test_nonsense(text: bytes) -> None:
    with pytest.raises(ArchiveError, match="makes no sense"):
        decode_manifest(text)


def test_numbers_beyond_json_are_refused() -> None:
    text = full().encode().replace(b'"norm2":2.5', b'"norm2":Infinity')
    with pytest.raises(ArchiveError, match="Infinity"):
        decode_manifest(text)


def test_a_newer_version_says_so_whatever_else_it_holds() -> None:
    with pytest.raises(ArchiveError, match="upgrade bale"):
        decode_manifest(b'{"format":[2,0],"tensors":"in another form"}')


def test_a_newer_minor_version_is_read() -> None:
    text = full().encode().replace(b'"format":[1,1]', b'"format":[1,7],"later":true')
    assert decode_manifest(text).format == (1, 7)

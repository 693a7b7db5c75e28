"""Damage of every kind is an `ArchiveError`, and nothing is written."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
import zstandard

import bale
from bale.errors import ArchiveError, BaleError, OutputError
from bale.io.archive import archive as archive_module
from bale.io.archive.archive import (
    HEADER_LIMIT,
    MANIFEST_RATIO,
    _skeleton_limit,
    _unfold,
    header_room,
    is_archive,
    open_archive,
)
from bale.spec import TensorSpec
from tests.making import Raw, bf16, names_in, weights, write
from tests.soak import few

JSON = dict[str, Any]


@pytest.fixture(scope="module")
def every_part(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """An archive of a few kilobytes with one part of each kind."""
    folder = tmp_path_factory.mktemp("parts")
    shared = weights(40, seed=5)
    low_rank = weights(24, 1) @ weights(1, 24)
    tensors = {
        "coded": bf16(weights(600, seed=1)),
        "plain": Raw("U8", (40,), np.random.default_rng(2).bytes(40)),
        "quantized": bf16(weights(8, 64, seed=3)),
        "factors": low_rank,
        "both": weights(24, 24, seed=4),
        "empty": Raw("F32", (0, 3), b""),
        "one": shared,
        "same": shared,
    }
    source = write(folder / "m.safetensors", tensors, {"note": "of everything"})
    rules = ["quantized=int4", "factors=svd:rank=1", "both=svd:rank=2+int8", "plain=lossless"]
    report = bale.compress(source, f"{source}.bale", rules=rules).to_json()
    rows = {row["name"]: row for row in report["tensors"]}
    assert set(rows["quantized"]["parts"]) == {"qdata", "scale", "zero"}
    assert set(rows["factors"]["parts"]) == {"u", "vh"}
    assert "u.qdata" in rows["both"]["parts"]
    assert rows["coded"]["stored_bytes"] < rows["coded"]["original_bytes"]
    assert rows["plain"]["stored_bytes"] == 40
    assert rows["empty"]["parts"] == {"data": 0}
    assert rows["same"]["same_as"] == "one"
    data = (folder / "m.safetensors.bale").read_bytes()
    assert 4_000 < len(data) < 12_000
    return data


class Victim:
    """Damaged bytes in a file, and what must hold for them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.archive = folder / "m.bale"

    def must_be_found(self, data: bytes, *what: object) -> str:
        self.archive.write_bytes(data)
        try:
            bale.decompress(self.archive, self.folder / "out", threads=1)
        except ArchiveError as error:
            assert names_in(self.folder) == ["m.bale"], what
            return str(error)
        raise AssertionError(f"not found: {what}")


@pytest.fixture
def victim(tmp_path: Path) -> Victim:
    return Victim(tmp_path)


def test_the_sound_archive_is_sound(every_part: bytes, tmp_path: Path) -> None:
    archive = tmp_path / "m.bale"
    archive.write_bytes(every_part)
    bale.verify(archive)
    bale.decompress(archive)
    assert is_archive(archive)


def _flips(data: bytes, step: int, masks: tuple[int, ...]) -> Iterator[tuple[int, int]]:
    (room,) = struct.unpack_from("<Q", data)
    places = {*range(8 + room), *range(0, len(data), step)}
    return ((at, mask) for at in sorted(places) for mask in masks)


def _flipped(data: bytes, at: int, mask: int) -> bytes:
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def test_every_changed_byte_is_found(every_part: bytes, victim: Victim) -> None:
    for at, mask in _flips(every_part, 7, (0x01,)):
        mask = 0x80 if at % 2 else mask
        victim.must_be_found(_flipped(every_part, at, mask), at, mask)


@pytest.mark.soak
def test_every_changed_byte_is_found_by_both_verbs(every_part: bytes, victim: Victim) -> None:
    for at, mask in _flips(every_part, 1, (0x01, 0x80, 0xFF)):
        victim.must_be_found(_flipped(every_part, at, mask), at, mask)
        with pytest.raises(ArchiveError):
            bale.verify(victim.archive, threads=1)


@pytest.mark.parametrize("step", few([5, 1], 1))
def test_every_truncation_is_found(every_part: bytes, victim: Victim, step: int) -> None:
    for length in (*range(0, len(every_part) - 64, step), *range(len(every_part) - 64, len(every_part))):
        victim.must_be_found(every_part[:length], length)


@pytest.mark.parametrize("byte", [b"\0", b" ", b"\xff"])
def test_every_appended_byte_is_found(every_part: bytes, victim: Victim, byte: bytes) -> None:
    for count in range(1, 65):
        victim.must_be_found(every_part + byte * count, count)


def test_chunks_that_change_places_are_found(every_part: bytes, victim: Victim) -> None:
    """Digests are by chunk: equal ones in the wrong order would pass if only the sum were looked at."""
    (room,) = struct.unpack_from("<Q", every_part)
    middle = 8 + room + (len(every_part) - 8 - room) // 2
    victim.must_be_found(every_part[: 8 + room] + every_part[middle:] + every_part[8 + room : middle])


def test_reading_says_what_is_wrong(every_part: bytes, victim: Victim) -> None:
    assert "is not a bale" in victim.must_be_found(b"")
    assert "is not a bale" in victim.must_be_found(b"PK\3\4" * 100)
    assert "its header says" in victim.must_be_found(every_part[:-1])
    newer = b'{"__metadata__":{"bale":"2.0","layout":"another"}}'
    assert "format 2.0, newer than this bale; upgrade bale" in victim.must_be_found(struct.pack("<Q", 1 << 40) + newer)
    assert "newer than this bale; upgrade bale" in victim.must_be_found(
        every_part.replace(b'{"bale":"1.1"', b'{"bale":"2.0"', 1)
    )


# Forged manifests whose every digest is right.


def forge(data: bytes, change: Callable[[JSON], object], digest: str | None = None) -> bytes:
    """Change the manifest and make the header and all digests fit again, but for its own if `digest` is given."""
    (room,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + room])
    begin, end = header[":manifest"]["data_offsets"]
    payload = data[8 + room :]
    manifest = json.loads(zstandard.ZstdDecompressor().decompress(payload[begin:end]))
    change(manifest)
    text = json.dumps(manifest, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    frame = zstandard.ZstdCompressor().compress(text.encode())
    parts: list[tuple[str, str, list[int], int]] = []
    for unit in manifest["units"]:
        for part in unit["parts"]:
            size = sum(chunk[1] for chunk in part["chunks"])
            plain = part["storage"] == [""]
            dtype, shape = (part["dtype"], part["shape"]) if plain else ("U8", [size])
            parts.append((f"{unit['views'][0][0]}:{part['name']}" if unit["views"] else ":gap.0", dtype, shape, size))
    parts.append((":skeleton", "U8", [manifest["skeleton"]["stored"]], manifest["skeleton"]["stored"]))
    parts.append((":manifest", "U8", [len(frame)], len(frame)))
    version = ".".join(map(str, manifest["format"]))
    entries: JSON = {"__metadata__": {"bale": version, "manifest": digest or xxhash.xxh3_128_hexdigest(frame)}}
    at = 0
    for name, dtype, shape, size in parts:
        entries[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    new = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    return struct.pack("<Q", room) + new.ljust(room) + payload[:begin] + frame


def unit_of(manifest: JSON, name: str) -> JSON:
    return next(unit for unit in manifest["units"] if unit["views"] and unit["views"][0][0] == name)


def part_of(manifest: JSON, name: str, part: str = "data") -> JSON:
    return next(each for each in unit_of(manifest, name)["parts"] if each["name"] == part)


def test_forging_itself_is_sound(every_part: bytes, tmp_path: Path) -> None:
    """Else the cases below would prove nothing."""
    archive = tmp_path / "m.bale"
    archive.write_bytes(forge(every_part, lambda manifest: manifest["notes"].append("forged")))
    bale.verify(archive)
    assert "forged" in bale.inspect(archive)["notes"]


def test_the_digest_of_the_manifest_is_compared(every_part: bytes, victim: Victim) -> None:
    """All else fits a manifest of which another text was changed, and a header that goes with it."""
    old = json.loads(every_part[8 : 8 + struct.unpack_from("<Q", every_part)[0]])["__metadata__"]["manifest"]
    for change in (lambda manifest: manifest["notes"].append("forged"), _set("coded.rule", "forged")):
        victim.archive.write_bytes(forge(every_part, change))
        bale.verify(victim.archive)
        forged = forge(every_part, change, old)
        assert "the manifest does not match its digest" in victim.must_be_found(forged)
        for verb in (bale.inspect, bale.verify):
            with pytest.raises(ArchiveError, match="the manifest does not match its digest"):
                verb(victim.archive)


@pytest.mark.parametrize("room", [HEADER_LIMIT, HEADER_LIMIT + 8])
def test_a_header_of_more_than_the_limit_is_not_read(every_part: bytes, victim: Victim, room: int) -> None:
    """Filled up with spaces, as headers are: nothing is wrong with it but its length."""
    (before,) = struct.unpack_from("<Q", every_part)
    data = struct.pack("<Q", room) + every_part[8 : 8 + before].ljust(room) + every_part[8 + before :]
    if room > HEADER_LIMIT:
        assert f"a header of {room} bytes" in victim.must_be_found(data)
    else:
        victim.archive.write_bytes(data)
        bale.inspect(victim.archive)


def _set(path: str, value: object) -> Callable[[JSON], object]:
    """``coded.data.chunk`` or ``coded.start`` or ``=source.bytes``: what to change, and to what."""

    def change(manifest: JSON) -> None:
        *way, last = path.removeprefix("=").split(".")
        where: Any = manifest
        if not path.startswith("="):
            where = unit_of(manifest, way.pop(0))
            if way and way[0] in {part["name"] for part in where["parts"]}:
                where = next(part for part in where["parts"] if part["name"] == way[0])
                way.pop(0)
        for step in way:
            where = where[int(step) if step.isdigit() else step]
        where[int(last) if last.isdigit() else last] = value

    return change


def _overlap(manifest: JSON) -> None:
    units = manifest["units"]
    units[1]["start"] = units[0]["start"]


def _second_chunk(manifest: JSON) -> None:
    part = part_of(manifest, "plain")
    part["chunks"].append([0, 0, "0" * 16])


def _twice(manifest: JSON) -> None:
    unit = unit_of(manifest, "plain")
    unit["parts"].append(dict(unit["parts"][0], shape=[0], chunks=[]))


def _short_part_of_a_long_unit(manifest: JSON) -> None:
    """A unit of 2^40 elements whose only part has 40: the parts, not the unit, are bounded by the file."""
    unit = unit_of(manifest, "plain")
    grown = (1 << 40) - 40
    unit["shape"] = [1 << 40]
    for other in manifest["units"]:
        if other["start"] > unit["start"]:
            other["start"] += grown
    manifest["source"]["bytes"] += grown


def _other_names(name: str) -> Callable[[JSON], object]:
    return _set("plain.views", [[name]])


FORGED = {
    "overlapping units": _overlap,
    "unit beyond the source": _set("plain.start", 1 << 40),
    "unit of negative start": _set("plain.start", -1),
    "source shorter than its units": _set("=source.bytes", 100),
    "source larger than its parts": _set("=source.bytes", 1 << 50),
    "source of more than 2^62 bytes": _set("=source.bytes", 1 << 63),
    "huge shape": _set("plain.shape", [1 << 40, 1 << 40]),
    "huge shape that wraps to what it was": _set("plain.shape", [(1 << 64) + 40]),
    "many dimensions": _set("plain.shape", [1] * 65 + [40]),
    "shape of a fraction": _set("plain.shape", [40.0]),
    "shape of a text": _set("plain.shape", "40"),
    "other shape": _set("plain.shape", [39]),
    "short part of a long unit": _short_part_of_a_long_unit,
    "unknown dtype": _set("plain.dtype", "F2"),
    "other dtype of a coded unit": _set("coded.dtype", "F16"),
    "integer dtype of a quantized unit": _set("quantized.dtype", "I16"),
    "no chunks": _set("coded.data.chunks", []),
    "too many chunks": _second_chunk,
    "chunks of no elements": _set("coded.data.chunk", 0),
    "chunks that are too long": _set("coded.data.chunk", (1 << 20) + 1),
    "shorter chunks than there are": _set("coded.data.chunk", 300),
    "chunk of a chain that is not named": _set("coded.data.chunks.0.0", 1),
    "chain of an unknown codec": _set("coded.data.storage", ["rot13"]),
    "chain of a forbidden value": _set("coded.data.storage", ["zstd:level=99"]),
    "chain that is a transform": _set("coded.data.storage", ["int8"]),
    "chain of another codec": _set("coded.data.storage", ["huffman"]),
    "chain of nonsense": _set("coded.data.storage", ["+++"]),
    "part under another name": _set("coded.data.name", "qdata"),
    "part with a name for a path": _set("coded.data.name", "../x"),
    "parts of one name": _twice,
    "no parts": _set("plain.parts", []),
    "codes of nine bits": _set("quantized.qdata.bits", 9),
    "codes of fewer bits": _set("quantized.qdata.bits", 2),
    "codes in floats": _set("quantized.scale.bits", 4),
    "unknown pipeline": _set("plain.pipeline", "rot13"),
    "pipeline of another kind": _set("plain.pipeline", "int8"),
    "lossless pipeline for codes": _set("quantized.pipeline", "lossless"),
    "pipeline with other groups": _set("quantized.pipeline", "int:bits=4,group=32"),
    "pipeline with fewer bits": _set("quantized.pipeline", "int:bits=3,group=64"),
    "smaller rank than the parts have": _set("both.pipeline", "svd:rank=1+int8"),
    "factors that are not coded": _set("both.pipeline", "svd:rank=2"),
    "view out of its unit": _set("plain.views", [["plain", "U8", [40], 1, None]]),
    "strides out of bounds": _set("plain.views", [["plain", "U8", [4, 10], 0, [11, 1]]]),
    "strides too few": _set("plain.views", [["plain", "U8", [4, 10], 0, [10]]]),
    "negative strides": _set("plain.views", [["plain", "U8", [4, 10], 0, [10, -1]]]),
    "view of a wider dtype": _set("plain.views", [["plain", "F64", [6], 0, None]]),
    "same as itself": _set("same.same_as", 7),
    "same as a later one": _set("same.same_as", 99),
    "same as one of another shape": _set("same.same_as", 0),
    "same as and parts of its own": _set("plain.same_as", 0),
    "digest of the unit": _set("plain.digest", "0" * 32),
    "digest that is none": _set("plain.digest", "x" * 32),
    "digest of a chunk": _set("plain.data.chunks.0.2", "0" * 16),
    "digest of the source": _set("=units", []),
    "errors that are not numbers": _set("quantized.errors", [1, 2, 3, 4, "x"]),
    "errors that are infinite": _set("quantized.errors", [1, 2, 3, 4, 1e999]),
    "too few errors": _set("quantized.errors", [1, 2]),
    "kind of source that is no word": _set("=source.kind", "two words"),
    "skeleton of another size": _set("=skeleton.bytes", 5),
    "skeleton digest": _set("=skeleton.digest", "0" * 16),
    "checksum out of the file": _set("=checksums", [[0, 1 << 40, [0]]]),
    "checksum field out of the file": _set("=checksums", [[0, 1, [1 << 40]]]),
    "errors that are negative": _set("quantized.errors", [-1, 2, 3, 4, 5]),
    "norm that is negative": _set("quantized.errors", [1, -2, 3, 4, 5]),
    "decoded norm that is negative": _set("quantized.errors", [1, 2, -3, 4, 5]),
    "largest error that is negative": _set("quantized.errors", [1, 2, 3, 4, -5]),
    "errors that overflow": _set("quantized.errors", [1e300, 1e300, 1e300, 1, 1]),
    "errors whose ratio overflows": _set("quantized.errors", [1e99, 5e-324, 1, 1, 1]),
    "norm of a lossless unit that is negative": _set("coded.norm2", -1),
    "tensors of one name": _other_names("coded"),
    "keys that there are not": _set("=later", {}),
    "no source": _set("=source", None),
    "units are an object": _set("=units", {}),
    "unknown codec": _set("=codecs.unheard_of", 1),
    "newer codec": _set("=codecs.lossless", 99),
    "newer format": _set("=format", [2, 0]),
    "format of a text": _set("=format", "1.0"),
}


@pytest.mark.parametrize("case", FORGED)
def test_forged_manifests_are_refused(every_part: bytes, victim: Victim, case: str) -> None:
    message = victim.must_be_found(forge(every_part, FORGED[case]), case)
    assert "\n" not in message
    for verb in (bale.verify, bale.inspect):
        with suppress(ArchiveError):  # any other error is a crash; headers and manifests alone need not show it all
            verb(victim.archive)


@pytest.mark.parametrize("case", ["newer format", "unknown codec", "newer codec"])
def test_newer_archives_come_with_a_hint(every_part: bytes, victim: Victim, case: str) -> None:
    assert "upgrade bale" in victim.must_be_found(forge(every_part, FORGED[case]))


def test_an_exact_archive_must_give_the_source_that_went_in(model: Path, victim: Victim) -> None:
    bale.compress(model, model.with_name("model.bale"))
    data = model.with_name("model.bale").read_bytes()
    for path in model.parent.iterdir():
        path.unlink()
    assert "not the source" in victim.must_be_found(forge(data, _set("=source.sha256", "0" * 64)))


def test_a_manifest_that_unfolds_without_end_is_refused(every_part: bytes, victim: Victim) -> None:
    """A frame of a few kilobytes that holds a gigabyte of spaces."""
    message = victim.must_be_found(forge(every_part, lambda manifest: manifest.update(notes=[" " * (1 << 26)])))
    assert "claims" in message


def _peak(path: Path) -> tuple[int, str]:
    """Megabytes that `bale inspect` takes at most, and what it says."""
    script = (
        "import re, sys\nfrom bale.cli.app import run\nrun(['inspect', sys.argv[1]])\n"
        "print(re.search(r'VmHWM:\\s+(\\d+) kB', open('/proc/self/status').read())[1])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1]) // 1000, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize(
    ("item", "share"), few([({}, 0.99), ([[[]]], 0.99), ([], 2), ([], 0.99), (300, 0.99), ("ab", 0.99), ([[[]]], 8)], 3)
)
def test_a_forged_manifest_does_not_use_up_memory(
    every_part: bytes, tmp_path: Path, item: object, share: float
) -> None:
    """As much structure as the limit for a file of 400 kilobytes allows, and more than that."""
    dear = json.dumps(item, separators=(",", ":"))
    noise = np.random.default_rng(0).bytes(400_000).hex()
    count = int(share * MANIFEST_RATIO * 400_000 - len(noise)) // (len(dear) + 1)
    archive = tmp_path / "m.bale"
    archive.write_bytes(forge(every_part, lambda manifest: manifest.update(notes=[noise, *[item] * count])))
    assert 400_000 < archive.stat().st_size < 500_000
    peak, said = _peak(archive)
    assert ("claims" in said) == (share > 1), said
    assert peak < 200


def test_a_skeleton_that_unfolds_without_end_is_refused(every_part: bytes, tmp_path: Path) -> None:
    frame = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    assert len(frame) < 100_000
    with pytest.raises(ArchiveError, match="claims"):
        _unfold(frame, 1 << 28, "the skeleton", _skeleton_limit(frame))
    for size in (100_000_008, 1 << 26):  # the longest header of safetensors, all of it spaces
        frame = zstandard.ZstdCompressor(level=9).compress(b" " * size)
        assert len(_unfold(frame, size, "the skeleton", _skeleton_limit(frame))) == size


def test_what_readers_refuse_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "m.safetensors", {"w": weights(8)}, padding=100_000)
    monkeypatch.setattr(archive_module, "_SKELETON_FLOOR", 1000)
    with pytest.raises(OutputError, match="readers refuse"):
        bale.compress(source)
    assert names_in(tmp_path) == ["m.safetensors"]


def test_a_manifest_that_says_the_same_many_times_is_read(tmp_path: Path) -> None:
    """Equal tensors have no parts of their own, so the manifest is far longer than header and frame."""
    source = write(tmp_path / "m.safetensors", {f"w{n}": np.zeros(4, "<f4") for n in range(8000)})
    bale.compress(source)
    with open_archive(Path(f"{source}.bale")) as opened:
        assert len(opened.manifest.encode()) > 1 << 20
        assert len(opened.manifest.units) == 8000


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../x", "C:\\x", "x\0y", "", ".", "..", "-o"])
def test_names_are_never_paths(every_part: bytes, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "inside"
    folder.mkdir()
    archive = folder / "m.bale"
    archive.write_bytes(forge(every_part, _other_names(name)))
    bale.decompress(archive, folder / "out")
    bale.decompress(archive, folder / "one", tensors=["re:.*"])
    with bale.open(archive) as tensors:
        assert len(tensors[name]) == 40
    assert names_in(tmp_path) == ["inside", "inside/m.bale", "inside/one", "inside/out"]


def test_a_file_that_shrinks_while_it_is_read_is_an_error(every_part: bytes, tmp_path: Path) -> None:
    archive = tmp_path / "m.bale"
    archive.write_bytes(every_part)
    with open_archive(archive) as opened:
        archive.write_bytes(every_part[:-2000])
        with pytest.raises(ArchiveError, match="early"):
            opened.skeleton()


def test_header_room_has_limits() -> None:
    spec = TensorSpec("U8", (1,))
    assert header_room([("a:data", (spec,))], 1) % 8 == 0
    with pytest.raises(OutputError, match="at most 249998 parts"):
        header_room([("a:data", (spec,))] * 250_000, 1)
    with pytest.raises(OutputError):
        header_room([("a" * 1_000_000, (spec,))] * 101, 1)


def test_errors_tell_the_file(every_part: bytes, victim: Victim) -> None:
    """Who checks a whole folder wants to know which archive it was."""
    for case in ("overlapping units", "no source", "unknown codec", "chain of nonsense", "newer format"):
        assert "m.bale" in victim.must_be_found(forge(every_part, FORGED[case]), case), case


def test_all_errors_are_of_one_tree() -> None:
    assert issubclass(ArchiveError, BaleError)

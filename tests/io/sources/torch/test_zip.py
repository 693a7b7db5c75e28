from __future__ import annotations

import contextlib
import io
import pickle
import struct
import warnings
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from bale.errors import SourceError
from bale.io.checkpoint import Checkpoint
from bale.io.sources.open import open_checkpoint
from tests.io.reading import assert_like_torch, bits, members, named_values, opened, rezip, torch_zip, unit_of

VALUE = {"w": torch.arange(12, dtype=torch.float32).reshape(3, 4), "b": torch.arange(5, dtype=torch.float16)}


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.save(VALUE, tmp_path / "model.pt")
    return tmp_path / "model.pt"


def assert_checksums(checkpoint: Checkpoint, fields: int) -> None:
    """Each unit is within a checksum whose fields hold what the payload gives."""
    data = checkpoint.path.read_bytes()
    assert len(checkpoint.checksums) == len(checkpoint.units)
    for unit, checksum in zip(checkpoint.units, checkpoint.checksums, strict=True):
        assert (checksum.start, checksum.start + checksum.length) == (unit.start, unit.end)
        assert len(checksum.fields) == fields
        crc = zlib.crc32(data[unit.start : unit.end])
        for at in checksum.fields:
            assert data[at : at + 4] == struct.pack("<I", crc)


def assert_opaque(path: Path, reason: str) -> None:
    checkpoint = opened(path)
    assert checkpoint.kind == "opaque"
    (note,) = checkpoint.notes
    assert reason in note.text
    assert note.text.isprintable()


def test_what_torch_saves(model: Path) -> None:
    checkpoint = assert_like_torch(model)
    assert checkpoint.notes == ()
    assert_checksums(checkpoint, 2)  # data descriptor and directory: the local header has zero


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_protocols(tmp_path: Path, protocol: int) -> None:
    torch.save(VALUE, tmp_path / "model.pt", pickle_protocol=protocol)
    assert_like_torch(tmp_path / "model.pt")


def test_crc_in_local_header(model: Path, tmp_path: Path) -> None:
    checkpoint = assert_like_torch(rezip(tmp_path / "plain.pt", members(model)))
    assert_checksums(checkpoint, 2)


def test_zero_crcs_are_left_alone(model: Path) -> None:
    data = bytearray(model.read_bytes())
    for checksum in open_checkpoint(model).checksums:
        for at in checksum.fields:
            data[at : at + 4] = bytes(4)
    model.write_bytes(data)
    checkpoint = opened(model)
    assert checkpoint.checksums == ()
    assert named_values(checkpoint)["w"].tobytes() == bits(VALUE["w"])


def test_fields_that_differ_are_left_alone(model: Path) -> None:
    (first, _), data = open_checkpoint(model).checksums, bytearray(model.read_bytes())
    data[first.fields[0]] ^= 0xFF
    model.write_bytes(data)
    assert open_checkpoint(model).checksums[0].fields == first.fields[1:]


class _Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def seek(self, *_: Any) -> int:
        raise io.UnsupportedOperation

    tell = seek  # type: ignore[assignment]


@pytest.mark.parametrize("signed", [True, False])
def test_data_descriptors(model: Path, tmp_path: Path, signed: bool) -> None:
    stream = _Unseekable()
    with zipfile.ZipFile(stream, "w") as file:
        for name, data in members(model).items():
            file.writestr(name, data)
    path = tmp_path / "streamed.pt"
    path.write_bytes(stream.getvalue() if signed else _without_signatures(stream.getvalue()))
    checkpoint = opened(path)
    assert named_values(checkpoint)["w"].tobytes() == bits(VALUE["w"])
    assert_checksums(checkpoint, 2)


def _without_signatures(data: bytes) -> bytes:
    """The same ZIP with data descriptors in their short form."""
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        infos, directory = file.infolist(), file.start_dir
    out, table, at = b"", b"", directory
    starts = [info.header_offset for info in infos[1:]] + [directory]
    for info, end in zip(infos, starts, strict=True):
        size = 46 + len(info.filename)
        entry = bytearray(data[at : at + size])
        struct.pack_into("<I", entry, 42, len(out))
        out += data[info.header_offset : end].replace(b"PK\x07\x08", b"")
        table, at = table + bytes(entry), at + size
    tail = bytearray(data[at:])
    struct.pack_into("<I", tail, 16, len(out))
    return out + table + bytes(tail)


def test_zip64_members(model: Path, tmp_path: Path) -> None:
    path = tmp_path / "zip64.pt"
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members(model).items():
            with file.open(zipfile.ZipInfo(name), "w", force_zip64=True) as member:
                member.write(data)
    assert_checksums(assert_like_torch(path), 2)


def test_zip64_directory(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 1)
    path = rezip(tmp_path / "zip64.pt", members(model))
    monkeypatch.undo()
    assert b"PK\x06\x06" in path.read_bytes()
    assert_checksums(assert_like_torch(path), 2)


def test_a_sparse_file_beyond_4_gib(tmp_path: Path) -> None:
    path, numel = tmp_path / "large.pt", (1 << 30) + 3
    pickled = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor\n((U\x07storagectorch\nFloatStorage\nU\x010U\x03cpuJ"
        + struct.pack("<i", numel) + b"tQK\x00J" + struct.pack("<i", numel) + b"\x85K\x01\x85tR."
    )  # fmt: skip
    name, size = b"archive/data/0", 4 * numel
    with path.open("wb") as file, zipfile.ZipFile(file, "w") as archive:
        archive.writestr("archive/data.pkl", pickled)
        header = file.tell()
        extra = struct.pack("<HHQQ", 1, 16, size, size)
        file.write(struct.pack("<4s5H3I2H", b"PK\3\4", 45, 0, 0, 0, 0, 0, 2**32 - 1, 2**32 - 1, len(name), len(extra)))
        file.write(name + extra)
        start = file.tell()
        file.seek(size, 1)
        archive.start_dir = file.tell()
        info = zipfile.ZipInfo(name.decode())
        info.header_offset, info.file_size, info.compress_size, info.CRC = header, size, size, 0
        archive.filelist.append(info)
        archive._didModify = True
    checkpoint = open_checkpoint(path)
    (unit,) = checkpoint.units
    assert (unit.start, unit.spec.shape) == (start, (numel,))
    assert checkpoint.checksums == ()


def test_big_endian(model: Path, tmp_path: Path) -> None:
    content = members(model)
    swapped = {"model/data/0": "f4", "model/data/1": "f2"}
    content["model/byteorder"] = b"big"
    content |= {name: np.frombuffer(content[name], width).byteswap().tobytes() for name, width in swapped.items()}
    checkpoint = assert_like_torch_values(rezip(tmp_path / "big.pt", content))
    assert all(unit.swapped and unit.exact == "big-endian" for unit in checkpoint.units)


def assert_like_torch_values(path: Path) -> Checkpoint:
    checkpoint = opened(path)
    for name, values in named_values(checkpoint).items():
        assert values.tolist() == VALUE[name].tolist()
    return checkpoint


def test_payload_that_the_pickle_does_not_name(model: Path, tmp_path: Path) -> None:
    path = rezip(tmp_path / "more.pt", members(model) | {"model/data/99": b"abc", "model/notes.txt": b"kept"})
    checkpoint = opened(path)
    (unit,) = [unit for unit in checkpoint.units if not unit.views]
    assert path.read_bytes()[unit.start : unit.end] == b"abc"


def test_records_with_other_names(model: Path, tmp_path: Path) -> None:
    content = {name.replace("model/", "näme\n/", 1): data for name, data in members(model).items()}
    assert opened(rezip(tmp_path / "x.pt", content)).kind == "torch"


class TestOpaque:
    def test_deflated(self, model: Path, tmp_path: Path) -> None:
        method = lambda name: zipfile.ZIP_DEFLATED if name.endswith("data/1") else zipfile.ZIP_STORED  # noqa: E731
        path = rezip(tmp_path / "x.pt", members(model), method)
        assert_opaque(path, "member 'model/data/1' is compressed")

    def test_deflated_members_beside_the_storages_do_not_matter(self, model: Path, tmp_path: Path) -> None:
        content = members(model) | {"model/metadata.json": b'{"k": "v"}' * 50, "model/notes.txt": b"text" * 50}
        kept = ("model/data", "model/byteorder")
        path = rezip(tmp_path / "x.pt", content, lambda name: 0 if name.startswith(kept) else zipfile.ZIP_DEFLATED)
        checkpoint = assert_like_torch(path)
        assert checkpoint.notes == ()
        assert_checksums(checkpoint, 2)

    @pytest.mark.parametrize("name", ["data.pkl", "byteorder"])
    def test_deflated_records_that_are_read(self, model: Path, tmp_path: Path, name: str) -> None:
        content = members(model)
        content[f"model/{name}"] += bytes(100) if name == "byteorder" else b""
        path = rezip(tmp_path / "x.pt", content, lambda each: zipfile.ZIP_DEFLATED if each.endswith(name) else 0)
        assert_opaque(path, f"member 'model/{name}' is compressed")

    def test_encrypted(self, model: Path, tmp_path: Path) -> None:
        path = rezip(tmp_path / "x.pt", members(model))
        data = bytearray(path.read_bytes())
        data[data.index(b"PK\1\2") + 8] |= 1
        path.write_bytes(data)
        assert_opaque(path, "is encrypted")

    def test_duplicate_members(self, model: Path, tmp_path: Path) -> None:
        path = rezip(tmp_path / "x.pt", members(model))
        with warnings.catch_warnings(), zipfile.ZipFile(path, "a") as file:
            warnings.simplefilter("ignore")
            file.writestr("model/data/0", b"other")
        assert_opaque(path, "two members 'model/data/0'")

    def test_overlapping_members(self, model: Path, tmp_path: Path) -> None:
        path = rezip(tmp_path / "x.pt", members(model))
        data = bytearray(path.read_bytes())
        with zipfile.ZipFile(path) as file:
            target = file.getinfo("model/data/0").header_offset
        entry = data.index(b"model/data/1", data.index(b"PK\1\2")) - 46
        struct.pack_into("<I", data, entry + 42, target)
        path.write_bytes(data)
        assert_opaque(path, "overlap")

    def test_some_other_zip(self, tmp_path: Path) -> None:
        assert_opaque(
            rezip(tmp_path / "x.npz", {"arr_0.npy": b"x", "deep/er/data.pkl": b"N."}),
            "in whose members no reader finds tensors",
        )
        assert_opaque(rezip(tmp_path / "y.zip", {}), "in whose members no reader finds tensors")

    def test_two_prefixes(self, tmp_path: Path) -> None:
        assert_opaque(rezip(tmp_path / "x.pt", {"a/data.pkl": b"N.", "b/data.pkl": b"N."}), "without the data.pkl")

    def test_a_pickle_that_cannot_be_followed(self, tmp_path: Path) -> None:
        assert_opaque(torch_zip(tmp_path / "x.pt", b"\x80\x02]\x97."), "cannot be followed at byte 50")

    def test_an_unknown_byte_order(self, model: Path, tmp_path: Path) -> None:
        path = rezip(tmp_path / "x.pt", members(model) | {"model/byteorder": b"middle"})
        assert_opaque(path, "byte order")

    def test_a_large_directory(self, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("bale.io.sources.zip_directory.DIRECTORY_LIMIT", 300)
        assert_opaque(model, "directory of")

    def test_a_large_pickle(self, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("bale.io.sources.pickle.reader.PICKLE_LIMIT", 50)
        monkeypatch.setattr("bale.io.sources.pickle.reader._WINDOW", 20)
        assert_opaque(model, "the pickle has more than 50 bytes")


class TestBroken:
    def test_every_truncation(self, model: Path) -> None:
        data = model.read_bytes()
        for length in range(4, len(data), 7):
            model.write_bytes(data[:length])
            with pytest.raises(SourceError, match="is broken") as caught:
                open_checkpoint(model)
            assert "\n" not in str(caught.value)

    def test_a_local_header_that_is_elsewhere(self, model: Path) -> None:
        data = bytearray(model.read_bytes())
        data[data.index(b"PK\3\4", 1)] = 0
        model.write_bytes(data)
        with pytest.raises(SourceError, match="is not at byte"):
            open_checkpoint(model)

    def test_every_byte_changed_is_read_or_refused(self, model: Path) -> None:
        data = bytearray(model.read_bytes())
        for at in range(0, len(data), 3):
            data[at] ^= 0x55
            model.write_bytes(data)
            with contextlib.suppress(SourceError):
                opened(model)
            data[at] ^= 0x55


class _System:
    def __init__(self, canary: str) -> None:
        self.canary = canary

    def __reduce__(self) -> Any:
        import os

        return os.system, (f"touch {self.canary}",)


class _Call:
    """Stands for a call in a pickle that is written by hand."""

    def __init__(self, module: str, name: str, *args: Any) -> None:
        self.module, self.name, self.args = module, name, args


def _pickled(value: Any, protocol: int) -> bytes:
    """A pickle of plain values and calls, with the opcodes of the protocol."""

    def write(item: Any) -> bytes:
        match item:
            case _Call() if protocol >= 4:
                return write(item.module) + write(item.name) + b"\x93" + write(item.args) + b"R"
            case _Call():
                return f"c{item.module}\n{item.name}\n".encode() + write(item.args) + b"R"
            case dict():
                return b"(" + b"".join(write(key) + write(each) for key, each in item.items()) + b"d"
            case list():
                return b"(" + b"".join(map(write, item)) + b"l"
            case tuple():
                return b"(" + b"".join(map(write, item)) + b"t"
            case str() if protocol >= 1:
                return b"X" + struct.pack("<I", len(item)) + item.encode()
        return f"V{item}\n".encode() if isinstance(item, str) else f"I{item}\n".encode()

    return (bytes([0x80, protocol]) if protocol >= 2 else b"") + write(value) + b"."


def payloads(canary: Path) -> dict[str, Any]:
    command = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w')"
    return {
        "os.system": _Call("os", "system", command),
        "posix.system": _Call("posix", "system", command),
        "subprocess.call": _Call("subprocess", "call", ["touch", str(canary)]),
        "runpy._run_code": _Call("runpy", "_run_code", code, {}),
        "builtins.eval": _Call("builtins", "eval", code),
        "builtins.exec": _Call("builtins", "exec", code),
        "builtins.open": _Call("builtins", "open", str(canary), "w"),
        "builtins.getattr": _Call("builtins", "getattr", _Call("importlib", "import_module", "os"), "system"),
        "pathlib.Path.touch": _Call("pathlib", "Path.touch", _Call("pathlib", "Path", str(canary))),
        "torch.serialization.os.system": _Call("torch.serialization", "os.system", command),
    }


class TestMalicious:
    """Nothing that a pickle asks for ever happens; each would leave a file behind."""

    @pytest.fixture
    def canary(self, tmp_path: Path) -> Path:
        return tmp_path / "canary"

    @pytest.mark.parametrize("protocol", range(6))
    @pytest.mark.parametrize("name", payloads(Path("x")))
    def test_calls(self, tmp_path: Path, canary: Path, name: str, protocol: int) -> None:
        payload = payloads(canary)[name]
        value = {"evil": payload, "nested": [(payload, {"deeper": payload})], "x": 1}
        checkpoint = opened(torch_zip(tmp_path / "x.pt", _pickled(value, protocol)))
        assert checkpoint.kind == "torch"
        if not name.startswith("pathlib"):
            assert f"{name}; bale never runs it" in checkpoint.notes[0].text or f"{name}," in checkpoint.notes[0].text
        assert not canary.exists()

    @pytest.mark.parametrize("opcode", [b"tR", b"t\x81", b"t}\x92", b"t}b"])
    def test_other_ways_of_calling(self, tmp_path: Path, canary: Path, opcode: bytes) -> None:
        command = b"X" + struct.pack("<I", len(f"touch {canary}")) + f"touch {canary}".encode()
        checkpoint = opened(torch_zip(tmp_path / "x.pt", b"\x80\x04cos\nsystem\n(" + command + opcode + b"."))
        assert "os.system" in checkpoint.notes[0].text
        assert not canary.exists()

    def test_within_a_model_that_works(self, tmp_path: Path, canary: Path) -> None:
        path = tmp_path / "x.pt"
        torch.save(VALUE | {"evil": _System(str(canary))}, path)
        checkpoint = opened(path)
        assert "posix.system; bale never runs it" in checkpoint.notes[0].text
        assert unit_of(checkpoint, "w").spec.shape == (3, 4)
        assert not canary.exists()

    def test_in_a_member_that_is_hidden_by_flags(self, tmp_path: Path, canary: Path) -> None:
        evil = _pickled(_Call("os", "system", f"touch {canary}"), 2)
        path = rezip(tmp_path / "x.pt", {"a/data.pkl": b"N.", "b/data.pkl": evil, "a/data.pkl~x": evil})
        path.write_bytes(path.read_bytes().replace(b"data.pkl~x", b"data.pkl\0x"))
        for flag in (0, 1, 8, 0x20, 0x41, 0x800):
            data = bytearray(path.read_bytes())
            data[data.index(b"PK\1\2") + 8] = flag & 0xFF
            path.write_bytes(data)
            assert opened(path).kind == "opaque"
        assert not canary.exists()

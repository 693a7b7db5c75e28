from __future__ import annotations

import io
import os
import pickle
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import bale
from bale.io.sources import storages
from bale.io.sources.open import open_checkpoint
from tests.io.reading import named_values, opened, rezip
from tests.io.sources.samples import BIAS, SAMPLES, WEIGHTS, zipped

TORCH, SAFETENSORS = SAMPLES["torch"].make(), SAMPLES["safetensors"].make()


def names(path: Path) -> set[str]:
    return set(named_values(opened(path)))


def assert_sound(path: Path) -> None:
    """All CRC-32 are those of the content."""
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None


def test_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", WEIGHTS, **{"layer/bias": BIAS, "step": np.int64(3), "big": BIAS.astype(">f4")})
    checkpoint = opened(tmp_path / "m.npz")
    values = named_values(checkpoint)
    assert (checkpoint.kind, checkpoint.notes) == ("npz", ())
    assert set(values) == {"arr_0", "layer/bias", "step", "big"}
    assert (values["arr_0"] == WEIGHTS).all()
    assert (values["big"] == BIAS).all()
    assert len(checkpoint.checksums) == 4


def test_a_lone_member_has_its_own_name(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", weight=WEIGHTS)
    assert names(tmp_path / "m.npz") == {"weight"}


def test_lossy_npz_loads_in_numpy(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", weight=WEIGHTS, turned=np.asfortranarray(WEIGHTS), step=np.int64(3))
    bale.compress(tmp_path / "m.npz", tmp_path / "m.bale", rules=["*=int8"])
    bale.decompress(tmp_path / "m.bale", tmp_path / "back.npz")
    assert_sound(tmp_path / "back.npz")
    back = np.load(tmp_path / "back.npz")
    assert back["step"] == 3
    for name in ("weight", "turned"):
        assert 0 < np.abs(back[name] - WEIGHTS).max() < 0.03


def test_compressed_members_are_told(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal(30_000)
    np.savez(tmp_path / "m.npz", weight=WEIGHTS)
    with zipfile.ZipFile(tmp_path / "m.npz", "a") as file:
        file.writestr("noise.npy", npy(noise), zipfile.ZIP_DEFLATED)
    (note,) = opened(tmp_path / "m.npz").notes
    assert "compressed members (noise.npy)" in note.text
    assert names(tmp_path / "m.npz") == {"weight"}


def npy(values: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, values)
    return file.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.npz", {"a.npy": npy(WEIGHTS)}, "an npz file whose members are all compressed, as numpy.savez_compressed"),
        ("m.zip", {"m.safetensors": SAFETENSORS}, "a ZIP file whose members are all compressed"),
    ],
)
def test_nothing_but_compressed_members(tmp_path: Path, name: str, content: dict[str, bytes], words: str) -> None:
    checkpoint = opened(rezip(tmp_path / name, content, lambda _: zipfile.ZIP_DEFLATED))
    assert checkpoint.kind == "opaque"
    assert words in checkpoint.notes[0].text


def test_members_that_are_not_followed_are_told(tmp_path: Path) -> None:
    objects = npy(np.array([{}], dtype=object))
    checkpoint = opened(rezip(tmp_path / "m.npz", {"a.npy": npy(WEIGHTS), "o.npy": objects, "x.npy": npy(BIAS)[:-4]}))
    assert names(tmp_path / "m.npz") == {"a"}
    assert [note.text for note in checkpoint.notes] == [
        "o.npy is kept as bytes: an array of NumPy of Python objects",
        "x.npy is kept as bytes: its array takes 96 bytes and it has 92, as in a file that was cut",
    ]


class _Call:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


def test_what_is_dangerous_is_told_behind_any_number_of_other_notes(tmp_path: Path) -> None:
    broken = {f"{number}.npy": b"\x93NUMPY\1\0" for number in range(20)}
    pickled = pickle.dumps({"w": WEIGHTS, "call": _Call()}, 4)
    notes = opened(rezip(tmp_path / "m.zip", {**broken, "p.pkl": pickled})).notes
    assert len(notes) < 12
    assert "posix.system" in next(note.text for note in notes if note.kind == "dangerous")


def test_a_descriptor_that_is_the_next_member_is_left_alone(tmp_path: Path) -> None:
    """Of a CRC that is the signature of a member: nothing stands behind the payload."""
    content = bytearray(npy(WEIGHTS))
    content[-4:] = _ending(zlib.crc32(content[:-4]), 0x04034B50)
    data = bytearray(zipped({"a.npy": bytes(content), "b.txt": b"hello"}))
    for at in (6, data.index(b"PK\1\2") + 8):
        data[at] |= 8  # says that a descriptor follows
    (tmp_path / "m.zip").write_bytes(data)
    (checksum,) = opened(tmp_path / "m.zip").checksums
    assert set(checksum.fields) == {14, data.index(b"PK\1\2") + 16}


def _ending(before: int, wanted: int) -> bytes:
    """Four bytes with which a CRC-32 becomes the one that is wanted."""
    table = [zlib.crc32(bytes([byte])) ^ 0xFF000000 for byte in range(256)]
    table = [value ^ table[0] for value in table]
    by_top = {value >> 24: byte for byte, value in enumerate(table)}
    state, found = wanted ^ 0xFFFFFFFF, []
    for _ in range(4):
        found.append(by_top[state >> 24])
        state = (state ^ table[found[-1]]) << 8 & 0xFFFFFFFF
    state, ending = before ^ 0xFFFFFFFF, b""
    for byte in reversed(found):
        ending += bytes([state & 255 ^ byte])
        state = state >> 8 ^ table[byte]
    return ending


def test_names_of_one_file_are_its_own(tmp_path: Path) -> None:
    assert names(rezip(tmp_path / "m.zip", {"a/m.pt": TORCH, "readme": b"x"})) == {"weight", "bias"}


def test_names_of_several_files_have_theirs_before_them(tmp_path: Path) -> None:
    path = rezip(tmp_path / "m.zip", {"a/m.pt": TORCH, "m.safetensors": SAFETENSORS, "x.npy": npy(BIAS)})
    assert names(path) == {"a/m.pt/weight", "a/m.pt/bias", "m.safetensors/weight", "m.safetensors/bias", "x"}


def test_checksums_within_are_computed_before_those_around(tmp_path: Path) -> None:
    path = rezip(tmp_path / "m.zip", {"m.pt": TORCH, "m.npz": zipped({"w.npy": npy(WEIGHTS)})})
    bale.compress(path, tmp_path / "m.bale", rules=["*=int8"])
    bale.decompress(tmp_path / "m.bale", tmp_path / "back.zip")
    assert_sound(tmp_path / "back.zip")
    with zipfile.ZipFile(tmp_path / "back.zip") as file:
        for name in ("m.pt", "m.npz"):
            (tmp_path / name).write_bytes(file.read(name))
            assert_sound(tmp_path / name)
    (tmp_path / "again.zip").write_bytes((tmp_path / "back.zip").read_bytes())
    for checksum in open_checkpoint(tmp_path / "again.zip").checksums:
        data = (tmp_path / "again.zip").read_bytes()
        crc = zlib.crc32(data[checksum.start : checksum.start + checksum.length])
        assert {data[at : at + 4] for at in checksum.fields} == {crc.to_bytes(4, "little")}


def test_no_deeper_than_files_in_files_in_files(tmp_path: Path) -> None:
    one = zipped({"w.npy": npy(WEIGHTS)})
    assert names(rezip(tmp_path / "two.zip", {"one.zip": one})) == {"w"}
    assert opened(rezip(tmp_path / "three.zip", {"two.zip": zipped({"one.zip": one})})).kind == "opaque"


def test_names_without_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each member has few, all together have too many."""
    monkeypatch.setattr(storages, "NAME_LIMIT", 10)
    content = {f"{number}.safetensors": safetensors.numpy.save({"a": BIAS, "b": BIAS}) for number in range(6)}
    checkpoint = opened(rezip(tmp_path / "m.zip", content))
    assert checkpoint.kind == "opaque"
    assert "more than 10 tensors" in checkpoint.notes[0].text


def test_an_archive_within_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(SAFETENSORS)
    bale.compress(tmp_path / "m.safetensors", tmp_path / "m.bale")
    path = rezip(tmp_path / "m.zip", {"m.bale": (tmp_path / "m.bale").read_bytes(), "m.pt": TORCH})
    assert names(path) == {"weight", "bias"}

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

import bale
from bale.errors import SourceError
from bale.io.sources import tar
from tests.io.reading import named_values, opened
from tests.io.sources.samples import BIAS, SAMPLES, WEIGHTS, tarred

TORCH, SAFETENSORS, NPZ = (SAMPLES[name].make() for name in ("torch", "safetensors", "npz"))
FORMS = (tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT)


def write(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def names(path: Path) -> set[str]:
    return set(named_values(opened(path)))


def summed(data: bytearray) -> bytes:
    """With the checksum of the first header renewed."""
    data[148:156] = b" " * 8
    data[148:156] = f"{sum(data[:512]):06o}\0 ".encode()
    return bytes(data)


def sparse() -> bytes:
    data = bytearray(tarred({"m": SAFETENSORS}, tarfile.GNU_FORMAT))
    data[156:157] = b"S"
    return summed(data)


@pytest.mark.parametrize("form", FORMS)
def test_members_by_their_own_readers(tmp_path: Path, form: int) -> None:
    content = {"./a/m.ckpt": TORCH, "b.npz": NPZ, "notes.txt": b"hello"}
    checkpoint = opened(write(tmp_path / "m.tar", tarred(content, form)))
    values = named_values(checkpoint)
    assert (checkpoint.kind, checkpoint.notes) == ("tar", ())
    assert set(values) == {"a/m.ckpt/weight", "a/m.ckpt/bias", "b.npz/weight", "b.npz/bias"}
    assert (values["b.npz/weight"] == WEIGHTS).all()


@pytest.mark.parametrize("form", FORMS)
def test_long_names(tmp_path: Path, form: int) -> None:
    long = "/".join(["folder" * 5] * (4 if form == tarfile.USTAR_FORMAT else 40)) + "/"
    path = write(tmp_path / "m.tar", tarred({f"{long}a.pt": TORCH, f"{long}b.npz": NPZ}, form))
    assert names(path) == {f"{long}{name}" for name in ("a.pt/weight", "a.pt/bias", "b.npz/weight", "b.npz/bias")}


def test_folders_and_links_have_no_content(tmp_path: Path) -> None:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:") as archive:
        for name, kind in (("folder", tarfile.DIRTYPE), ("link", tarfile.SYMTYPE)):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, "elsewhere"
            archive.addfile(member)
        member = tarfile.TarInfo("folder/m.safetensors")
        member.size = len(SAFETENSORS)
        archive.addfile(member, io.BytesIO(SAFETENSORS))
    assert names(write(tmp_path / "m.tar", file.getvalue())) == {"weight", "bias"}


def test_sizes_in_binary_and_in_records(tmp_path: Path) -> None:
    data = bytearray(tarred({"m.safetensors": SAFETENSORS}, tarfile.GNU_FORMAT))
    data[124:136] = b"\x80" + len(SAFETENSORS).to_bytes(11, "big")
    assert names(write(tmp_path / "m.tar", summed(data))) == {"weight", "bias"}
    member = tarfile.TarInfo("m.safetensors")
    member.size, member.pax_headers = len(SAFETENSORS), {"size": str(len(SAFETENSORS))}
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w:") as archive:
        archive.addfile(member, io.BytesIO(SAFETENSORS))
    assert names(write(tmp_path / "m.tar", file.getvalue())) == {"weight", "bias"}


def test_lossy_members_load_again(tmp_path: Path) -> None:
    path = write(tmp_path / "m.nemo", tarred({"./model_weights.ckpt": TORCH, "./model_config.yaml": b"a: 1"}))
    bale.compress(path, tmp_path / "m.bale", rules=["weight=int8"])
    bale.decompress(tmp_path / "m.bale", tmp_path / "back.nemo")
    with tarfile.open(tmp_path / "back.nemo") as archive:
        archive.extractall(tmp_path / "out", filter="data")
    back = torch.load(tmp_path / "out" / "model_weights.ckpt")
    assert 0 < np.abs(back["weight"].numpy() - WEIGHTS).max() < 0.03
    assert (back["bias"].numpy() == BIAS).all()
    assert (tmp_path / "out" / "model_config.yaml").read_bytes() == b"a: 1"


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (tarred({"a.txt": b"hello"}), "in whose members no reader finds tensors"),
        (sparse(), "a tar file with a member of kind 'S'"),
    ],
)
def test_what_is_not_followed(tmp_path: Path, data: bytes, words: str) -> None:
    checkpoint = opened(write(tmp_path / "m.tar", data))
    assert checkpoint.kind == "opaque"
    assert words in checkpoint.notes[0].text


def test_a_file_that_was_cut(tmp_path: Path) -> None:
    data = tarred({"m.safetensors": SAFETENSORS})
    with pytest.raises(SourceError, match="more than there are"):
        opened(write(tmp_path / "m.tar", data[:4096]))


def test_more_members_than_any_file_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tar, "_MEMBER_LIMIT", 3)
    path = write(tmp_path / "m.tar", tarred({f"{number}.safetensors": SAFETENSORS for number in range(4)}))
    assert "more than 3 members" in opened(path).notes[0].text


def test_headers_of_headers_are_bounded(tmp_path: Path) -> None:
    data = tarred({"n" * 70_000: SAFETENSORS}, tarfile.GNU_FORMAT)
    assert "a header of 70001 bytes" in opened(write(tmp_path / "m.tar", data)).notes[0].text

from __future__ import annotations

import pickle
import struct
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

from bale.errors import SourceError
from bale.io.sources.open import open_checkpoint
from bale.io.sources.torch.legacy import MAGIC
from bale.spec import TensorSpec
from tests.io.reading import assert_like_torch, named_values, opened

STORAGE = b"(U\x07storagectorch\nFloatStorage\nU\x01kU\x03cpuK\x06"
TENSOR = b"ctorch._utils\n_rebuild_tensor_v2\n("
REST = b"K\x00K\x02K\x03\x86K\x03K\x01\x86\x89NtR"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    storage = torch.arange(24, dtype=torch.float32)
    value = {
        "q": storage[:8].reshape(2, 4),
        "k": storage[8:16].reshape(4, 2).T,
        "half": torch.arange(5, dtype=torch.float16),
        "none": torch.zeros(0, 3),
    }
    torch.save(value, tmp_path / "model.pt", _use_new_zipfile_serialization=False)
    return tmp_path / "model.pt"


def legacy(
    path: Path,
    content: bytes,
    keys: Any = ("k",),
    storages: bytes = struct.pack("<q6f", 6, *range(6)),
    head: tuple[Any, ...] = (MAGIC, 1001, {"little_endian": True}),
    tail: bytes = b"",
) -> Path:
    """Write a legacy file around the pickle of its content."""
    pickles = b"".join(pickle.dumps(value, 2) for value in head)
    path.write_bytes(pickles + b"\x80\x02" + content + b"." + pickle.dumps(list(keys), 2) + storages + tail)
    return path


def test_what_torch_saves(model: Path) -> None:
    checkpoint = assert_like_torch(model, "torch-legacy")
    assert checkpoint.notes == ()
    assert checkpoint.checksums == ()
    shapes = {view.name: unit.spec.shape for unit in checkpoint.units for view in unit.views}
    assert shapes == {"q": (2, 4), "k": (4, 2), "half": (5,), "none": (0, 3)}


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle_protocols(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "model.pt"
    torch.save([torch.ones(3)], path, _use_new_zipfile_serialization=False, pickle_protocol=protocol)
    assert_like_torch(path, "torch-legacy")


def test_whole_modules(tmp_path: Path) -> None:
    path, module = tmp_path / "model.pt", torch.nn.Linear(3, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.save(module, path, _use_new_zipfile_serialization=False)
    assert named_values(opened(path))["_parameters.weight"].tolist() == module.weight.tolist()


def test_pickles_longer_than_the_window(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bale.io.sources.pickle.reader._WINDOW", 20)
    assert_like_torch(model, "torch-legacy")


def test_pickles_longer_than_the_limit(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bale.io.sources.pickle.reader._WINDOW", 20)
    monkeypatch.setattr("bale.io.sources.pickle.reader.PICKLE_LIMIT", 100)
    assert opened(model).kind == "opaque"


@pytest.mark.parametrize("behind", ["another", "zeros"])
def test_much_that_lies_behind_makes_it_opaque(model: Path, behind: str) -> None:
    """Only the first of several streams would be seen."""
    data = model.read_bytes()
    model.write_bytes(data + (data if behind == "another" else bytes(10_000)))
    checkpoint = opened(model)
    assert checkpoint.kind == "opaque"
    assert ("10.0 kB of" if behind == "zeros" else f"{len(data)} B of") in checkpoint.notes[0].text
    assert "behind the storages" in checkpoint.notes[0].text


def test_few_trailing_bytes_stay_in_the_skeleton(model: Path) -> None:
    end = model.stat().st_size
    with model.open("ab") as file:
        file.write(b"trailing")
    checkpoint = assert_like_torch(model, "torch-legacy")
    assert list(checkpoint.skeleton_ranges())[-1] == (end, 8)


def test_the_byte_order_of_the_writer_does_not_matter(tmp_path: Path) -> None:
    """Torch wrote little-endian elements on every machine, and reads them so whatever the flag says."""
    head = (MAGIC, 1001, {"little_endian": False})
    path = legacy(tmp_path / "x.pt", TENSOR + STORAGE + b"NtQ" + REST, head=head)
    checkpoint = assert_like_torch(path, "torch-legacy")
    assert not checkpoint.units[0].swapped


def test_views_of_storages(tmp_path: Path) -> None:
    storage = STORAGE.replace(b"K\x06", b"K\x08") + b"U\x01vK\x02K\x06\x87tQ"
    storages = struct.pack("<q8f", 8, *range(8))
    path = legacy(tmp_path / "x.pt", TENSOR + storage + REST, storages=storages)
    checkpoint = assert_like_torch(path, "torch-legacy")
    assert [unit.spec for unit in checkpoint.units] == [TensorSpec("F32", (2,)), TensorSpec("F32", (2, 3))]


def test_storages_of_unknown_type_are_opaque(tmp_path: Path) -> None:
    content = TENSOR + STORAGE.replace(b"Float", b"Fancy") + b"NtQ" + REST
    checkpoint = opened(legacy(tmp_path / "x.pt", content))
    assert checkpoint.kind == "opaque"
    assert "unknown type" in checkpoint.notes[0].text


def test_another_protocol_is_opaque(tmp_path: Path) -> None:
    path = legacy(tmp_path / "x.pt", b"N", (), b"", head=(MAGIC, 1002, {}))
    assert opened(path).kind == "opaque"


@pytest.mark.parametrize(
    ("keys", "storages"),
    [
        (("k",), b"\6"),
        (("k",), struct.pack("<q", 7) + bytes(24)),
        (("k",), struct.pack("<q", -1) + bytes(24)),
        (("k",), struct.pack("<q", 2**62) + bytes(24)),
        (("k",), struct.pack("<q", 5) + bytes(20)),
        (("k", "k"), struct.pack("<q", 6) + bytes(24)),
        (("other",), struct.pack("<q", 6) + bytes(24)),
        ((), b""),
        (([],), b""),
    ],
)
def test_broken_storages(tmp_path: Path, keys: Any, storages: bytes) -> None:
    path = legacy(tmp_path / "x.pt", TENSOR + STORAGE + b"NtQ" + REST, keys, storages)
    with pytest.raises(SourceError, match="is broken") as caught:
        open_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_every_truncation_is_found(model: Path) -> None:
    data = model.read_bytes()
    for length in range(len(pickle.dumps(MAGIC, 2)), len(data)):
        model.write_bytes(data[:length])
        with pytest.raises(SourceError, match="is broken"):
            open_checkpoint(model)


@pytest.mark.parametrize("place", range(4))
def test_malicious_pickles_in_every_place(tmp_path: Path, place: int) -> None:
    canary, path = tmp_path / "canary", tmp_path / "x.pt"
    command = f"touch {canary}".encode()
    evil = b"\x80\x02(K\x01cos\nsystem\nX" + struct.pack("<I", len(command)) + command + b"\x85Rl0"
    plain = [pickle.dumps(value, 2) for value in (1001, {}, [], [])]
    plain[place] = evil + plain[place][2:]
    path.write_bytes(pickle.dumps(MAGIC, 2) + b"".join(plain))
    checkpoint = opened(path)
    assert checkpoint.kind == "torch-legacy"
    assert "os.system; bale never runs it" in checkpoint.notes[0].text
    assert not canary.exists()

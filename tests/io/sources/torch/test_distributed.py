from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed.checkpoint as dcp
from safetensors.numpy import load_file
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import Metadata, MetadataIndex
from torch.distributed.checkpoint.state_dict_saver import save

import bale
from bale.io.sources import storages
from bale.io.sources.torch import distributed
from tests.io.reading import bits, named_values, opened, rezip

pytestmark = pytest.mark.filterwarnings("ignore")
STATE: dict[str, Any] = {
    "model": {
        "a.weight": torch.randn(64, 80),
        "b": torch.arange(5),
        "empty": torch.zeros(0, 3),
        "half": torch.ones(4).half(),
    },
    "optim": {"step": torch.tensor(3.0), "lr": 0.1, "betas": (0.9, 0.999)},
}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    save(STATE, checkpoint_id=tmp_path / "dcp", no_dist=True)
    return tmp_path / "dcp" / "__0_0.distcp"


def stream(value: Any) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


def test_names_are_those_of_the_state(saved: Path) -> None:
    checkpoint = opened(saved)
    assert (checkpoint.kind, checkpoint.notes) == ("distcp", ())
    values = named_values(checkpoint)
    expected = {f"model.{name}": value for name, value in STATE["model"].items()} | {
        "optim.step": STATE["optim"]["step"]
    }
    assert values.keys() == expected.keys()
    for name, value in expected.items():
        assert values[name].shape == tuple(value.shape)
        assert values[name].tobytes() == bits(value)


def test_lossy_values_are_loaded_again(saved: Path) -> None:
    bale.compress(saved, saved.parent / "m.bale", pipeline="int8")
    bale.decompress(saved.parent / "m.bale", saved, force=True)
    state = {"model": {name: torch.zeros_like(value) for name, value in STATE["model"].items()}, "optim": {"lr": 0.0}}
    dcp.load(state, checkpoint_id=saved.parent, no_dist=True)
    assert state["optim"]["lr"] == 0.1
    error = (state["model"]["a.weight"] - STATE["model"]["a.weight"]).abs().max()
    assert 0 < error < 0.03
    assert torch.equal(state["model"]["b"], STATE["model"]["b"])


def test_folders(saved: Path, tmp_path: Path) -> None:
    bale.compress(saved.parent, tmp_path / "stored")
    bale.decompress(tmp_path / "stored", tmp_path / "back")
    for path in saved.parent.iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("metadata", [None, b"", b"nothing", stream(1)])
def test_items_without_names(saved: Path, metadata: bytes | None) -> None:
    beside = saved.with_name(".metadata")
    beside.unlink() if metadata is None else beside.write_bytes(metadata)
    checkpoint = opened(saved)
    assert set(named_values(checkpoint)) == {"tensor", *(f"tensor~{number}" for number in range(2, 6))}
    assert [note.kind for note in checkpoint.notes] == ["nameless"]


def test_a_tensor_that_is_divided(tmp_path: Path) -> None:
    """Its parts have its name in each file: rules are for all of them, and `--tensor` takes all."""
    folder, whole = tmp_path / "dcp", torch.randn(128, 80)
    folder.mkdir()
    places = {}
    for rank, part in enumerate(whole.chunk(2)):
        data = stream(part.clone())
        (folder / f"__{rank}_0.distcp").write_bytes(data)
        places[MetadataIndex("w", torch.Size([64 * rank, 0]), rank)] = _StorageInfo(f"__{rank}_0.distcp", 0, len(data))
    (folder / ".metadata").write_bytes(pickle.dumps(Metadata({}, storage_data=places)))
    report = bale.compress(folder, tmp_path / "small", rules=["w=int8"])
    assert [(row.name, row.pipeline) for file in report.files for row in file.rows] == [("w", "int8")] * 2
    names = ["__0_0.distcp:w", "__1_0.distcp:w"]
    for pattern in ("w", "*", "__?_0.distcp:w"):
        bale.decompress(tmp_path / "small", tmp_path / "parts.safetensors", tensors=[pattern], force=True)
        assert sorted(load_file(tmp_path / "parts.safetensors")) == names
    with bale.open(tmp_path / "small") as tensors:
        assert np.allclose(np.concatenate([tensors[name] for name in names]), whole.numpy(), atol=0.03)
        with pytest.raises(KeyError, match=r"w, which is __0_0\.distcp:w and __1_0\.distcp:w"):
            tensors["w"]


def test_several_objects(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(stream({"w": torch.ones(3)}) + stream({"w": torch.zeros(2), "b": 1}) + stream([2]))
    assert set(named_values(opened(tmp_path / "m.pt"))) == {"w", "w~2"}


def test_what_is_no_item(tmp_path: Path) -> None:
    data = stream({"w": torch.ones(3)})
    (tmp_path / "m.distcp").write_bytes(b"PK\3\4" + bytes(50) + data)
    checkpoint = opened(tmp_path / "m.distcp")
    assert checkpoint.kind == "opaque"
    assert "54 B of" in checkpoint.notes[0].text
    assert "lie before the first member of its ZIP directory" in checkpoint.notes[0].text
    other = rezip(tmp_path / "x.zip", {"a": b"x"}).read_bytes()
    (tmp_path / "m.distcp").write_bytes(other + other)
    assert opened(tmp_path / "m.distcp").kind == "opaque"


def test_no_comments_are_searched_for(tmp_path: Path) -> None:
    data = stream({"w": torch.ones(3)})
    (tmp_path / "m.distcp").write_bytes(data[:-2] + b"\1\0x" + data)
    checkpoint = opened(tmp_path / "m.distcp")
    assert checkpoint.kind == "opaque"
    assert "lie before the first member of its ZIP directory" in checkpoint.notes[0].text


def test_items_that_are_not_followed_are_told(tmp_path: Path) -> None:
    packed = rezip(tmp_path / "x.zip", {"a/data.pkl": b"N." * 9000}, lambda _: zipfile.ZIP_STORED).read_bytes()
    (tmp_path / "m.distcp").write_bytes(packed.replace(b"N.", b"\xffx") + stream({"w": torch.ones(300)}))
    checkpoint = opened(tmp_path / "m.distcp")
    assert set(named_values(checkpoint)) == {"w"}
    assert "items that are not followed" in checkpoint.notes[0].text


def test_more_items_than_any_file_has(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "_ITEM_LIMIT", 3)
    checkpoint = opened(saved)
    assert checkpoint.kind == "opaque"
    assert "more than 3 items" in checkpoint.notes[0].text


def test_a_label_that_very_many_tensors_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save({"n" * 3000: torch.ones(3)}, checkpoint_id=tmp_path, no_dist=True)
    saved = tmp_path / "__0_0.distcp"
    monkeypatch.setattr(storages, "TEXT_LIMIT", 2000)
    checkpoint = opened(saved)
    assert checkpoint.kind == "opaque"
    assert "very long ones" in checkpoint.notes[0].text
    saved.with_name(".metadata").unlink()
    assert opened(saved).kind == "distcp"

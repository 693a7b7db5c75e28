"""What of torch files lies in no tensor, as `torch.save` writes it."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import bale
from bale.io.sources.open import open_checkpoint
from tests.io.reading import opened, torch_zip

END = ": kept exactly, no pipeline reaches them"


def told(path: Path, value: Any, **options: Any) -> list[str]:
    torch.save(value, path, **options)
    return [note.text for note in opened(path).notes if note.kind == "unnamed"]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "m.pt"


@pytest.mark.parametrize("zipped", [True, False])
def test_arrays(path: Path, zipped: bool) -> None:
    value = {"model": {"w": np.zeros((100, 250), "f4")}, "buffer": np.zeros(500), "b": torch.zeros(3)}
    (text,) = told(path, value, _use_new_zipfile_serialization=zipped)
    assert text.startswith("104.0 kB of 10")
    assert text.endswith(f" are arrays in its pickle (model.w, buffer){END}")


def test_a_view_of_a_larger_storage(path: Path) -> None:
    (text,) = told(path, {"v": torch.zeros(100_000)[:10], "w": torch.zeros(100)})
    assert text == f"400.0 kB of 402.0 kB are the rest of larger storages (v has 40 B of 400.0 kB){END}"


def test_views_with_gaps_and_views_that_overlap(path: Path) -> None:
    large, other = torch.zeros(10_000), torch.zeros(10_000)
    (text,) = told(path, {"k": large[::5], "a": other[:6000], "b": other[4000:], "c": other[4000:]})
    assert " (k has 8.0 kB of 40.0 kB)" in text
    (text,) = told(path, {"a": other[:2000], "b": other[1000:3000]})
    assert " (a and 1 more have 12.0 kB of 40.0 kB)" in text


def test_what_a_whole_tensor_is_expanded_from_is_whole(path: Path) -> None:
    assert told(path, {"e": torch.zeros(20_000).expand(5, 20_000), "t": torch.zeros(100, 200).T}) == []


def test_storages_without_a_description(path: Path) -> None:
    value = {"c": torch.zeros(5000, dtype=torch.complex64).conj(), "w": torch.zeros(64, 64)}
    (text,) = told(path, value)
    assert f"40.0 kB of {path.stat().st_size / 1000:.1f} kB are storages that no tensor describes (c)" in text
    torch_zip(path, b"\x80\x02}.", {"0": bytes(10_000)})
    assert "10.0 kB of 10.4 kB are storages that no tensor describes:" in opened(path).notes[0].text


def test_texts_and_objects(path: Path) -> None:
    value = {"t": torch.zeros(3), "vocab": "word " * 10_000, "losses": [1.5 * step for step in range(5000)]}
    (text,) = told(path, value)
    assert "50.0 kB are texts in its pickle (vocab)" in text
    assert "kB are Python objects in its pickle" in text
    assert text.startswith("9")


def test_the_state_of_an_optimizer_is_ordinary(path: Path) -> None:
    model = torch.nn.Sequential(*[torch.nn.Linear(8, 8) for _ in range(5)])
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(8)).sum().backward()
    optimizer.step()
    value = {"model": model.state_dict(), "optimizer": optimizer.state_dict(), "rng": torch.get_rng_state(), "epoch": 3}
    assert told(path, value) == []


def test_members_that_a_framework_added(path: Path) -> None:
    torch.save({"w": torch.ones(64, 64)}, path)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("m/meta.json", '{"k": "v"}' * 50)
    assert opened(path).notes == ()
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("m/preview.png", bytes(20_000))
    (note,) = opened(path).notes
    assert "20.0 kB of" in note.text
    assert f" are other members of the ZIP file (m/preview.png, m/meta.json){END}" in note.text


def test_bytes_behind_the_directory_and_between_members(path: Path) -> None:
    torch.save({"w": torch.ones(64, 64)}, path)
    data = path.read_bytes()
    path.write_bytes(data + bytes(10_000))
    assert f"10.0 kB of 27.7 kB are bytes behind its ZIP directory{END}" in opened(path).notes[0].text
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("m/data.pkl", b"\x80\x02}.")
        file.fp.write(bytes(10_000))
        file.start_dir = file.fp.tell()
        file.writestr("m/byteorder", b"little")
    assert "10.0 kB of 10.2 kB are bytes between its members" in opened(path).notes[0].text


def test_arrays_of_zeros_come_back(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long ranges beside tensors are units, so that no limit of the skeleton is met, and nothing holds them whole."""
    monkeypatch.setattr("bale.io.archive.archive._SKELETON_FLOOR", 1 << 20)
    torch.save({"w": torch.ones(64, 64), "buffer": np.zeros(5_000_000, "u1")}, path)
    assert sum(size for _, size in open_checkpoint(path).skeleton_ranges()) < 1 << 14
    predicted = bale.plan(path).predicted_bytes
    report = bale.compress(path)
    assert report.stored_bytes < 10_000 > predicted / 5
    bale.verify(f"{path}.bale", against=path)
    bale.decompress(f"{path}.bale", path.with_name("back"))
    assert path.read_bytes() == path.with_name("back").read_bytes()

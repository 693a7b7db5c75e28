"""The same tensors in two files of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

import bale
from tests.making import weights, write


def test_the_same_tensors_in_two_files(folder: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    arrays = {f"l{n}.weight": weights(16, 16, seed=n) for n in range(3)}
    write(folder / "model.safetensors", arrays)
    write(folder / "sub-00001-of-00002.safetensors", {"l0.weight": arrays["l0.weight"]})
    write(folder / "sub-00002-of-00002.safetensors", {"l1.weight": arrays["l1.weight"], "x": weights(16, 16, seed=9)})
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, folder / "pytorch_model.bin")
    expected = [
        "sub-*-of-00002.safetensors holds 2 of the 3 tensors of model.safetensors",
        "pytorch_model.bin holds the same 3 tensors as model.safetensors",
    ]
    for document in (
        bale.plan(folder).to_json(),
        bale.compress(folder).to_json(),
        bale.inspect(tmp_path / "model.bale"),
    ):
        pairs = zip(document["notes"], document["note_kinds"], strict=True)
        assert [note for note, kind in pairs if kind == "same-tensors"] == expected


def test_a_plan_tells_of_equal_bytes_only(folder: Path) -> None:
    """A tensor that differs outside of the sample, and one of another shape, are others."""
    array = weights(64, 64)
    other = array.copy()
    other[0, 0] += 1
    write(folder / "model.safetensors", {"w": array, "v": array, "e": array[:0]})
    for name, tensors in (("a", {"w": other, "v": array}), ("b", {"w": array.T.copy(), "v": array.reshape(32, 128)})):
        write(folder / f"{name}.safetensors", tensors)
    found = bale.plan(folder)
    assert [note.text for note in found.notes if note.kind == "same-tensors"] == [
        "model.safetensors holds 1 of the 2 tensors of a.safetensors"
    ]
    assert [note.text for note in bale.compress(folder).notes if note.kind == "same-tensors"] == [
        note.text for note in found.notes if note.kind == "same-tensors"
    ]

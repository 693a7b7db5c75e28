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
    for document in (bale.compress(folder).to_json(), bale.inspect(tmp_path / "model.bale")):
        pairs = zip(document["notes"], document["note_kinds"], strict=True)
        assert [note for note, kind in pairs if kind == "same-tensors"] == expected

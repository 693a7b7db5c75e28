"""Names of tensors that several files of a folder have."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import bale
from bale.engine.reading.open import open_tensors
from bale.torch import load_state_dict
from tests.making import weights, write


def folder_of(path: Path, plain: dict[str, np.ndarray], other: dict[str, torch.Tensor]) -> Path:
    (path / "sub").mkdir(parents=True)
    write(path / "model.safetensors", plain)
    torch.save(other, path / "sub" / "pytorch_model.bin")
    bale.compress(path, path.with_suffix(".bale"))
    return path


@pytest.fixture
def w() -> dict[str, np.ndarray]:
    return {"w": weights(8, 8), "v": weights(6, 4, seed=1)}


@pytest.mark.parametrize("suffix", ["", ".bale"])
def test_equal_ones_have_their_plain_name_and_are_found_by_the_file_too(
    tmp_path: Path, w: dict[str, np.ndarray], suffix: str
) -> None:
    folder = folder_of(tmp_path / "m", w, {name: torch.from_numpy(array) for name, array in w.items()})
    with open_tensors(folder.with_suffix(suffix)) as tensors:
        assert list(tensors) == ["w", "v"]
        assert list(tensors.qualified) == [
            "model.safetensors:w",
            "sub/pytorch_model.bin:w",
            "model.safetensors:v",
            "sub/pytorch_model.bin:v",
        ]
        for name in tensors.qualified:
            assert name in tensors
            assert np.array_equal(tensors[name], w[name[-1]])
        assert [str(note) for note in tensors.notes] == [
            "sub/pytorch_model.bin holds the same 2 tensors as model.safetensors"
        ]
    assert list(load_state_dict(folder.with_suffix(suffix))) == ["w", "v"]


@pytest.mark.parametrize("suffix", ["", ".bale"])
@pytest.mark.parametrize("change", ["value", "order", "dtype", "shape"])
def test_others_are_qualified_by_the_file(tmp_path: Path, w: dict[str, np.ndarray], suffix: str, change: str) -> None:
    tensor = torch.from_numpy(w["w"])
    other = {
        "value": tensor + 1,
        "order": tensor.t().contiguous().t(),  # the same values; they lie otherwise
        "dtype": tensor.half(),
        "shape": tensor.reshape(4, 16),
    }[change]
    folder = folder_of(tmp_path / "m", w, {"w": other})
    with open_tensors(folder.with_suffix(suffix)) as tensors:
        assert list(tensors) == ["model.safetensors:w", "sub/pytorch_model.bin:w", "v"]
        assert tensors.qualified == ()
        assert not tensors.notes
        assert "w" not in tensors


def test_tensors_are_taken_by_either_name(tmp_path: Path, w: dict[str, np.ndarray]) -> None:
    archive = folder_of(tmp_path / "m", w, {"w": torch.from_numpy(w["w"])}).with_suffix(".bale")
    for pattern, names in {
        "w": ["w"],
        "*": ["w", "v"],
        "sub*:w": ["sub/pytorch_model.bin:w"],
        "*bin:*": ["sub/pytorch_model.bin:w"],
    }.items():
        bale.decompress(archive, tmp_path / "out", tensors=[pattern], force=True)
        with open_tensors(tmp_path / "out") as tensors:
            assert sorted(tensors) == sorted(names)


def test_a_plain_name_that_looks_qualified_is_kept(tmp_path: Path) -> None:
    a = weights(4, 4)
    (tmp_path / "m").mkdir()
    write(tmp_path / "m" / "a.safetensors", {"w": a, "b.safetensors:w": a + 2})
    write(tmp_path / "m" / "b.safetensors", {"w": a})
    with open_tensors(tmp_path / "m") as tensors:
        assert np.array_equal(tensors["w"], a)
        assert np.array_equal(tensors["b.safetensors:w"], a + 2)


def test_a_tensor_whose_qualified_name_is_taken_gets_another(tmp_path: Path) -> None:
    a = weights(4, 4)
    (tmp_path / "m").mkdir()
    write(tmp_path / "m" / "a.safetensors", {"w": a, "b.safetensors:w": a + 2})
    write(tmp_path / "m" / "b.safetensors", {"w": a + 1})
    with open_tensors(tmp_path / "m") as tensors:
        assert {name: float(array[0, 0] - a[0, 0]) for name, array in tensors.items()} == {
            "a.safetensors:w": 0,
            "b.safetensors:w": pytest.approx(2, rel=1e-5),
            "b.safetensors:w~2": pytest.approx(1, rel=1e-5),
        }

"""`bale.torch.load_state_dict`: one line from any checkpoint to a model."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import bale
from bale.errors import UsageError
from bale.torch import load_state_dict


def tied_model() -> torch.nn.Module:
    model = torch.nn.Sequential(torch.nn.Embedding(40, 8), torch.nn.Linear(8, 40, bias=False))
    model[1].weight = model[0].weight
    return model.to(torch.bfloat16)


def test_a_model_loads_from_torch_file_and_bale_with_its_weights_tied(tmp_path: Path) -> None:
    model = tied_model()
    source = tmp_path / "model.pt"
    torch.save(model.state_dict(), source)
    bale.compress(source)
    for path in (source, tmp_path / "model.pt.bale"):
        loaded = load_state_dict(path)
        fresh = tied_model()
        fresh.load_state_dict(loaded)
        assert torch.equal(fresh[0].weight, model[0].weight)
        assert loaded["0.weight"].data_ptr() == loaded["1.weight"].data_ptr()


@pytest.mark.parametrize(
    "dtype",
    [torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float8_e5m2, torch.float64, torch.bool, torch.int16],
)
def test_every_dtype_comes_with_the_same_bits(tmp_path: Path, dtype: torch.dtype) -> None:
    bits = torch.arange(256, dtype=torch.uint8).repeat(8)
    bits = bits % 2 if dtype == torch.bool else bits
    tensors = {
        "a": bits.view(dtype).reshape(2, -1),
        "scalar": bits[:8].view(dtype)[0].clone(),
        "empty": bits[:0].view(dtype),
    }
    source = tmp_path / "all.safetensors"
    save_file(tensors, source)
    bale.compress(source)
    for path in (source, tmp_path / "all.safetensors.bale"):
        loaded = load_state_dict(path)
        assert loaded.keys() == tensors.keys()
        for name, tensor in tensors.items():
            assert loaded[name].dtype == dtype
            assert loaded[name].shape == tensor.shape
            assert loaded[name].reshape(-1).view(torch.uint8).equal(tensor.reshape(-1).view(torch.uint8))


def test_views_come_with_their_own_shape_and_values(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    tensors = {"whole": whole, "transposed": whole.t(), "column": whole[:, 2], "expanded": whole[0].expand(3, 6)}
    source = tmp_path / "views.pt"
    torch.save(tensors, source)
    bale.compress(source)
    for path in (source, tmp_path / "views.pt.bale"):
        for name, tensor in load_state_dict(path).items():
            assert torch.equal(tensor, tensors[name]), name


def test_a_prefix_picks_one_part_of_a_training_checkpoint(tmp_path: Path) -> None:
    model = torch.nn.Linear(3, 2)
    source = tmp_path / "training.pt"
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, source)
    loaded = load_state_dict(source, prefix="state_dict.")
    torch.nn.Linear(3, 2).load_state_dict(loaded)
    assert torch.equal(loaded["weight"], model.weight)
    with pytest.raises(UsageError, match="begins with 'nothing'"):
        load_state_dict(source, prefix="nothing")


def test_a_tensor_that_is_loaded_can_be_written_to(tmp_path: Path) -> None:
    source = tmp_path / "a.safetensors"
    save_file({"a": torch.zeros(5)}, source)
    bale.compress(source)
    loaded = load_state_dict(tmp_path / "a.safetensors.bale")["a"]
    loaded += 1
    assert loaded.sum() == 5


def test_memory_holds_each_tensor_once(tmp_path: Path) -> None:
    source, size = tmp_path / "model.safetensors", 96 << 20
    save_file({"w": torch.zeros(size >> 12, 1 << 10)}, source)
    bale.compress(source)
    for path in (source, tmp_path / "model.safetensors.bale"):
        load_state_dict(path)  # imports what is needed
        tracemalloc.start()
        loaded = load_state_dict(path)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert size <= peak < 1.5 * size  # blocks are under way beside it
        with torch.device("meta"):
            model = torch.nn.ParameterDict({"w": torch.nn.Parameter(torch.empty(size >> 12, 1 << 10))})
        model.load_state_dict(loaded, assign=True)
        assert model["w"].data_ptr() == loaded["w"].data_ptr()


def test_a_small_part_of_a_unit_does_not_keep_all_of_it(tmp_path: Path) -> None:
    whole = torch.arange(24.0).reshape(4, 6)
    torch.save({"whole": whole, "column": whole[:, 0], "row": whole[1]}, tmp_path / "m.pt")
    loaded = load_state_dict(tmp_path / "m.pt")
    assert {name: tensor.untyped_storage().nbytes() for name, tensor in loaded.items()} == {
        "whole": 96,
        "column": 16,
        "row": 24,
    }

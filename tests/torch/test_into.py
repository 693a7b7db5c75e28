"""`bale.torch.load_into`: straight into a model, in memory or on the meta device."""

from __future__ import annotations

import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

import bale
from bale.errors import ArchiveError, UsageError
from bale.torch import load_into


class Tied(nn.Module):
    def __init__(self, dtype: torch.dtype = torch.bfloat16) -> None:
        super().__init__()
        self.embedding = nn.Embedding(64, 32, dtype=dtype)
        self.norm = nn.BatchNorm1d(32, dtype=dtype)
        self.head = nn.Linear(32, 64, bias=False, dtype=dtype)
        self.head.weight = self.embedding.weight


def saved(folder: Path, pipeline: str = "lossless") -> tuple[Tied, Path]:
    torch.manual_seed(1)
    model = Tied()
    model.norm.running_mean.copy_(torch.randn(32))
    source = folder / "model.pt"
    torch.save(model.state_dict(), source)
    bale.compress(source, pipeline=pipeline, out=folder / "model.bale")
    return model, folder / "model.bale"


def assert_equal(one: nn.Module, other: nn.Module) -> None:
    first, second = one.state_dict(), other.state_dict()
    assert first.keys() == second.keys()
    for name in first:
        assert first[name].dtype == second[name].dtype, name
        assert torch.equal(first[name], second[name]), name


def test_a_model_on_the_meta_device_is_made_with_its_weights_tied(tmp_path: Path) -> None:
    model, archive = saved(tmp_path)
    for path in (archive, tmp_path / "model.pt"):
        with torch.device("meta"):
            fresh = Tied()
        result = load_into(fresh, path)
        assert (result.missing, result.unexpected) == ((), ())
        assert_equal(fresh, model)
        assert fresh.head.weight is fresh.embedding.weight
        assert isinstance(fresh.head.weight, nn.Parameter)
        assert fresh.head.weight.requires_grad


def test_a_model_in_memory_is_filled_in_place(tmp_path: Path) -> None:
    model, archive = saved(tmp_path)
    fresh = Tied()
    before = {name: each.data_ptr() for name, each in fresh.state_dict().items()}
    load_into(fresh, archive)
    assert_equal(fresh, model)
    assert before == {name: each.data_ptr() for name, each in fresh.state_dict().items()}


def test_its_dtype_stays_unless_another_is_asked_for(tmp_path: Path) -> None:
    model, archive = saved(tmp_path)
    fresh = Tied(torch.float32)
    load_into(fresh, archive)
    assert fresh.head.weight.dtype == torch.float32
    assert torch.equal(fresh.head.weight, model.head.weight.float())
    load_into(fresh, archive, dtype=torch.float16)
    assert fresh.head.weight.dtype == torch.float16
    assert fresh.head.weight is fresh.embedding.weight
    assert fresh.norm.num_batches_tracked.dtype == torch.int64
    with torch.device("meta"):
        made = Tied()
    load_into(made, archive, dtype=torch.float32)
    assert made.norm.running_mean.dtype == torch.float32


def test_what_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    _, archive = saved(tmp_path)
    wider = nn.Module()
    wider.embedding = nn.Embedding(64, 33)
    before = wider.embedding.weight.clone()
    with pytest.raises(UsageError, match=r"has unexpected 7 tensors of the model|unexpected"):
        load_into(wider, archive)
    with pytest.raises(UsageError, match=r"is \[64, 32\], and \[64, 33\] in the model"):
        load_into(wider, archive, strict=False)
    assert torch.equal(wider.embedding.weight, before)


def test_names_that_differ_are_given(tmp_path: Path) -> None:
    model, _ = saved(tmp_path)
    state = {name: each for name, each in model.state_dict().items() if name != "head.weight"}
    state["words"] = state.pop("embedding.weight")
    torch.save(state, tmp_path / "other.pt")
    fresh = Tied()
    load_into(fresh, tmp_path / "other.pt", names={"words": "embedding.weight"})
    assert_equal(fresh, model)


def test_names_that_are_missing_are_an_error_or_told(tmp_path: Path) -> None:
    _, archive = saved(tmp_path)
    larger = nn.Sequential(Tied(), nn.Linear(3, 3))
    with pytest.raises(UsageError, match="lacks"):
        load_into(larger, archive)
    save_file({"0.embedding.weight": torch.ones(64, 32), "more": torch.ones(2)}, tmp_path / "part.safetensors")
    result = load_into(larger, tmp_path / "part.safetensors", strict=False)
    assert "1.weight" in result.missing
    assert "0.head.weight" not in result.missing  # tied to what was found
    assert result.unexpected == ("more",)
    assert larger[0].head.weight.eq(1).all()


def test_a_prefix_picks_a_part_of_a_training_checkpoint(tmp_path: Path) -> None:
    model = nn.Linear(3, 2)
    torch.save({"epoch": 3, "state_dict": model.state_dict()}, tmp_path / "training.pt")
    fresh = nn.Linear(3, 2)
    load_into(fresh, tmp_path / "training.pt", prefix="state_dict.")
    assert torch.equal(fresh.weight, model.weight)


def test_weights_that_only_the_model_ties_must_be_equal(tmp_path: Path) -> None:
    tensors = {name: each.clone() for name, each in Tied().state_dict().items()}
    save_file(tensors, tmp_path / "equal.safetensors")
    load_into(Tied(), tmp_path / "equal.safetensors")
    tensors["head.weight"] = tensors["head.weight"] + 1
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(UsageError, match="one tensor in the model"):
        load_into(Tied(), tmp_path / "other.safetensors")


def test_buffers_that_are_not_saved_cannot_be_on_the_meta_device(tmp_path: Path) -> None:
    class Rotary(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("table", torch.ones(4), persistent=False)
            self.weight = nn.Parameter(torch.ones(4))

    save_file({"weight": torch.zeros(4)}, tmp_path / "m.safetensors")
    with torch.device("meta"):
        model = Rotary()
    with pytest.raises(UsageError, match="table"):
        load_into(model, tmp_path / "m.safetensors")
    assert model.weight.is_meta
    load_into(Rotary(), tmp_path / "m.safetensors")


def test_transposed_and_scalar_tensors_come_with_their_values(tmp_path: Path) -> None:
    tensors = {"a": torch.arange(12.0).reshape(3, 4).t(), "b": torch.tensor(3.5), "c": torch.empty(0, 3)}
    torch.save(tensors, tmp_path / "views.pt")
    bale.compress(tmp_path / "views.pt")
    model = nn.Module()
    for name, each in tensors.items():
        model.register_buffer(name, torch.zeros(each.shape))
    load_into(model, tmp_path / "views.pt.bale")
    for name, each in tensors.items():
        assert torch.equal(model.get_buffer(name), each)


def test_a_damaged_archive_is_an_error(tmp_path: Path) -> None:
    _, archive = saved(tmp_path)
    data = bytearray(archive.read_bytes())
    data[-300] ^= 1
    archive.write_bytes(bytes(data))
    with pytest.raises(ArchiveError):
        load_into(Tied(), archive)


def test_ties_are_checked_before_anything_is_changed(tmp_path: Path) -> None:
    tensors = {name: each.clone() for name, each in Tied().state_dict().items()}
    tensors["head.weight"] = tensors["head.weight"] + 1
    save_file(tensors, tmp_path / "other.safetensors")
    bale.compress(tmp_path / "other.safetensors", out=tmp_path / "other.bale")
    for path in (tmp_path / "other.safetensors", tmp_path / "other.bale"):
        model = Tied()
        before = {name: each.clone() for name, each in model.state_dict().items()}
        with pytest.raises(UsageError, match="one tensor in the model"):
            load_into(model, path, keep=None)
        assert all(torch.equal(each, before[name]) for name, each in model.state_dict().items())
        assert isinstance(model.head, nn.Linear)


def test_another_dtype_takes_one_tensor_at_a_time(tmp_path: Path) -> None:
    """Each old tensor is gone before the next one is made."""
    model = nn.Sequential(*(nn.Linear(64, 64, bias=False) for _ in range(4)))
    torch.save(model.state_dict(), tmp_path / "m.pt")
    alive: list[int] = []
    watched = [weakref.ref(each.weight, lambda _: alive.append(-1)) for each in model]
    make = torch.empty

    def counted(*arguments: object, **options: object) -> torch.Tensor:
        alive.append(sum(each() is not None for each in watched))
        return make(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "empty", counted)
        load_into(model, tmp_path / "m.pt", dtype=torch.bfloat16)
    assert [each for each in alive if each >= 0] == [4, 3, 2, 1]


def test_integers_that_are_stored_for_a_parameter_on_the_meta_device(tmp_path: Path) -> None:
    save_file({"weight": torch.ones(3, 4, dtype=torch.int8)}, tmp_path / "m.safetensors")
    with torch.device("meta"):
        model = nn.Linear(4, 3, bias=False)
    load_into(model, tmp_path / "m.safetensors")
    assert model.weight.dtype == torch.int8
    assert not model.weight.requires_grad


def test_what_has_no_shape_yet_is_refused(tmp_path: Path) -> None:
    torch.save(nn.Linear(4, 3).state_dict(), tmp_path / "m.pt")
    with pytest.raises(UsageError, match="no shape yet"):
        load_into(nn.LazyLinear(3), tmp_path / "m.pt")


def test_what_a_module_saves_beside_its_tensors_is_given_back(tmp_path: Path) -> None:
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight, self.count = nn.Parameter(torch.ones(2)), 3

        def get_extra_state(self) -> torch.Tensor:
            return torch.tensor(self.count)

        def set_extra_state(self, state: torch.Tensor) -> None:
            self.count = int(state)

    model = nn.Sequential(Counting())
    torch.save(model.state_dict(), tmp_path / "m.pt")
    model[0].count = 0
    load_into(model, tmp_path / "m.pt")
    assert model[0].count == 3

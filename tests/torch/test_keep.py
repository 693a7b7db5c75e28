"""Linear modules whose weights stay compressed: what they compute, and which they are."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import bale
from bale.errors import UsageError
from bale.torch import load_into
from bale.torch.modules.integers import Int4Linear, Int8Linear
from bale.torch.modules.kept import KeptLinear
from bale.torch.modules.low_rank import LowRankLinear


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.up = nn.Linear(128, 256)
        self.down = nn.Linear(256, 128, bias=False)
        self.norm = nn.LayerNorm(128)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.down(torch.relu(self.up(x))))


def loaded(folder: Path, pipeline: str, dtype: torch.dtype = torch.float32) -> tuple[Block, Block, Block]:
    """The decoded model, the one that stays compressed, and the decoded one in BF16."""
    torch.manual_seed(2)
    source = folder / "block.pt"
    torch.save(Block().to(dtype).state_dict(), source)
    archive = folder / "block.bale"
    bale.compress(source, pipeline=pipeline, out=archive)
    models = []
    for keep in (None, "compressed", None):
        with torch.device("meta"):
            model = Block()
        result = load_into(model, archive, keep=keep)
        models.append(model)
        if keep:
            assert result.kept == ("up.weight", "down.weight")
            assert not result.dense
    return models[0], models[1], models[2].bfloat16()


PIPELINES = {
    "int8": Int8Linear,
    "int:symmetric=true": Int8Linear,
    "int:bits=4,group=32": Int4Linear,
    "int:bits=4,group=64": Int4Linear,
    "int:bits=4,group=128,symmetric=true": Int4Linear,
    "int:bits=4,group=64,zero=float": Int4Linear,
    "int:bits=4,group=64,clip=mse,scale=log": Int4Linear,
    "svd:ratio=0.5": LowRankLinear,
    "svd:rank=24+int8": LowRankLinear,
}


@pytest.mark.parametrize("pipeline", PIPELINES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_outputs_are_as_near_as_those_of_dense_bf16(tmp_path: Path, pipeline: str, dtype: torch.dtype) -> None:
    dense, kept, half = loaded(tmp_path, pipeline, dtype)
    assert isinstance(kept.up, PIPELINES[pipeline])
    assert "weight" not in dict(kept.up.named_parameters())
    x = torch.randn(2, 5, 128) + 0.3
    with torch.no_grad():
        right = dense.float()(x)
        error, least = ((each.float() - right).norm() for each in (kept(x.to(dtype)), half(x.bfloat16())))
    # Of a model in BF16 the dense weights are those that the right outputs are made with, rounded once already.
    assert error <= (1.2 if dtype == torch.float32 else 2) * least


@pytest.mark.parametrize("pipeline", ["int8", "int:symmetric=true", "int:bits=4,group=128,symmetric=true"])
def test_large_sums_that_cancel_are_not_rounded_before(tmp_path: Path, pipeline: str) -> None:
    """One large value in each row, so that zero is far from the middle of the range, and inputs with a large mean."""
    torch.manual_seed(4)
    source = nn.Linear(512, 64, bias=False)
    with torch.no_grad():
        source.weight.mul_(0.5).sub_(source.weight.mean(1, keepdim=True))
        source.weight[::2, 7] = 1
        source.weight[1::2, 9] = -1
    torch.save({f"0.{name}": each for name, each in source.state_dict().items()}, tmp_path / "m.pt")
    bale.compress(tmp_path / "m.pt", pipeline=pipeline, out=tmp_path / "m.bale")
    dense, kept = (nn.Sequential(nn.Linear(512, 64, bias=False)) for _ in range(2))
    load_into(dense, tmp_path / "m.bale")
    load_into(kept, tmp_path / "m.bale", keep="compressed")
    x = (torch.randn(40, 512) + torch.linspace(-5, 5, 40)[:, None]).bfloat16()
    x[:, 7:10] = 0
    with torch.no_grad():
        right, rounded = dense(x.float()), dense.bfloat16()(x).float()
        assert (kept(x).float() - right).norm() <= 1.3 * (rounded - right).norm()


@pytest.mark.parametrize("pipeline", ["int8", "int:bits=4,group=64"])
def test_memory_is_that_of_codes_and_scales(tmp_path: Path, pipeline: str) -> None:
    _, kept, _ = loaded(tmp_path, pipeline)
    for module in (kept.up, kept.down):
        size = sum(each.nbytes for name, each in module.named_buffers())
        weights = module.in_features * module.out_features
        scales = module.out_features * (2 + 16 if pipeline == "int8" else 4 * module.in_features // 64)
        assert size <= 1.01 * (weights * (1 if pipeline == "int8" else 0.5) + scales)


def test_others_are_dense_and_the_result_says_why(tmp_path: Path) -> None:
    model = nn.ModuleDict(
        {
            "odd": nn.Linear(33, 16),
            "rows": nn.Linear(512, 17),
            "trellis": nn.Linear(64, 64),
            "int8": nn.Linear(64, 64),
            "one": nn.Linear(64, 64),
            "other": nn.Linear(64, 64),
        }
    )
    model["other"].weight = model["one"].weight
    torch.save(model.state_dict(), tmp_path / "m.pt")
    rules = ("trellis.*=trellis:bits=4", "int8.*=int8", "odd.*=int8")
    bale.compress(tmp_path / "m.pt", pipeline="int:bits=4,group=32", rules=rules, out=tmp_path / "m.bale")
    result = load_into(model, tmp_path / "m.bale", keep="compressed")
    assert result.kept == ("int8.weight",)
    assert isinstance(model["int8"], Int8Linear)
    assert result.dense["odd.weight"] == "33 columns, not a multiple of 16"
    assert result.dense["rows.weight"] == "17 rows, not a multiple of 16"
    assert result.dense["trellis.weight"] == "trellis:bits=4 is not kept"
    assert "shared" in result.dense["one.weight"]
    assert model["other"].weight is model["one"].weight


def test_a_checkpoint_has_nothing_to_keep(tmp_path: Path) -> None:
    torch.save(Block().state_dict(), tmp_path / "m.pt")
    with pytest.raises(UsageError, match="no archive"):
        load_into(Block(), tmp_path / "m.pt", keep="compressed")


def test_nothing_of_a_group_of_rows_depends_on_the_others(tmp_path: Path) -> None:
    """Weights above the number of codes that are packed at once."""
    source = nn.Linear(2048, 4096, bias=False)
    torch.save(source.state_dict(), tmp_path / "m.pt")
    bale.compress(tmp_path / "m.pt", pipeline="int:bits=4,group=128", out=tmp_path / "m.bale")
    dense, kept = nn.Sequential(nn.Linear(2048, 4096, bias=False)), nn.Sequential(nn.Linear(2048, 4096, bias=False))
    load_into(dense[0], tmp_path / "m.bale")
    wrapped = {f"0.{name}": each for name, each in source.state_dict().items()}
    torch.save(wrapped, tmp_path / "n.pt")
    bale.compress(tmp_path / "n.pt", pipeline="int:bits=4,group=128", out=tmp_path / "n.bale")
    load_into(kept, tmp_path / "n.bale", keep="compressed")
    assert isinstance(kept[0], KeptLinear)
    x = torch.randn(1, 2048)
    with torch.no_grad():
        assert (kept(x) - dense(x)).norm() <= 0.02 * dense(x).norm()


def test_modules_stay_in_bf16_whatever_the_model_becomes(tmp_path: Path) -> None:
    for number, pipeline in enumerate(("int8", "int:bits=4,group=64", "svd:ratio=0.5")):
        (folder := tmp_path / str(number)).mkdir()
        _, kept, _ = loaded(folder, pipeline)
        x = torch.randn(3, 128)
        with torch.no_grad():
            first = kept(x)
            for other in (kept.half, kept.double, kept.float):
                again = other()(x.to(next(kept.parameters()).dtype)).float()
                assert (again - first).norm() <= 0.02 * first.norm(), (pipeline, other)


def test_a_model_that_asks_for_the_weight_finds_its_shape_and_dtype(tmp_path: Path) -> None:
    torch.manual_seed(5)
    source = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).eval()
    torch.save(source.state_dict(), tmp_path / "m.pt")
    bale.compress(tmp_path / "m.pt", pipeline="int8", out=tmp_path / "m.bale")
    model = nn.TransformerEncoderLayer(64, 4, 128, batch_first=True).eval()
    assert load_into(model, tmp_path / "m.bale", keep="compressed").kept == ("linear1.weight", "linear2.weight")
    assert model.linear1.weight.shape == (128, 64)
    x = torch.randn(2, 5, 64)
    with torch.no_grad():  # which has a way of its own where no gradients are wanted
        assert (model(x) - source(x)).norm() <= 0.02 * source(x).norm()


def test_modules_with_hooks_are_dense_and_so_is_a_model_that_is_one(tmp_path: Path) -> None:
    model = Block()
    torch.save(model.state_dict(), tmp_path / "m.pt")
    bale.compress(tmp_path / "m.pt", pipeline="int8", out=tmp_path / "m.bale")
    calls: list[int] = []
    model.up.register_forward_hook(lambda *_: calls.append(1))
    result = load_into(model, tmp_path / "m.bale", keep="compressed")
    assert result.dense == {"up.weight": "it has hooks"}
    with torch.no_grad():
        model(torch.randn(1, 128))
    assert calls == [1]
    torch.save({"weight": torch.randn(128, 256)}, tmp_path / "one.pt")
    bale.compress(tmp_path / "one.pt", pipeline="int8", out=tmp_path / "one.bale")
    alone = nn.Linear(256, 128, bias=False)
    assert load_into(alone, tmp_path / "one.bale", keep="compressed").dense == {"weight": "it is the model itself"}

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
import torch

import bale
from tests.io.reading import bits, members, named_values, opened, rezip

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(64, 64)
        self.register_buffer("scale", torch.ones(3))
        self.loose = torch.arange(5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) * self.scale.sum() + self.loose.sum()


def saved(path: Path, model: torch.nn.Module) -> Path:
    torch.jit.script(model).save(str(path))  # type: ignore[no-untyped-call]
    return path


def test_tensors_have_the_names_of_the_module(tmp_path: Path) -> None:
    model = Model()
    checkpoint = opened(saved(tmp_path / "m.pt", model))
    assert (checkpoint.kind, checkpoint.notes) == ("torchscript", ())
    values = named_values(checkpoint)
    expected = {**model.state_dict(), "loose": model.loose}
    assert values.keys() == expected.keys()
    assert all(values[name].tobytes() == bits(expected[name]) for name in expected)


def test_constants_of_traces(tmp_path: Path) -> None:
    constant = torch.arange(7.0)
    trace = torch.jit.trace(lambda x: x + constant, torch.zeros(7))  # type: ignore[no-untyped-call]
    trace.save(str(tmp_path / "m.pt"))
    values = named_values(opened(tmp_path / "m.pt"))
    assert [(name, value.tolist()) for name, value in values.items()] == [("constants.0", constant.tolist())]


def test_an_attribute_that_is_called_like_a_constant(tmp_path: Path) -> None:
    content = members(saved(tmp_path / "m.pt", torch.nn.Linear(2, 2)))
    pickled, payload = content["m/data.pkl"], content["m/data/0"]
    content |= {"m/constants.pkl": pickled, "m/constants/0": payload, "m/constants/1": content["m/data/1"]}
    names = set(named_values(opened(rezip(tmp_path / "two.pt", content))))
    assert names == {"weight", "bias", "constants.weight", "constants.bias"}


def test_lossy_modules_load_and_run(tmp_path: Path) -> None:
    model = Model()
    bale.compress(saved(tmp_path / "m.pt", model), tmp_path / "m.bale", pipeline="int8")
    bale.decompress(tmp_path / "m.bale", tmp_path / "back.pt")
    with zipfile.ZipFile(tmp_path / "back.pt") as file:
        assert file.testzip() is None
    back, x = torch.jit.load(str(tmp_path / "back.pt")), torch.randn(2, 64)  # type: ignore[no-untyped-call]
    assert 0 < (back.inner.weight - model.inner.weight).abs().max() < 0.002
    assert torch.allclose(back(x), model(x), atol=0.05)


def test_compressed_storages_are_not_followed(tmp_path: Path) -> None:
    content = members(saved(tmp_path / "m.pt", Model()))
    path = rezip(tmp_path / "z.pt", content, lambda name: zipfile.ZIP_DEFLATED if "/data/" in name else 0)
    assert opened(path).kind == "opaque"

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch

import bale
from bale.errors import SourceError
from tests.io.reading import bits, members, named_values, opened, rezip
from tests.io.sources.samples import SAMPLES

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")
CONFIG = "m/data/weights/model_weights_config.json"


class Model(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = torch.nn.Linear(64, 64)
        self.tied = self.inner.weight
        self.low = torch.nn.Parameter(torch.randn(8, 6).bfloat16().t())
        self.register_buffer("count", torch.arange(3))
        self.loose = torch.arange(5.0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.inner(x) @ self.tied + self.low.float().sum() + self.count.sum() + self.loose.sum()


@pytest.fixture
def model() -> Model:
    return Model()


@pytest.fixture
def saved(tmp_path: Path, model: Model) -> Path:
    torch.export.save(torch.export.export(model, (torch.randn(2, 64),)), tmp_path / "m.pt2")
    return tmp_path / "m.pt2"


def test_tensors_have_the_names_of_the_module(saved: Path, model: Model) -> None:
    checkpoint = opened(saved)
    values = named_values(checkpoint)
    assert checkpoint.kind == "torch-export"
    for name, value in model.state_dict().items():
        assert values[name].shape == tuple(value.shape)
        assert values[name].tobytes() == bits(value), name
    assert any(value.tolist() == [0, 1, 2, 3, 4] for name, value in values.items() if "loose" in name)


def test_lossy_programs_load_and_run(saved: Path, model: Model) -> None:
    bale.compress(saved, saved.with_name("m.bale"), pipeline="int8")
    bale.decompress(saved.with_name("m.bale"), saved.with_name("back.pt2"))
    with zipfile.ZipFile(saved.with_name("back.pt2")) as file:
        assert file.testzip() is None
    back, x = torch.export.load(saved.with_name("back.pt2")), torch.randn(2, 64)
    assert 0 < (back.state_dict["inner.weight"] - model.inner.weight).abs().max() < 0.002
    assert torch.allclose(back.module()(x), model(x), atol=0.1)


def changed(path: Path, change: dict[str, Any]) -> Path:
    """The sample with other words on its first tensor."""
    (path / "m.pt2").write_bytes(SAMPLES["torch-export"].make())
    content = members(path / "m.pt2")
    config = json.loads(content[CONFIG])
    entry = config["config"]["weight"]
    for key, value in change.items():
        (entry if key in entry else entry["tensor_meta"])[key] = value
    return rezip(path / "m.pt2", content | {CONFIG: json.dumps(config).encode()})


@pytest.mark.parametrize(
    "change",
    [
        {"use_pickle": True},
        {"tensor_meta": None},
        {"path_name": "weight_9"},
        {"dtype": 99},
        {"dtype": "F32"},
        {"layout": 1},
        {"sizes": [{"as_expr": "s0"}]},
        {"sizes": [{"as_int": 1}]},
        {"sizes": [{"as_int": -1}, {"as_int": 2}]},
        {"sizes": [{"as_int": 1 << 61}, {"as_int": 2}], "strides": [{"as_int": 0}, {"as_int": 0}]},
    ],
)
def test_a_tensor_that_is_not_followed_has_no_name(tmp_path: Path, change: dict[str, Any]) -> None:
    assert set(named_values(opened(changed(tmp_path, change)))) == {"bias"}


def test_a_tensor_beyond_its_member(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="'weight' reaches to byte"):
        opened(changed(tmp_path, {"storage_offset": {"as_int": 1}}))


@pytest.mark.parametrize("member", ["model_weights_config.json", "../../byteorder"])
def test_weights_in_what_says_what_they_are(tmp_path: Path, member: str) -> None:
    """Loss would make another description of it."""
    change = {"path_name": member, "dtype": 1, "sizes": [{"as_int": 4}], "strides": [{"as_int": 1}]}
    path = changed(tmp_path, change)
    if member.startswith(".."):
        assert set(named_values(opened(path))) == {"bias"}  # names of members are texts, not paths
    else:
        assert opened(path).kind == "opaque"
        assert "weights in m/data/weights/model_weights_config.json" in opened(path).notes[0].text


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b'{"config": 3}', b"[" * 100_000, b"\xff"])
def test_a_description_that_is_not_followed(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "m.pt2").write_bytes(SAMPLES["torch-export"].make())
    path = rezip(tmp_path / "m.pt2", members(tmp_path / "m.pt2") | {CONFIG: text})
    checkpoint = opened(path)
    assert checkpoint.kind == "opaque"
    assert "description of weights" in checkpoint.notes[0].text


@pytest.mark.parametrize(
    ("limit", "value", "words"),
    [
        ("bale.io.sources.torch.export._CONFIG_LIMIT", 100, "descriptions of weights of"),
        ("bale.io.sources.torch.export._VALUES", 10, "more values than any has"),
        ("bale.io.sources.storages.TEXT_LIMIT", 2000, "very long ones"),
    ],
)
def test_descriptions_beyond_all_limits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int, words: str
) -> None:
    """The name of a model is that of all its tensors, where there are several models."""
    (tmp_path / "m.pt2").write_bytes(SAMPLES["torch-export"].make())
    content = members(tmp_path / "m.pt2")
    config = content.pop(CONFIG)
    content |= {CONFIG.replace("model_", "n" * 1200 + "_"): config, CONFIG: b'{"config":{}}'}
    path = rezip(tmp_path / "m.pt2", content)
    assert len(opened(path).units) == 2
    monkeypatch.setattr(limit, value)
    assert words in opened(path).notes[0].text

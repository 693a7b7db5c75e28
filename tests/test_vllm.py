"""The plug-in for vLLM, with a stand-in of the interface that vLLM documents."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

import bale
from bale.errors import SourceError

LOADERS: dict[str, type] = {}


class BaseModelLoader(ABC):
    def __init__(self, load_config: object) -> None:
        self.load_config = load_config

    @abstractmethod
    def download_model(self, model_config: object) -> None: ...

    @abstractmethod
    def load_weights(self, model: object, model_config: object) -> None: ...


def register_model_loader(load_format: str) -> Callable[[type], type]:
    def add(loader: type) -> type:
        assert issubclass(loader, BaseModelLoader)
        LOADERS[load_format] = loader
        return loader

    return add


class Model(torch.nn.Module):
    """A model as those of vLLM: it takes names and tensors, and says what it has taken."""

    def __init__(self) -> None:
        super().__init__()
        self.taken: dict[str, torch.Tensor] = {}

    def load_weights(self, weights: Iterable[tuple[str, torch.Tensor]]) -> set[str]:
        self.taken = dict(weights)
        return set(self.taken)


@pytest.fixture
def loader(monkeypatch: pytest.MonkeyPatch) -> BaseModelLoader:
    interface = ModuleType("vllm.model_executor.model_loader")
    interface.BaseModelLoader, interface.register_model_loader = BaseModelLoader, register_model_loader
    for name in ("vllm", "vllm.model_executor"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    (plugin,) = entry_points(group="vllm.general_plugins", name="bale")
    register = plugin.load()
    register()
    register()  # vLLM may call it several times
    return LOADERS["bale"](None)


def test_all_tensors_of_a_folder_are_handed_to_the_model(tmp_path: Path, loader: BaseModelLoader) -> None:
    tensors = {f"layers.{number}.weight": torch.randn(64, 32).bfloat16() for number in range(3)}
    (tmp_path / "model").mkdir()
    save_file(tensors, tmp_path / "model/model.safetensors")
    bale.compress(tmp_path / "model", out=tmp_path / "small")
    model = Model()
    config = SimpleNamespace(model=str(tmp_path / "small"))
    loader.download_model(config)
    loader.load_weights(model, config)
    assert model.taken.keys() == tensors.keys()
    assert all(torch.equal(model.taken[name], each) for name, each in tensors.items())


def test_a_folder_without_archives_is_an_error(tmp_path: Path, loader: BaseModelLoader) -> None:
    with pytest.raises(SourceError, match="no archive"):
        loader.load_weights(Model(), SimpleNamespace(model=str(tmp_path)))

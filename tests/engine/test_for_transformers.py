"""`compress --for transformers`: the config names bale, and comes back as it was."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import bale
from bale.errors import ArchiveError, UsageError
from tests.making import sha256, weights, write

CONFIGS = ['{"a": 1}', '{\n  "a": {"b": 2}\n}\n', '  {"quantization": null}']


def model(folder: Path, config: str = CONFIGS[0]) -> Path:
    source = folder / "model"
    source.mkdir()
    write(source / "model.safetensors", {"a.weight": weights(64, 64)})
    (source / "config.json").write_text(config)
    return source


@pytest.mark.parametrize("config", CONFIGS)
def test_the_config_names_bale_and_comes_back_as_it_was(tmp_path: Path, config: str) -> None:
    source, small = model(tmp_path, config), tmp_path / "small"
    report = bale.compress(source, out=small, for_transformers=True)
    stored = json.loads((small / "config.json").read_text())
    assert stored.pop("quantization_config") == {"quant_method": "bale"}
    assert stored == json.loads(config)
    assert report.totals["stored_bytes"] == sum(path.stat().st_size for path in small.iterdir())
    bale.verify(small)
    bale.verify(small, against=source)
    bale.decompress(small, tmp_path / "back")
    assert {path.name: sha256(path) for path in source.iterdir()} == {
        path.name: sha256(path) for path in (tmp_path / "back").iterdir()
    }


def test_the_same_again_is_skipped_and_without_it_is_another(tmp_path: Path) -> None:
    source, small = model(tmp_path), tmp_path / "small"
    bale.compress(source, out=small, for_transformers=True)
    assert bale.compress(source, out=small, for_transformers=True, skip_existing=True).skipped
    bale.compress(source, out=small, force=True)
    assert (small / "config.json").read_text() == CONFIGS[0]


def test_a_changed_config_is_damage(tmp_path: Path) -> None:
    small = tmp_path / "small"
    bale.compress(model(tmp_path), out=small, for_transformers=True)
    config = small / "config.json"
    config.write_text(config.read_text().replace('"a": 1', '"a": 2'))
    with pytest.raises(ArchiveError, match="not the file that was stored"):
        bale.verify(small)
    config.write_text(CONFIGS[0])
    with pytest.raises(ArchiveError):
        bale.decompress(small, tmp_path / "back")


@pytest.mark.parametrize(
    ("config", "words"),
    [("[1]", "no config"), ("{}", "no config"), ("{", "no config"), ('{"quantization_config": {}}', "are quantized")],
)
def test_a_config_that_cannot_be_marked_is_refused_before_any_work(tmp_path: Path, config: str, words: str) -> None:
    source = model(tmp_path, config)
    with pytest.raises(UsageError, match=words):
        bale.compress(source, out=tmp_path / "small", for_transformers=True)
    assert not (tmp_path / "small").exists()


def test_only_a_model_s_folder_has_a_config(tmp_path: Path) -> None:
    source = model(tmp_path)
    with pytest.raises(UsageError, match="compress the model's folder"):
        bale.compress(source / "model.safetensors", out=tmp_path / "m.bale", for_transformers=True)

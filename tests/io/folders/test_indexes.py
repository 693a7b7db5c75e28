"""Indexes of shards: which files are some, and which paths they may name. Long and odd names are in test_folder.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bale.errors import SourceError
from bale.io.folders.indexes import ShardIndex, is_index_name, is_index_of_weights, read_index


def test_shards_lie_beside_their_index(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    index = {"metadata": {"total_size": 96}, "weight_map": {"w": "s1", "v": "t/s2", "u": "s1"}}
    (tmp_path / "sub" / "m.index.json").write_text(json.dumps(index))
    found = read_index(tmp_path, "sub/m.index.json")
    assert found == ShardIndex("sub/m.index.json", {"w": "sub/s1", "v": "sub/t/s2", "u": "sub/s1"}, 96)
    assert found.files == {"sub/s1", "sub/t/s2"}


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "5",
        "{}",
        '{"weight_map": {}}',
        '{"weight_map": []}',
        '{"weight_map": 5}',
        '{"weight_map": {"w": 5}}',
        '{"weight_map": {"w": null}}',
    ],
)
def test_other_json_is_no_index(tmp_path: Path, text: str) -> None:
    (tmp_path / "m.bin.index.json").write_text(text)
    assert read_index(tmp_path, "m.bin.index.json") is None


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\xff", "<html>", "version https://git-lfs"])
def test_what_is_no_json_is_a_problem_only_under_the_name_of_an_index_of_weights(tmp_path: Path, text: str) -> None:
    for name in ("docs.index.json", "m.safetensors.index.json"):
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    assert read_index(tmp_path, "docs.index.json") is None
    problem = problem_of(tmp_path, "m.safetensors.index.json")
    assert "m.safetensors.index.json cannot be read" in problem.message
    assert "--exclude m.safetensors.index.json" in problem.hint
    assert ("git lfs pull" in problem.hint) == ("Git LFS pointer" in problem.message) == text.startswith("version")


def test_paths_that_are_not_plain(tmp_path: Path) -> None:
    (tmp_path / "[m].index.json").write_text('{"weight_map": {"v": "a.bin", "w": "../evil"}}')
    problem = problem_of(tmp_path, "[m].index.json")
    assert "no plain path" in problem.message
    assert "--exclude '[[]m].index.json'" in problem.hint  # as a pattern, and for a shell
    found = read_index(tmp_path, "[m].index.json")
    assert found is not None
    assert found.shards == {"v": "a.bin"}


def problem_of(folder: Path, name: str) -> SourceError:
    found = read_index(folder, name)
    assert found is not None
    assert found.problem is not None
    return found.problem


def test_files_that_an_index_may_be_of() -> None:
    found = ShardIndex("a/model.bin.index.json", {"x": "a/other"})
    for name in ("a/model.bin", "a/Model-00001-of-00002.BIN", "a/model.fp16-00001-of-00002.bin", "a/other"):
        assert found.is_of(name)
    for name in ("model.bin", "a/b/model.bin", "a/training_args.bin", "a/model.safetensors", "other"):
        assert not found.is_of(name)


def test_names() -> None:
    assert is_index_name("a/diffusion_pytorch_model.safetensors.index.fp16.json")
    assert not is_index_name("a/index.json.txt")
    assert is_index_of_weights("flax_model.msgpack.index.json")
    assert not is_index_of_weights("docs.index.json")

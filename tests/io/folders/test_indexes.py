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


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\xff"])
def test_what_is_no_json_is_an_error_only_under_the_name_of_an_index_of_weights(tmp_path: Path, text: str) -> None:
    for name in ("docs.index.json", "m.safetensors.index.json"):
        (tmp_path / name).write_bytes(text.encode("latin-1"))
    assert read_index(tmp_path, "docs.index.json") is None
    with pytest.raises(SourceError, match=r"index .* cannot be read") as raised:
        read_index(tmp_path, "m.safetensors.index.json")
    assert "--exclude m.safetensors.index.json" in raised.value.hint


@pytest.mark.parametrize(
    ("size", "read"),
    [
        ("96", 96),
        ("96.0", 96),
        ("1e3", 1000),
        ("96.5", None),
        ("-1", None),
        ("true", None),
        ('"96"', None),
        ("NaN", None),
        ("Infinity", None),
        ("1e400", None),
        ("1" + 400 * "0", None),
        ("9223372036854775808", None),
    ],
)
def test_a_total_size_is_one_that_files_can_have(tmp_path: Path, size: str, read: int | None) -> None:
    (tmp_path / "m.index.json").write_text(f'{{"metadata": {{"total_size": {size}}}, "weight_map": {{"w": "s"}}}}')
    found = read_index(tmp_path, "m.index.json")
    assert found is not None
    assert found.total_size == read


def test_paths_that_are_not_plain(tmp_path: Path) -> None:
    (tmp_path / "[m].index.json").write_text('{"weight_map": {"w": "../evil"}}')
    with pytest.raises(SourceError, match="no plain path") as raised:
        read_index(tmp_path, "[m].index.json")
    assert "--exclude '[[]m].index.json'" in raised.value.hint  # as a pattern, and for a shell


def test_names() -> None:
    assert is_index_name("a/diffusion_pytorch_model.safetensors.index.fp16.json")
    assert not is_index_name("a/index.json.txt")
    assert is_index_of_weights("flax_model.msgpack.index.json")
    assert not is_index_of_weights("docs.index.json")

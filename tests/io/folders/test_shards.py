"""Indexes and the shards that they name, numbered sets, and whether they fit each other."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

import bale
from bale.errors import SourceError
from bale.io.folders.contents import examine
from bale.io.folders.indexes import ShardIndex
from bale.io.folders.selection import Selection
from bale.io.folders.shards import check_complete
from tests.io.folders.examining import index, kinds, note_of
from tests.io.folders.test_contents import POINTER
from tests.making import weights, write


@pytest.mark.parametrize("suffix", ["bin", "safetensors", "msgpack"])
def test_an_index_without_any_of_its_shards_is_copied(folder: Path, suffix: str) -> None:
    name = f"pytorch_model.{suffix}.index.json"
    index(folder, name, {"a": f"other-00001-of-00002.{suffix}", "b": f"other-00002-of-00002.{suffix}"})
    assert note_of(folder, "index-unused") == f"{name} is copied, though none of its 2 shards is here"
    report = bale.compress(folder)
    assert "index-unused" in report.to_json()["note_kinds"]
    assert report.to_json()["copied"]["largest"] == name
    bale.verify(f"{folder}.bale", folder)


def test_an_index_that_is_none_is_copied(folder: Path) -> None:
    (folder / "docs.index.json").write_text("[1, 2]")
    (folder / "search.index.json").write_text("{not json")
    assert kinds(folder) == []
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": 5}}')
    assert kinds(folder) == ["index-unused"]


ODD = ["", "{", POINTER, "<html>", '{"weight_map": {"a": "../x/pytorch_model.bin"}}']


@pytest.mark.parametrize("text", ODD)
def test_an_index_that_cannot_be_followed_and_is_of_nothing_that_is_here(folder: Path, text: str) -> None:
    name = "pytorch_model.bin.index.json"
    (folder / name).write_text(text)
    (folder / "training_args.bin").write_bytes(b"\xff")
    kind = "stand-in" if text == POINTER else "index-unused"
    assert note_of(folder, kind).endswith(
        "it is copied as it is" if text == POINTER else ", as none of its files is here"
    )
    assert name in note_of(folder, kind)
    assert str(folder) not in note_of(folder, kind)
    (folder / "pytorch_model.bin").write_text(POINTER)  # nor is it here by this
    assert sorted(kinds(folder)) == sorted([kind, "stand-in"])
    write(folder / "pytorch_model.bin", {"a": weights(8)})
    with pytest.raises(SourceError, match=r"pytorch_model\.bin\.index\.json") as raised:
        examine(folder)
    assert f"--exclude {name}" in raised.value.hint
    assert kinds(folder, exclude=("pytorch_model.bin",)) == ["left-out", kind]


def test_some_of_the_shards_are_missing(folder: Path) -> None:
    index(folder, "m.index.json", {"a": "model.safetensors", "b": "b.safetensors", "c": "c.safetensors"})
    with pytest.raises(SourceError, match=r"names 'b.safetensors', which is not there \(and 1 more\)") as raised:
        bale.compress(folder)
    assert raised.value.hint == "fetch the missing files, or leave it out with --exclude m.index.json"
    assert kinds(folder, exclude=("m.index.json",)) == ["left-out"]
    assert kinds(folder, exclude=("b.*", "c.*")) == ["left-out"]  # what is not there can be left out too


def test_shards_that_are_left_out_are_not_missing(folder: Path) -> None:
    write(folder / "b.safetensors", {"b": weights(4)})
    index(folder, "m.index.json", {"a": "model.safetensors", "b": "b.safetensors"}, total_size=7)
    notes = examine(folder, Selection(exclude=("b.*",))).notes
    assert [note.text for note in notes] == [
        f"1 file, {(folder / 'b.safetensors').stat().st_size} B, left out by --exclude",
        "m.index.json names 1 shard left out by --exclude",
    ]
    assert kinds(folder, include=("*.json", "model*")) == ["left-out", "left-out"]


# Contradictions.


def test_an_index_that_fits(folder: Path) -> None:
    write(folder / "2.safetensors", {"b": weights(4)})
    index(folder, "m.index.json", {"a": "model.safetensors", "b": "2.safetensors"}, total_size=256 + 16)
    assert kinds(folder) == []


@pytest.mark.parametrize(
    ("shards", "total", "text"),
    [
        ({"a": "1", "b": "2", "c": "1"}, 32, "m.index.json names c, which no shard has"),
        ({"a": "1", "b": "2", "c": "1", "d": "2"}, 32, "m.index.json names 2 tensors, such as c, which no shard has"),
        ({"a": "1", "b": "1", "x": "2"}, 32, "m.index.json looks for b in 1.safetensors: 2.safetensors has it"),
        ({"a": "1", "x": "2"}, 32, "m.index.json lacks b, which 2.safetensors has"),
        ({"a": "1", "b": "2"}, 7, "m.index.json says total_size 7: its tensors have 32 bytes"),
    ],
)
def test_an_index_that_does_not_fit(tmp_path: Path, shards: dict[str, str], total: int, text: str) -> None:
    write(tmp_path / "1.safetensors", {"a": weights(4)})
    write(tmp_path / "2.safetensors", {"b": weights(4)})
    index(tmp_path, "m.index.json", {key: f"{n}.safetensors" for key, n in shards.items()}, total_size=total)
    assert text in [note.text for note in examine(tmp_path).notes]
    assert text in bale.inspect(tmp_path)["notes"]
    assert text in bale.plan(tmp_path).to_json()["notes"]


@pytest.mark.parametrize(
    ("total", "shown"), [("abc", '"abc"'), (True, "true"), ([1], "[1]"), (math.nan, "nan"), (math.inf, "inf")]
)
def test_a_total_that_is_no_number(folder: Path, total: object, shown: str) -> None:
    index(folder, "m.index.json", {"a": "model.safetensors"}, total_size=total)
    assert note_of(folder, "index") == f"m.index.json says total_size {shown}, which is no number"


def test_a_total_beyond_any_size(folder: Path) -> None:
    index(folder, "m.index.json", {"a": "model.safetensors"}, total_size=10**400)
    assert "total_size 1000000000" in note_of(folder, "index")


def test_a_numbered_set_without_an_index(tmp_path: Path) -> None:
    for n in (1, 3):
        write(tmp_path / f"m-0000{n}-of-00004.safetensors", {f"{n}": weights(4)})
    text = "m-*-of-00004.safetensors: 2 shards of 4 are not here, first number 2, and no index names them"
    assert note_of(tmp_path, "shards-missing") == text
    assert kinds(tmp_path, exclude=("*-00003-*",)) == ["left-out", "shards-missing"]
    for n in (2, 4):
        write(tmp_path / f"m-0000{n}-of-00004.safetensors", {f"{n}": weights(4)})
    assert kinds(tmp_path) == []
    assert kinds(tmp_path, exclude=("*-00003-*",)) == ["left-out"]


def test_files_are_looked_up_and_not_walked_for_each_index(tmp_path: Path) -> None:
    """Else a folder of many models, each with an index, would cost the square of their number."""

    class Unlisted(set[str]):
        def __iter__(self) -> Iterator[str]:
            raise AssertionError("walked")

    found = ShardIndex("m.index.json", {"a": "1", "b": "2"})
    check_complete(tmp_path, found, Unlisted({"1", "2", "3"}), set())
    check_complete(tmp_path, found, Unlisted({"1"}), {"2"})
    with pytest.raises(SourceError, match="names '2', which is not there"):
        check_complete(tmp_path, found, Unlisted({"1"}), set())

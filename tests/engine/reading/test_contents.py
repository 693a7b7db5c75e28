"""Folders as they are found: what is coded, copied, passed over, told, and refused with a way on."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.engine.reading.contents import examine
from bale.engine.reading.listing import open_folder
from bale.errors import SourceError, UsageError
from bale.io.folder import RECORD
from bale.io.selection import Selection
from tests.making import names_in, weights, write

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1234567\n"
PAGE = "<!DOCTYPE html><html>404</html>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    write(made / "model.safetensors", {"a": weights(8, 8)})
    return made


def index(folder: Path, name: str, shards: dict[str, str], **metadata: object) -> None:
    (folder / name).write_text(json.dumps({"metadata": metadata, "weight_map": shards}))


def kinds(folder: Path, **choice: tuple[str, ...]) -> list[str]:
    return [note.kind for note in examine(folder, Selection(**choice), False).notes]


def told(folder: Path, kind: str) -> str:
    (text,) = (note.text for note in examine(folder).notes if note.kind == kind)
    return text


# Indexes of what is not there.


@pytest.mark.parametrize("suffix", ["bin", "safetensors", "msgpack"])
def test_an_index_without_any_of_its_shards_is_copied(folder: Path, suffix: str) -> None:
    name = f"pytorch_model.{suffix}.index.json"
    index(folder, name, {"a": f"other-00001-of-00002.{suffix}", "b": f"other-00002-of-00002.{suffix}"})
    assert told(folder, "index-unused") == f"{name} is copied, though none of its 2 shards is here"
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


# Files in the place of weights.


@pytest.mark.parametrize("content", [POINTER, PAGE, ""])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "onnx/model.onnx"])
def test_what_was_not_fetched_and_is_there_in_another_format(folder: Path, name: str, content: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(content)
    assert told(folder, "stand-in").startswith(name)
    assert list(examine(folder).side) == [name]


@pytest.mark.parametrize("content", [POINTER, PAGE, ""])
def test_weights_that_nothing_else_has(folder: Path, content: str) -> None:
    for name in ("optimizer.pt", "unet/model.safetensors", "vae.bin"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(content)
        for verb in (bale.compress, bale.plan, bale.inspect):
            with pytest.raises(SourceError, match=name.replace(".", r"\.")) as raised:
                verb(folder)
            assert raised.value.hint.endswith(f"or leave it out with --exclude {name}")
        assert kinds(folder, exclude=(name,)) == ["left-out"]
        (folder / name).unlink()
    (folder / "model.safetensors").write_text(content)
    with pytest.raises(SourceError, match=r"model\.safetensors (is|looks)"):
        open_folder(folder)


def test_shards_that_were_not_fetched(folder: Path) -> None:
    """Of a format that is there otherwise, by half, and with an index or without."""
    names = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
    for name in names:
        (folder / name).write_text(POINTER)
    index(folder, "pytorch_model.bin.index.json", dict(zip("ab", names, strict=True)))
    assert kinds(folder) == ["stand-in", "stand-in"]
    write(folder / names[0], {"a": weights(8)}).rename(folder / names[0])
    with pytest.raises(SourceError, match=r"00002-of-00002\.bin is a Git LFS pointer"):
        examine(folder)
    (folder / "pytorch_model.bin.index.json").unlink()
    with pytest.raises(SourceError, match=r"00002-of-00002\.bin is a Git LFS pointer"):
        examine(folder)


def test_a_pointer_and_pages_that_are_no_weights(folder: Path) -> None:
    (folder / "tokenizer.json").write_text(POINTER)
    (folder / "README.html").write_text(PAGE)
    (folder / "empty").touch()
    assert kinds(folder) == ["stand-in"]


def test_broken_weights_name_the_way_on(folder: Path) -> None:
    (folder / "cut.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:-1])
    with pytest.raises(SourceError, match=r"cut\.safetensors") as raised:
        bale.plan(folder)
    assert raised.value.hint.endswith("or leave it out with --exclude cut.safetensors")
    bale.plan(folder, exclude=["cut*"])


# By-products.


def test_results_beside_their_sources_are_passed_over(folder: Path) -> None:
    (folder / "sub").mkdir()
    write(folder / "sub" / "m.pt.safetensors", {"b": weights(64, 64)})
    bale.compress(folder / "model.safetensors")
    bale.compress(folder / "sub" / "m.pt.safetensors", pipeline="int8")
    bale.compress(folder / "sub")
    for verb in (bale.inspect, lambda path: bale.plan(path).to_json(), lambda path: bale.compress(path).to_json()):
        assert "by-product" in verb(folder)["note_kinds"]
    assert told(folder, "by-product").endswith("the source is there too (such as sub.bale)")
    assert names_in(folder.with_name("model.bale")) == [
        RECORD,
        "model.safetensors.bale",
        "sub",
        "sub/m.pt.safetensors.bale",
    ]
    bale.verify(folder.with_name("model.bale"), folder)


def test_archives_without_their_source_are_copied(folder: Path, tmp_path: Path) -> None:
    bale.compress(folder / "model.safetensors", folder / "other.bale")
    os.rename(folder / "other.bale.report.json", folder / "other.json")
    other = write(tmp_path / "x.safetensors", {"x": weights(4)})
    bale.compress(other, folder / "y.safetensors")
    assert told(folder, "archive") == "2 files, such as other.bale, are compressed already, and copied"
    bale.compress(folder)
    bale.decompress(f"{folder}.bale", tmp_path / "back")
    assert names_in(tmp_path / "back") == names_in(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(SourceError, match="holds no weights"):
        bale.compress(folder)


def test_a_name_that_an_archive_would_take(folder: Path) -> None:
    (folder / "model.safetensors.bale").write_text("mine")
    with pytest.raises(SourceError, match="its archive's name") as raised:
        bale.compress(folder)
    assert "--exclude model.safetensors.bale" in raised.value.hint


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


def test_a_numbered_set_without_an_index(tmp_path: Path) -> None:
    for n in (1, 3):
        write(tmp_path / f"m-0000{n}-of-00004.safetensors", {f"{n}": weights(4)})
    text = "m-*-of-00004.safetensors: 2 shards of 4 are not here, first number 2, and no index names them"
    assert told(tmp_path, "shards-missing") == text
    assert kinds(tmp_path, exclude=("*-00003-*",)) == ["left-out", "shards-missing"]
    for n in (2, 4):
        write(tmp_path / f"m-0000{n}-of-00004.safetensors", {f"{n}": weights(4)})
    assert kinds(tmp_path) == []
    assert kinds(tmp_path, exclude=("*-00003-*",)) == ["left-out"]


# Links, pipes, caches.


def test_what_cannot_be_stored_is_left_out(folder: Path, tmp_path: Path) -> None:
    (folder / "latest").symlink_to(tmp_path)
    (folder / "gone").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "s"))
    for left in ({"gone", "s"}, {"latest", "s"}, {"latest", "gone"}):
        with pytest.raises(SourceError, match="--exclude"):
            examine(folder, Selection(exclude=tuple(left)), False)
    assert kinds(folder, exclude=("latest/*", "gone", "s")) == ["left-out"]
    assert kinds(folder, include=("model*",)) == ["left-out"]


def test_a_cache_of_the_hub(tmp_path: Path) -> None:
    cache = tmp_path / "models--x--y"
    for name in ("blobs", "refs", "snapshots/abc"):
        (cache / name).mkdir(parents=True)
    write(cache / "blobs" / ("5" * 64), {"a": weights(8)})
    link = cache / "snapshots" / "abc" / "model.safetensors"
    link.symlink_to(f"../../blobs/{'5' * 64}")
    for path in (cache, tmp_path):
        with pytest.raises(SourceError, match="cache of the Hugging Face hub") as raised:
            bale.compress(path)
        assert raised.value.hint == f"give a snapshot, like {link.parent}"
    assert list(examine(cache, Selection(exclude=("blobs/*",))).checkpoints) == ["snapshots/abc/model.safetensors"]
    report = bale.compress(link.parent).to_json()
    assert report["files"][0]["source"]["name"] == "model.safetensors"
    assert bale.inspect(link)["source"]["name"] == "model.safetensors"


# What no reader follows.


def test_large_files_without_a_reader_are_coded(folder: Path, tmp_path: Path) -> None:
    array = weights(600, 500)
    (folder / "model.gguf").write_bytes(b"GGUF" + array.tobytes())
    (folder / "small.gguf").write_bytes(b"GGUF" + array[:10].tobytes())
    (folder / "tokenizer.json").write_text(json.dumps({str(n): n for n in range(100_000)}))
    found = examine(folder)
    assert list(found.checkpoints) == ["model.gguf", "model.safetensors"]
    assert list(found.side) == ["small.gguf", "tokenizer.json"]
    document = bale.compress(folder).to_json()
    assert [note for note in document["notes"] if note.startswith("model.gguf: coded as opaque bytes")]
    weights_file = (folder / "model.safetensors").stat().st_size
    assert document["totals"]["weights"]["original_bytes"] == weights_file
    bale.decompress(f"{folder}.bale", tmp_path / "back")
    assert (tmp_path / "back" / "model.gguf").read_bytes() == (folder / "model.gguf").read_bytes()
    with bale.open(folder.with_name("model.bale")) as tensors:
        assert set(tensors) == {"a", "bytes"}
    assert [row.name for row in bale.compare(folder, f"{folder}.bale")] == ["a"]  # weights only


def test_a_folder_that_no_reader_follows(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "README.md").write_text("read me")
    with pytest.raises(SourceError, match="holds no weights"):
        bale.compress(source)
    (source / "weights.npz").write_bytes(np.random.default_rng(0).bytes(2 << 20))
    document = bale.compress(source).to_json()
    assert (document["files"][0]["source"]["kind"], document["copied"]["files"]) == ("opaque", 1)
    assert "opaque" in document["note_kinds"]


# Patterns.


def test_patterns(folder: Path, tmp_path: Path) -> None:
    for name in ("pytorch_model.bin", "config.json"):
        (folder / name).write_text("{}")
    document = bale.compress(folder, exclude=["*.bin"]).to_json()
    assert "1 file, 2 B, left out by --exclude" in document["notes"]
    record = json.loads((tmp_path / "model.bale" / RECORD).read_text())
    assert (record["include"], record["exclude"]) == ([], ["*.bin"])
    bale.verify(tmp_path / "model.bale", folder)
    write(folder / "more.bin", {"x": weights(4)})
    bale.verify(tmp_path / "model.bale", folder)  # by the same patterns it is left out
    assert set(bale.inspect(folder, include=["*.safetensors"])["copied"].values()) == {0, None}
    for verb in (bale.compress, bale.plan, bale.inspect):
        with pytest.raises(UsageError, match=r"--include 'x\*' matches no file"):
            verb(folder, include=["model*", "x*"])
        with pytest.raises(UsageError, match="is a file, and --exclude"):
            verb(folder / "model.safetensors", exclude=["*"])
        with pytest.raises(SourceError, match="no weights that bale knows beside what is left out by --exclude"):
            verb(folder, exclude=["*.bin", "*.safetensors"])
    assert "pattern-unused" in bale.plan(folder, exclude=["x*"], allow_unmatched=True).to_json()["note_kinds"]
    with pytest.raises(UsageError, match="is compressed"):
        bale.inspect(tmp_path / "model.bale", exclude=["*"])


def test_an_interrupted_run_goes_on_with_other_patterns(folder: Path, tmp_path: Path) -> None:
    write(folder / "b.safetensors", {"b": weights(8)})
    bale.compress(folder)
    record = tmp_path / "model.bale" / RECORD
    record.write_text(record.read_text().replace('"complete": true', '"complete": false'))
    bale.compress(folder, exclude=["b.*"], report=tmp_path / "r.json")
    assert names_in(tmp_path / "model.bale") == [RECORD, "model.safetensors.bale"]


# The same tensors twice.


def test_the_same_tensors_in_two_files(folder: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    arrays = {f"l{n}.weight": weights(16, 16, seed=n) for n in range(3)}
    write(folder / "model.safetensors", arrays)
    write(folder / "sub-00001-of-00002.safetensors", {"l0.weight": arrays["l0.weight"]})
    write(folder / "sub-00002-of-00002.safetensors", {"l1.weight": arrays["l1.weight"], "x": weights(16, 16, seed=9)})
    torch.save({name: torch.from_numpy(array) for name, array in arrays.items()}, folder / "pytorch_model.bin")
    expected = [
        "sub-*-of-00002.safetensors holds 2 of the 3 tensors of model.safetensors",
        "pytorch_model.bin holds the same 3 tensors as model.safetensors",
    ]
    for document in (bale.compress(folder).to_json(), bale.inspect(tmp_path / "model.bale")):
        pairs = zip(document["notes"], document["note_kinds"], strict=True)
        assert [note for note, kind in pairs if kind == "same-tensors"] == expected

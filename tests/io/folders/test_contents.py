"""Folders as they are found: what is coded, copied, told, and refused with a way on."""

from __future__ import annotations

import json
import os
import pickle
import socket
from pathlib import Path

import numpy as np
import pytest

import bale
from bale.engine.reading.listing import open_folder
from bale.errors import SourceError, UsageError
from bale.io.folders.contents import examine
from bale.io.folders.record import RECORD
from bale.io.folders.selection import Selection
from tests.io.folders.examining import index, kinds, note_of
from tests.io.sources.tensorflow_files import checkpoint
from tests.making import names_in, weights, write

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 1234567\n"
PAGE = "<!DOCTYPE html><html>404</html>"


# Files in the place of weights.


@pytest.mark.parametrize("content", [POINTER, PAGE, ""])
@pytest.mark.parametrize("name", ["pytorch_model.bin", "tf_model.h5", "flax_model.msgpack", "onnx/model.onnx"])
def test_what_was_not_fetched_and_is_there_in_another_format(folder: Path, name: str, content: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(content)
    assert note_of(folder, "stand-in").startswith(name)
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
    with pytest.raises(SourceError, match=r"cut\.safetensors") as raised:  # nor has a base the option
        bale.compress(folder / "model.safetensors", base=folder)
    assert "--exclude" not in str(raised.value)


@pytest.mark.parametrize("name", ["data.zip", "blob", ".git/lfs/tmp/123"])
def test_broken_files_that_are_not_called_like_weights(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(b"PK\x03\x04" + b"cut" * 100)
    assert note_of(folder, "broken").startswith(f"{name} is broken: it begins as a ZIP file")
    for other in ("data.pt", "shard"):
        index(folder, "m.index.json", {"x": "shard"})
        (folder / name).rename(folder / other)
        with pytest.raises(SourceError, match="is broken: it begins as a ZIP file"):
            examine(folder)
        (folder / other).rename(folder / name)


TEXTS = ["Entry not found", '{"error": "Repository not found"}', "<Error><Code>NoSuchKey</Code></Error>"]


@pytest.mark.parametrize("content", TEXTS)
@pytest.mark.parametrize("name", ["pytorch_model.bin", "training_args.bin", "onnx/model.onnx", "vae/x.ckpt"])
def test_a_text_that_is_called_like_weights(folder: Path, name: str, content: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(content)
    assert note_of(folder, "stand-in") == f"{name} is a text ({content!r}), not a checkpoint: it is copied as it is"
    assert list(examine(folder).side) == [name]
    (folder / "model.safetensors").unlink()
    with pytest.raises(SourceError, match="is a text") as raised:
        open_folder(folder)
    assert raised.value.hint.startswith("download it again")


@pytest.mark.parametrize("content", [*map(str.encode, TEXTS), b"\xff" * 100, b"\xff" * (2 << 20)])
@pytest.mark.parametrize("is_indexed", [True, False])
def test_a_shard_that_holds_no_tensors(folder: Path, content: bytes, is_indexed: bool) -> None:
    names = [f"pytorch_model-0000{n}-of-00002.bin" for n in (1, 2)]
    write(folder / names[0], {"a": weights(8)})
    (folder / names[1]).write_bytes(content)
    if is_indexed:
        index(folder, "pytorch_model.bin.index.json", dict(zip("ab", names, strict=True)))
    with pytest.raises(SourceError, match=r"00002-of-00002\.bin (is a text|has no content that bale knows)") as raised:
        examine(folder)
    assert raised.value.hint == f"download it again, or leave it out with --exclude {names[1]}"
    assert "left-out" in kinds(folder, exclude=(names[1],))


def test_numbered_files_that_are_no_shards(folder: Path) -> None:
    """Tokens of a training set, say, of which none is a checkpoint."""
    for n in (1, 2):
        (folder / f"train-0000{n}-of-00002.bin").write_bytes(b"\xff\1" * 100)
    assert kinds(folder) == []


# Links, pipes, caches.


def test_what_cannot_be_stored_is_left_out(folder: Path, tmp_path: Path) -> None:
    (folder / "latest").symlink_to(tmp_path)
    (folder / "gone.bin").symlink_to("nowhere")
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(folder / "s"))
    for left in ({"gone.bin", "s"}, {"latest", "s"}):
        with pytest.raises(SourceError, match="--exclude"):
            examine(folder, Selection(exclude=tuple(left)))
    assert kinds(folder, exclude=("latest/*", "gone.bin", "s")) == ["left-out"]
    assert kinds(folder, include=("model*",)) == ["left-out"]


def test_what_is_no_file_is_told(folder: Path, tmp_path: Path) -> None:
    (folder / ".#config.json").symlink_to("someone@host.123")
    assert note_of(folder, "no-file") == ".#config.json is a link that leads nowhere: left out"
    os.mkfifo(folder / "pipe")
    assert note_of(folder, "no-file").startswith("2 links or pipes are no files, such as .#config.json is a link")
    assert "no-file" in bale.compress(folder).to_json()["note_kinds"]
    assert names_in(Path(f"{folder}.bale")) == [RECORD, "model.safetensors.bale"]


@pytest.mark.parametrize("name", ["x.bin", "model.safetensors.index.json", "model.onnx", "shard"])
def test_what_is_no_file_and_stands_for_weights(folder: Path, name: str) -> None:
    index(folder, "m.index.json", {"a": "model.safetensors", "b": "shard"})
    (folder / "shard").write_bytes((folder / "model.safetensors").read_bytes())
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    with pytest.raises(SourceError, match=f"{name} is neither a file nor a folder") as raised:
        examine(folder)
    assert f"--exclude {name}" in raised.value.hint


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
    (folder / "model.ot").write_bytes(b"ABCD" + array.tobytes())
    (folder / "small.ot").write_bytes(b"ABCD" + array[:10].tobytes())
    (folder / "tokenizer.json").write_text(json.dumps({str(n): n for n in range(100_000)}))
    (folder / "small.bin2").write_bytes(b"ABCD" + array[:10].tobytes())
    found = examine(folder)
    assert list(found.checkpoints) == ["model.ot", "model.safetensors", "small.ot"]  # weights by suffix too
    assert list(found.side) == ["small.bin2", "tokenizer.json"]
    document = bale.compress(folder).to_json()
    assert [note for note in document["notes"] if note.startswith("model.ot: coded as opaque bytes")]
    weights_file = (folder / "model.safetensors").stat().st_size
    assert document["totals"]["weights"]["original_bytes"] == weights_file
    bale.decompress(f"{folder}.bale", tmp_path / "back")
    assert (tmp_path / "back" / "model.ot").read_bytes() == (folder / "model.ot").read_bytes()
    with bale.open(folder.with_name("model.bale")) as tensors:
        assert set(tensors) == {"a", "model.ot:bytes", "small.ot:bytes"}
    assert [row.name for row in bale.compare(folder, f"{folder}.bale")] == ["a"]  # weights only


def test_a_folder_that_no_reader_follows(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "README.md").write_text("read me")
    with pytest.raises(SourceError, match="holds no weights"):
        bale.compress(source)
    (source / "m.ot").write_bytes(b"\x93NUMPY\1\0cut")
    with pytest.raises(SourceError, match="holds no weights") as caught:
        bale.plan(source)
    first, *notes = caught.value.lines
    assert first == str(caught.value)
    assert [note.partition(" is broken")[0] for note in notes] == ["  note: m.ot"]
    assert caught.value.details["note_kinds"] == ["broken"]
    (source / "m.ot").unlink()
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
    assert bale.inspect(tmp_path / "model.bale")["notes"][0].startswith("made with --exclude '*.bin': other files")
    bale.verify(tmp_path / "model.bale", folder)
    write(folder / "more.bin", {"x": weights(4)})
    bale.verify(tmp_path / "model.bale", folder)  # by the same patterns it is left out
    assert set(bale.inspect(folder, include=["*.safetensors"])["copied"].values()) == {0, None}
    for verb in (bale.compress, bale.plan, bale.inspect):
        with pytest.raises(UsageError, match=r"--include 'x\*' matches no file"):
            verb(folder, include=["model*", "x*"])
        with pytest.raises(UsageError, match="is a file: --exclude"):
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


def test_a_small_file_of_weights_without_a_reader_is_coded(tmp_path: Path) -> None:
    (tmp_path / "__0_0.distcp").write_bytes(weights(20, 20).tobytes())
    (tmp_path / ".metadata").write_bytes(b"\x80\x02.")
    assert list(examine(tmp_path).checkpoints) == ["__0_0.distcp"]


def test_a_small_pickle_that_cannot_be_followed_is_coded(folder: Path) -> None:
    (folder / "m.pkl").write_bytes(pickle.dumps({"w": weights(20, 30)}, 4)[:-2] + b"\xff.")
    assert list(examine(folder).checkpoints) == ["m.pkl", "model.safetensors"]


def test_a_pickle_that_is_cut_is_an_error(folder: Path) -> None:
    (folder / "m.pkl").write_bytes(pickle.dumps({"w": weights(20, 30)}, 4)[:-40])
    with pytest.raises(SourceError, match=r"m\.pkl is broken: its pickle goes on behind byte"):
        examine(folder)


def test_tensorflow_data_that_is_cut_is_an_error(folder: Path) -> None:
    data = checkpoint(folder, {"w": weights(20, 30), "x": weights(3, 4)})
    data.write_bytes(data.read_bytes()[:-40])
    with pytest.raises(SourceError, match=r"m\.data-00000-of-00001 is broken"):
        examine(folder)

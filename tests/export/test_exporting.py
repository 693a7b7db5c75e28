"""Export as such: plain safetensors files, folders that appear whole, the verb."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

import bale as program
from bale.engine.reading.archives import Archives
from bale.engine.run import Run
from bale.errors import ArchiveError, OutputError, UsageError
from bale.export import model as model_module
from bale.export import writing
from bale.export.exporting import export
from bale.export.model import Model
from bale.export.target import Piece
from bale.spec import TensorSpec
from tests.cli.conftest import Bale, bale  # noqa: F401
from tests.making import names_in, weights, write

NAMES = [f"layer.{number}.weight" for number in range(4)]


def shards(folder: Path, pipeline: str = "int8") -> Path:
    """A compressed folder of two shards with an index."""
    source = folder / "model"
    (source / "sub").mkdir(parents=True)
    files = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    for number, name in enumerate(files):
        write(source / name, {key: weights(64, 96, seed=number) for key in NAMES[2 * number : 2 * number + 2]})
    where = {key: files[at // 2] for at, key in enumerate(NAMES)}
    (source / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": where}))
    (source / "config.json").write_text('{"a": 1}')
    (source / "sub/notes.txt").write_text("kept")
    program.compress(source, pipeline=pipeline, out=folder / "small")
    return folder / "small"


@pytest.mark.parametrize("pipeline", ["lossless", "int8"])
def test_decoded_values_in_the_same_shards(tmp_path: Path, pipeline: str) -> None:
    small, out = shards(tmp_path, pipeline), tmp_path / "out"
    done = export(small, "safetensors", out)
    assert done.counts == {"exact" if pipeline == "lossless" else "dense": 4}
    program.decompress(small, tmp_path / "back")
    assert names_in(out) == names_in(tmp_path / "back")
    assert (out / "sub/notes.txt").read_text() == "kept"
    assert json.loads((out / "config.json").read_text()) == {"a": 1}
    index = json.loads((out / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 4 * 4 * 64 * 96
    for name in NAMES:
        file = index["weight_map"][name]
        assert np.array_equal(load_file(out / file)[name], load_file(tmp_path / "back" / file)[name])
    assert done.bytes == sum(path.stat().st_size for path in out.rglob("*") if path.is_file())


def test_a_torch_file_becomes_a_safetensors_file(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    (tmp_path / "model").mkdir()
    tensors = {"a": torch.arange(12.0).reshape(3, 4).t(), "b": torch.ones(3)}
    torch.save(tensors, tmp_path / "model/pytorch_model.bin")
    program.compress(tmp_path / "model", out=tmp_path / "small")
    export(tmp_path / "small", "safetensors", tmp_path / "out")
    found = load_file(tmp_path / "out/model.safetensors")
    assert {name: each.tolist() for name, each in found.items()} == {k: v.tolist() for k, v in tensors.items()}


def test_one_archive_becomes_one_file(tmp_path: Path) -> None:
    small = shards(tmp_path)
    export(small / "model-00001-of-00002.safetensors.bale", "safetensors", tmp_path / "one.safetensors")
    assert sorted(load_file(tmp_path / "one.safetensors")) == NAMES[:2]
    with pytest.raises(OutputError, match="exists"):
        export(small / "model-00001-of-00002.safetensors.bale", "safetensors", tmp_path / "one.safetensors")


def test_what_fails_leaves_nothing_and_what_is_there_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    small, out = shards(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        export(small, "safetensors", out)
    before = names_in(tmp_path)

    def broken(*_: object) -> tuple[int, str]:
        raise OutputError("no room")

    monkeypatch.setattr(writing, "copy_file", broken)
    with pytest.raises(OutputError, match="no room"):
        export(small, "safetensors", tmp_path / "other")
    assert names_in(tmp_path) == before


def test_the_parts_of_one_tensor_are_in_memory_at_a_time(tmp_path: Path) -> None:
    with Run(1) as run, Model(shards(tmp_path), run) as model:
        first, *_, last = model.tensors
        parts = first.parts
        assert first.parts is parts
        assert last.parts is not parts
        assert first.parts is not parts


def test_parts_that_are_not_of_the_size_of_a_tensor_are_damage(tmp_path: Path) -> None:
    piece = Piece("a", TensorSpec("U8", (4,)), lambda: [np.zeros(3, np.uint8)])
    with Run(1) as run, pytest.raises(ArchiveError, match="the parts of a are not of its size"):
        writing.write_weights(tmp_path / "a.safetensors", [piece], run, False, False)
    assert not names_in(tmp_path)


def test_bad_words_are_explained(tmp_path: Path) -> None:
    small = shards(tmp_path)
    with pytest.raises(UsageError, match="did you mean safetensors"):
        export(small, "safetensor", tmp_path / "out")
    with pytest.raises(UsageError, match="matches no tensor"):
        export(small, "safetensors", tmp_path / "out", dense=["nothing*"])
    with pytest.raises(ArchiveError, match="compress it first"):
        export(tmp_path / "model", "safetensors", tmp_path / "out")


def test_the_verb_says_what_was_written(tmp_path: Path, bale: Bale) -> None:  # noqa: F811
    small = shards(tmp_path)
    done = bale("export", small, "--to", "safetensors", "-o", tmp_path / "out")
    assert done.code == 0, done
    assert "4 tensors: 4 dense" in " ".join(done.out.split())
    entry = bale("export", small, "--to", "safetensors", "-o", tmp_path / "more", "--json").result
    assert entry["schemes"] == dict.fromkeys(NAMES, "dense")
    bale("export", small, "--to", "nothing", "-o", tmp_path / "no").failed(2, "there is no format")
    bale("export", tmp_path / "gone", "--to", "safetensors", "-o", tmp_path / "no").failed(3, "gone")


def test_what_is_open_is_closed_where_another_archive_cannot_be_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small, opened = shards(tmp_path), list[Archives]()

    def recorded(paths: list[Path], run: Run) -> Archives:
        opened.append(Archives(paths, run=run))
        return opened[-1]

    monkeypatch.setattr(model_module, "Archives", recorded)
    (small / "model-00002-of-00002.safetensors.bale").write_bytes(b"broken")
    with Run() as run, pytest.raises(ArchiveError):
        Model(small, run)
    assert len(opened) == 1
    with pytest.raises(UsageError, match="is closed"):
        opened[0][NAMES[0]]


def test_what_is_exported_is_never_written_over(tmp_path: Path) -> None:
    small = shards(tmp_path)
    before = {path: path.read_bytes() for path in small.rglob("*") if path.is_file()}
    for out in (small, small / "within"):
        with pytest.raises(OutputError, match="lies in the compressed folder"):
            export(small, "safetensors", out, force=True)
    alone = tmp_path / "one.bale.safetensors"
    alone.write_bytes((small / "model-00001-of-00002.safetensors.bale").read_bytes())
    (tmp_path / "link.safetensors").symlink_to(alone)
    for out in (alone, tmp_path / "link.safetensors"):
        with pytest.raises(OutputError, match="it is the input"):
            export(alone, "safetensors", out, force=True)
    assert {path: path.read_bytes() for path in small.rglob("*") if path.is_file()} == before

"""Lossy TensorFlow checkpoints: the index that comes back is the one that would be written for what comes back."""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import bale
from bale.api.decompressing import decompress_to
from bale.engine.folder import writer
from bale.errors import ArchiveError, OutputError
from bale.io.folders.contents import examine
from bale.io.folders.record import RECORD
from bale.io.sources.tensorflow.data import CHECKED
from tests.engine.test_killed import clear, contents, counted, every_kill, leftovers
from tests.forging import Apart
from tests.io.sources.tensorflow_files import entry, header, nested, number, table
from tests.killing import killed
from tests.making import sha256, weights, write

SHARDS = ("m.data-00000-of-00002", "m.data-00001-of-00002")
PLACES = {"a": (0, 0), "b": (0, 16384), "c": (1, 4), "d": (1, 16388)}
"""Data file and offset of each tensor of 64 by 64 floats; before `c` there is a number."""
SLICE = b"\0part\0\1\1\1"
SLICED = (1, 32772)


def indexed(first: bytes, second: bytes) -> bytes:
    """The index of two data files, in three blocks; the last tensor is a slice of another."""

    def of(name: str) -> tuple[bytes, bytes]:
        shard, at = PLACES[name]
        return name.encode(), entry(1, (64, 64), at, 16384, shard, (first, second)[shard][at : at + 16384])

    part = entry(1, (64, 80), SLICED[1], 20480, 1, second[SLICED[1] :])
    step = entry(9, (), 0, 4, 1, second[:4])
    whole = entry(1, (64, 90), 0, 0) + nested(7, b"")
    blocks = [header(2), (SLICE, part), of("a")], [of("b"), of("c"), of("d")], [(b"part", whole), (b"step", step)]
    return table(*blocks, checked=True)


def index_of(folder: Path) -> bytes:
    """The index that the data files of a folder need."""
    first, second = ((folder / name).read_bytes() for name in SHARDS)
    return indexed(first, second)


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    a, b, c, d = (weights(64, 64, seed=seed).tobytes() for seed in (1, 2, 3, 3))
    (folder / SHARDS[0]).write_bytes(a + b)
    (folder / SHARDS[1]).write_bytes(b"\7\0\0\0" + c + d + weights(64, 80, seed=5).tobytes())
    (folder / "m.index").write_bytes(index_of(folder))
    (folder / "checkpoint").write_text('model_checkpoint_path: "m"\n')
    return folder


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return make(tmp_path / "model" / "variables").parent


def values(folder: Path, name: str) -> Any:
    shard, at = PLACES[name]
    return np.frombuffer((folder / SHARDS[shard]).read_bytes()[at : at + 16384], "<f4")


def error(one: Path, other: Path, name: str) -> float:
    before, after = values(one, name), values(other, name)
    return float(np.linalg.norm(after - before) / np.linalg.norm(before))


@pytest.mark.parametrize("pipeline", ["int8", "trellis:bits=4"])
def test_the_index_is_that_of_what_comes_back(source: Path, tmp_path: Path, pipeline: str) -> None:
    assert (source / "variables" / "m.index").read_bytes() == index_of(source / "variables")
    report = bale.compress(source, tmp_path / "small", pipeline=pipeline)
    done = bale.verify(tmp_path / "small", source)
    assert [row.name for row in done.lossy] == ["a", "b", "c", "d", "part"]
    bale.decompress(tmp_path / "small", tmp_path / "back")
    before, after = source / "variables", tmp_path / "back" / "variables"
    assert (after / "m.index").read_bytes() == index_of(after) != index_of(before)
    assert all(0 < error(before, after, name) < 0.2 for name in PLACES)
    assert (after / SHARDS[1]).read_bytes()[:4] == b"\7\0\0\0"
    assert (after / "m.index").stat().st_mtime == (before / "m.index").stat().st_mtime
    told = [note.text for note in report.all_notes if note.kind == "renewed"]
    assert told == [
        f"variables/{name}: m.index will come back with other checksums of {count} lossy tensors"
        for name, count in zip(SHARDS, (2, 3), strict=True)
    ]
    planned = bale.plan(source, pipeline=pipeline)
    assert [note.text for note in planned.all_notes if note.kind == "renewed"] == told


def test_entries_of_what_is_exact_stay(source: Path, tmp_path: Path) -> None:
    bale.compress(source, tmp_path / "small", rules=["c=int8", "d=int8"])
    bale.decompress(tmp_path / "small", tmp_path / "back")
    before, after = source / "variables", tmp_path / "back" / "variables"
    assert (after / SHARDS[0]).read_bytes() == (before / SHARDS[0]).read_bytes()
    one, other = ((folder / "m.index").read_bytes() for folder in (before, after))
    assert other == index_of(after)
    assert 0 < sum(a != b for a, b in zip(one, other, strict=True)) <= 3 * 4  # c, d, and their block


def test_an_exact_second_layer(source: Path, tmp_path: Path) -> None:
    report = bale.compress(source, tmp_path / "small", pipeline="int4/exact")
    assert not [note for note in report.all_notes if note.kind == "renewed"]
    bale.decompress(tmp_path / "small", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(source)
    bale.decompress(tmp_path / "small", tmp_path / "first", layers=1)
    after = tmp_path / "first" / "variables"
    assert (after / "m.index").read_bytes() == index_of(after)
    assert 0 < error(source / "variables", after, "a") < 0.3


def test_differences_to_a_base(source: Path, tmp_path: Path) -> None:
    base = make(tmp_path / "base")
    for name in SHARDS:
        data = np.frombuffer((source / "variables" / name).read_bytes(), "<f4") * np.float32(1.01)
        (base / name).write_bytes(data.tobytes())
    (base / "m.index").write_bytes(index_of(base))
    bale.compress(source, tmp_path / "small", pipeline="int4", base=base)
    bale.decompress(tmp_path / "small", tmp_path / "back", base=base)
    after = tmp_path / "back" / "variables"
    assert (after / "m.index").read_bytes() == index_of(after)
    assert 0 < error(source / "variables", after, "a") < 0.01


def reasons(folder: Path, name: str = SHARDS[0]) -> set[str | None]:
    return {unit.exact for unit in examine(folder).checkpoints[name].units if unit.views}


def test_a_data_file_by_itself_is_exact(source: Path, tmp_path: Path) -> None:
    data = source / "variables" / SHARDS[0]
    report = bale.compress(data, tmp_path / "m.bale", pipeline="int8")
    assert report.exact
    assert CHECKED in [note.text for row in report.rows for note in row.notes]
    assert {row.decision.pipeline.lossless for row in bale.plan(data, pipeline="int8").files[0].tensors} == {True}


def test_without_its_index_in_the_folder_it_is_exact(source: Path, tmp_path: Path) -> None:
    given: dict[str, Any] = {"pipeline": "int8", "exclude": ["*.index"]}
    assert {row.decision.pipeline.lossless for f in bale.plan(source, **given).files for row in f.tensors} == {True}
    assert bale.compress(source, tmp_path / "small", **given).exact
    bale.decompress(tmp_path / "small", tmp_path / "back")
    assert contents(source).items() >= contents(tmp_path / "back").items()


def test_an_index_that_is_compressed(source: Path, tmp_path: Path) -> None:
    folder = source / "variables"
    (folder / "m.index").write_bytes(table([header(2), (b"a", entry(1, (64, 64), 0, 16384))], kind=1))
    (folder / SHARDS[0]).write_bytes(weights(600, 512).tobytes())
    report = bale.compress(source, tmp_path / "small", pipeline="int8")
    assert report.exact
    assert any("whose .index is compressed" in note.text for note in report.all_notes)


def test_what_cannot_be_renewed_is_exact(tmp_path: Path) -> None:
    (tmp_path / "m.data-00000-of-00001").write_bytes(weights(64, 64).tobytes())
    whole = entry(1, (64, 64), 0, 16384)
    for pairs in ([header(), (b"w", whole[:-5])], [header(), (b"w", whole[:-5] + number(6, 9))], [header(1, True)]):
        (tmp_path / "m.index").write_bytes(table([*pairs, *([(b"w", whole)] if len(pairs) == 1 else [])]))
        (reason,) = reasons(tmp_path, "m.data-00000-of-00001")
        assert reason in ("big-endian", "its .index has no CRC-32C of it that could be renewed")
        assert bale.compress(tmp_path, tmp_path.parent / "small", pipeline="int8", force=True).exact


def test_a_large_index_is_coded_and_renewed(tmp_path: Path) -> None:
    folder, name = tmp_path / "model", "m.data-00000-of-00001"
    folder.mkdir()
    tensors = [(f"{number:03}" + f"{number:03}/" * 2000).encode() for number in range(140)]

    def written(data: bytes) -> bytes:
        pairs = [(key, entry(1, (64, 64), 0, 16384, 0, data)) for key in tensors[:1]]
        others = [(key, entry(3, (0,), 16384, 0, 0, b"")) for key in tensors[1:]]
        return table([header(), *pairs, *others], checked=True)

    (folder / name).write_bytes(weights(64, 64).tobytes())
    (folder / "m.index").write_bytes(written((folder / name).read_bytes()))
    assert (folder / "m.index").stat().st_size > 1 << 20
    bale.compress(folder, tmp_path / "small", pipeline="int8")
    assert (tmp_path / "small" / "m.index.bale").exists()
    bale.verify(tmp_path / "small", folder)
    bale.decompress(tmp_path / "small", tmp_path / "back")
    lossy = (tmp_path / "back" / name).read_bytes()
    assert lossy != (folder / name).read_bytes()
    assert (tmp_path / "back" / "m.index").read_bytes() == written(lossy)


def test_budgets_reach_them(source: Path, tmp_path: Path) -> None:
    size = sum(path.stat().st_size for path in source.rglob("*"))
    budget = bale.budget(max_size=f"{size // 3}B")
    assert bale.plan(source, budget=budget).predicted_bytes <= size // 3 * 1.05
    assert bale.compress(source, tmp_path / "small", budget=budget).stored_bytes <= size // 3
    bale.decompress(tmp_path / "small", tmp_path / "back")
    after = tmp_path / "back" / "variables"
    assert (after / "m.index").read_bytes() == index_of(after)


def test_a_killed_decompress(source: Path, tmp_path: Path) -> None:
    bale.compress(source, tmp_path / "small", pipeline="int8")
    bale.decompress(tmp_path / "small", tmp_path / "whole")
    expected, back = contents(tmp_path / "whole"), tmp_path / "back"
    for where in every_kill(lambda: bale.decompress(tmp_path / "small", back), lambda: clear(tmp_path, "back")):
        bale.decompress(tmp_path / "small", back, force=back.exists())
        assert contents(back) == expected, where
        assert leftovers(tmp_path) == [], where


def test_a_killed_compress(source: Path, tmp_path: Path) -> None:
    bale.compress(source, tmp_path / "whole", pipeline="int8")
    expected, out = contents(tmp_path / "whole"), tmp_path / "out"

    def work(force: bool = False) -> object:
        return bale.compress(source, out, pipeline="int8", force=force)

    for where in every_kill(work, lambda: clear(tmp_path, "out", "out.report.json")):
        record = out / RECORD
        work(force=record.exists() and json.loads(record.read_bytes())["complete"])
        assert contents(out) == expected, where


def test_an_index_that_changes_while_a_run_is_interrupted(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, index = tmp_path / "out", source / "variables" / "m.index"

    def work() -> object:
        return bale.compress(source, out, pipeline="int8")

    assert killed(work, [(writer, "compress_file")], 2, after=False)
    index.write_bytes(index.read_bytes().replace(b"a\x08\x01", b"A\x08\x01"))  # another name
    assert len(counted(monkeypatch, writer, "compress_file", work)) == 2
    with bale.open(out) as found:
        assert {"A", "b"} <= set(found)


def test_an_archive_of_the_folder_by_itself(source: Path, tmp_path: Path) -> None:
    bale.compress(source, tmp_path / "small", pipeline="int8")
    archive = tmp_path / "small" / "variables" / f"{SHARDS[0]}.bale"
    bale.verify(archive)
    with pytest.raises(OutputError, match=r"m\.index has checksums of its source, which only the folder .* -f gives"):
        bale.decompress(archive, tmp_path / "data")
    with pytest.raises(OutputError, match=r"only the folder .* -f and the name of a file with -o give it alone"):
        decompress_to(archive, io.BytesIO())
    bale.decompress(archive, tmp_path / "data", force=True)
    bale.decompress(archive, tmp_path / "a.safetensors", tensors=["a"])
    assert (tmp_path / "data").stat().st_size == 2 * 16384


def forge(folder: Path, change: Callable[[Any], None]) -> None:
    """Change the manifest of the first data file's archive, with all digests right."""
    path, record = folder / "variables" / f"{SHARDS[0]}.bale", folder / RECORD
    apart = Apart.of(path.read_bytes())
    change(apart.manifest)
    path.write_bytes(apart.together())
    data = json.loads(record.read_bytes())
    stored = data["files"][f"variables/{SHARDS[0]}"]["archive"]
    stored |= {"bytes": path.stat().st_size, "sha256": sha256(path)}
    record.write_text(json.dumps(data))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("n.index", r"has no variables/n\.index, whose checksums change"),
        ("checkpoint", "checkpoint does not fit what lies beside it: a TensorFlow checkpoint whose .index cannot"),
        (SHARDS[0], "does not fit what lies beside it"),
        ("../m.index", "makes no sense"),
        ("..", "makes no sense"),
        ("", "makes no sense"),
    ],
)
def test_a_forged_name(source: Path, tmp_path: Path, name: str, words: str) -> None:
    bale.compress(source, tmp_path / "small", pipeline="int8")
    forge(tmp_path / "small", lambda manifest: manifest.update(checked_by=name))
    with pytest.raises(ArchiveError, match=words):
        bale.verify(tmp_path / "small")
    with pytest.raises(ArchiveError, match=words):
        bale.decompress(tmp_path / "small", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_an_index_of_other_tensors(source: Path, tmp_path: Path) -> None:
    bale.compress(source, tmp_path / "small", pipeline="int8")
    index, record = tmp_path / "small" / "variables" / "m.index", tmp_path / "small" / RECORD
    index.write_bytes(table([header(2), (b"x", entry(1, (4096,), 0, 16384))]))
    data = json.loads(record.read_bytes())
    digests = {"bytes": index.stat().st_size, "sha256": sha256(index)}
    data["files"]["variables/m.index"] |= {"source": digests, "archive": digests}
    record.write_text(json.dumps(data))
    words = r"an \.index without a CRC-32C of bytes 16384 to 32768 of file 0"
    with pytest.raises(ArchiveError, match=words):
        bale.verify(tmp_path / "small")
    with pytest.raises(ArchiveError, match=words):
        bale.decompress(tmp_path / "small", tmp_path / "back")


def test_other_formats_beside_them(source: Path, tmp_path: Path) -> None:
    write(source / "model.safetensors", {"w": weights(64, 64, seed=9)})
    shutil.copytree(source / "variables", source / "again")
    bale.compress(source, tmp_path / "small", pipeline="int8")
    bale.decompress(tmp_path / "small", tmp_path / "back")
    for name in ("variables", "again"):
        assert (tmp_path / "back" / name / "m.index").read_bytes() == index_of(tmp_path / "back" / name)

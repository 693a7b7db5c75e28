"""SIGKILL before and after each call that changes a name: what is there is whole, and the next run ends the work."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

import bale
from bale.engine.folder import restoring, writer
from bale.errors import ArchiveError, OutputError, SourceError
from bale.io.folders.record import RECORD
from bale.io.storage import commit, placing
from bale.io.storage.leftovers import BEGUN, PREFIX, TREE
from tests.killing import killed
from tests.making import bf16, sha256, weights, write

NAMES = [
    (os, "link"),
    (os, "replace"),
    (os, "rename"),
    (os, "mkdir"),
    (os, "unlink"),
    (commit, "exchange"),
    (placing, "exchange"),
    (placing, "rename_new"),
]
"""Calls that give names or take them away."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Two shards, one of them in a folder, and a side file."""
    made = tmp_path / "model"
    (made / "sub").mkdir(parents=True)
    write(made / "a.safetensors", {"a": bf16(weights(64, 64, seed=1))})
    write(made / "sub" / "b.safetensors", {"b": weights(64, 64, seed=2)})
    (made / "config.json").write_text("{}")
    return made


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.is_file()}


def leftovers(folder: Path) -> list[Path]:
    return list(folder.rglob(f"{PREFIX}*"))


def every_kill(work: Callable[[], object], stage: Callable[[], None]) -> Iterator[str]:
    """Stage and kill the work before every call, and after the last one; tells where, each time."""
    at = 1
    for at in itertools.count(1):
        stage()
        if not killed(work, NAMES, at, after=False):
            break
        yield f"before call {at}"
    assert at > 4  # the kills have hit
    while at and not killed(work, NAMES, at, after=True):  # without leftovers it has fewer calls
        at -= 1
        stage()
    yield "after the last call"


def clear(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def counted(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, work: Callable[[], object]) -> list[object]:
    """First arguments of the calls of one of the engine's functions in some work."""
    begun: list[object] = []
    honest = getattr(module, name)
    with monkeypatch.context() as patched:
        patched.setattr(module, name, lambda *a, **k: (begun.append(a[0]), honest(*a, **k))[1])
        work()
    return begun


def test_a_folder_that_is_restored_is_absent_or_whole(source: Path, tmp_path: Path) -> None:
    bale.compress(source)
    back = tmp_path / "back"
    for where in every_kill(lambda: bale.decompress(tmp_path / "model.bale", back), lambda: clear(tmp_path, "back")):
        if back.exists():
            assert contents(back) == contents(source), where
            with pytest.raises(OutputError, match="exists already"):
                bale.decompress(tmp_path / "model.bale", back)
            bale.decompress(tmp_path / "model.bale", back, force=True)
        else:
            bale.decompress(tmp_path / "model.bale", back)
        assert contents(back) == contents(source), where
        assert leftovers(tmp_path) == [], where


@pytest.mark.parametrize("swap", [True, False])
def test_a_folder_that_is_replaced_is_the_old_one_or_the_new_one(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, swap: bool
) -> None:
    if not swap:  # a file system that cannot exchange two names
        monkeypatch.setattr(placing, "exchange", lambda *paths: False)
        monkeypatch.setattr(commit, "exchange", lambda *paths: False)
    bale.compress(source, pipeline="int8", out=tmp_path / "old.bale")
    bale.compress(source)
    back, others = tmp_path / "back", {"mine": sha256(source / "config.json")}
    bale.decompress(tmp_path / "old.bale", tmp_path / "old")
    (tmp_path / "old" / "mine").write_text("{}")

    def stage() -> None:
        clear(tmp_path, "back")
        shutil.copytree(tmp_path / "old", back)

    stage()
    old, new = contents(back), contents(source) | others
    for where in every_kill(lambda: bale.decompress(tmp_path / "model.bale", back, force=True), stage):
        if swap or back.exists():
            assert contents(back) in (old, new), where
        bale.decompress(tmp_path / "model.bale", back, force=True)
        assert contents(back) == new, where
        assert leftovers(tmp_path) == [], where


def test_what_a_killed_run_has_restored_is_not_restored_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bale.compress(source)
    stored, back = tmp_path / "model.bale", tmp_path / "back"
    for at in range(1, 3):
        assert killed(lambda: bale.decompress(stored, back), [(restoring, "restore_file")], at, after=False)
        assert not back.exists()
        assert len(counted(monkeypatch, restoring, "restore_file", lambda: bale.decompress(stored, back))) == 3 - at
        assert contents(back) == contents(source)
        clear(tmp_path, "back")


def _damage(tree: Path) -> None:
    path = next(tree.glob("*.safetensors"), None) or next(tree.rglob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"x")


def _cut(tree: Path) -> None:
    path = next(tree.rglob("*.safetensors"))
    os.truncate(path, 10)


def _add(tree: Path) -> None:
    (tree / "sub").mkdir(exist_ok=True)
    (tree / "sub" / "added").write_text("not of the archive")
    (tree / "link").symlink_to("/")


@pytest.mark.parametrize("change", [_damage, _cut, _add])
def test_what_a_killed_run_has_left_is_believed_only_as_far_as_it_is_right(
    source: Path, tmp_path: Path, change: Callable[[Path], None]
) -> None:
    bale.compress(source)
    stored, back = tmp_path / "model.bale", tmp_path / "back"
    assert killed(lambda: bale.decompress(stored, back), [(restoring, "restore_file")], 2, after=False)
    (temporary,) = tmp_path.glob(f"{PREFIX}*")
    change(temporary / TREE)
    bale.decompress(stored, back)
    assert contents(back) == contents(source)
    assert leftovers(tmp_path) == []


@pytest.mark.parametrize("other", ["archive", "layers", "target"])
def test_what_was_left_of_other_work_is_not_taken_over(source: Path, tmp_path: Path, other: str) -> None:
    bale.compress(source, pipeline="int4/exact")
    bale.compress(source, pipeline="int8", out=tmp_path / "other.bale")
    stored, back = tmp_path / "model.bale", tmp_path / "back"
    assert killed(lambda: bale.decompress(stored, back), [(restoring, "restore_file")], 2, after=False)
    if other == "archive":
        bale.decompress(tmp_path / "other.bale", back)
    elif other == "layers":
        bale.decompress(stored, back, layers=1)
    else:
        bale.decompress(stored, tmp_path / "elsewhere")
        assert contents(tmp_path / "elsewhere") == contents(source)
    assert leftovers(tmp_path) == []
    if other != "target":
        assert contents(back).keys() == contents(source).keys()
        assert contents(back)["a.safetensors"] != sha256(source / "a.safetensors")


def test_a_folder_restored_by_half_says_so(source: Path, tmp_path: Path) -> None:
    bale.compress(source)
    stored, back = tmp_path / "model.bale", tmp_path / "back"
    assert killed(lambda: bale.decompress(stored, back), [(restoring, "restore_file")], 2, after=False)
    (temporary,) = tmp_path.glob(f"{PREFIX}*")
    for folder in (temporary, temporary / TREE):
        for verb in (bale.verify, bale.decompress, bale.open):
            with pytest.raises(ArchiveError, match="incomplete"):
                verb(folder, tmp_path / "x") if verb is bale.decompress else verb(folder)
        for work in (bale.inspect, bale.plan, bale.compress, lambda path: bale.compare(path, source)):
            with pytest.raises(SourceError, match="incomplete"):
                work(folder)


def test_a_folder_that_cannot_be_renamed_tells_until_its_last_file_is_there(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One stands in it: its files are moved to their places one by one."""
    bale.compress(source)
    stored, back = tmp_path / "model.bale", tmp_path / "back"

    def stage() -> None:
        monkeypatch.chdir(tmp_path)
        clear(tmp_path, "back")
        back.mkdir()
        monkeypatch.chdir(back)

    for where in every_kill(lambda: bale.decompress(stored, "."), stage):
        there = {name: digest for name, digest in contents(back).items() if not name.startswith(PREFIX)}
        if there and there != contents(source):
            with pytest.raises(SourceError, match="incomplete"):
                bale.inspect(back)
        whole = there == contents(source) and not list(back.glob(f"{PREFIX}*/{BEGUN}"))
        bale.decompress(stored, ".", force=whole)
        assert os.path.samefile(".", back), where
        assert contents(back) == contents(source), where
        assert leftovers(tmp_path) == [], where


def test_a_half_moved_folder_is_ended_from_elsewhere_and_keeps_what_came_into_it(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bale.compress(source)
    stored, back = tmp_path / "model.bale", tmp_path / "back"
    back.mkdir()
    monkeypatch.chdir(back)
    assert killed(lambda: bale.decompress(stored, "."), [(placing.os, "replace")], 3, after=True)
    monkeypatch.chdir(tmp_path)
    there = [name for name in contents(back) if not name.startswith(PREFIX)]
    assert there
    (back / "mine").write_text("precious")
    with pytest.raises(OutputError, match="exists already"):
        bale.decompress(stored, back)
    bale.decompress(stored, back, force=True)
    assert contents(back).keys() == {*contents(source), "mine"}
    assert (back / "mine").read_text() == "precious"


def test_a_folder_that_is_compressed_is_incomplete_or_whole(source: Path, tmp_path: Path) -> None:
    bale.compress(source, tmp_path / "whole")
    expected = contents(tmp_path / "whole")
    out, report = tmp_path / "out", tmp_path / "out.report.json"
    for where in every_kill(lambda: bale.compress(source, out), lambda: clear(tmp_path, "out", report.name)):
        record = out / RECORD
        if record.exists() and json.loads(record.read_bytes())["complete"]:
            assert bale.verify(out).report == "matches", where
            bale.compress(source, out, force=True)
        else:
            bale.compress(source, out)  # without force
        assert contents(out) == expected, where
        assert leftovers(tmp_path) == [], where


def test_finished_files_of_a_killed_run_are_not_made_again(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stand in the journal only: the record is not written in between."""
    bale.compress(source, tmp_path / "whole")
    out = tmp_path / "out"
    assert killed(lambda: bale.compress(source, out), [(writer, "compress_file")], 2, after=False)
    assert json.loads((out / RECORD).read_bytes())["files"] == {}
    assert len(counted(monkeypatch, writer, "compress_file", lambda: bale.compress(source, out))) == 1
    assert contents(out) == contents(tmp_path / "whole")


def test_a_complete_folder_that_is_written_over_is_incomplete_until_the_run_ends(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And is gone on with by the same command."""
    out = tmp_path / "out"
    bale.compress(source, tmp_path / "whole", pipeline="int8")
    bale.compress(source, out)
    work = lambda: bale.compress(source, out, pipeline="int8", force=True)  # noqa: E731
    assert killed(work, [(writer, "compress_file")], 2, after=False)
    with pytest.raises(ArchiveError, match="incomplete"):
        bale.verify(out)
    assert len(counted(monkeypatch, writer, "compress_file", work)) == 1
    assert contents(out) == contents(tmp_path / "whole")
    assert bale.verify(out).report == "matches"


def test_a_report_without_its_archive_stands_in_nobodys_way(source: Path, tmp_path: Path) -> None:
    one = source / "a.safetensors"
    out, report = tmp_path / "a.bale", tmp_path / "a.bale.report.json"
    orphans = 0
    for where in every_kill(lambda: bale.compress(one, out), lambda: clear(tmp_path, "a.bale", report.name)):
        if out.exists():
            assert bale.verify(out).report == "matches", where
        else:
            orphans += report.exists()
            bale.compress(one, out)
            assert bale.verify(out).report == "matches", where
    assert orphans == 1  # before the archive's name


def test_a_kill_between_report_and_archive_is_told(source: Path, tmp_path: Path) -> None:
    """Two files cannot change in one step; the window is that between two calls."""
    one = source / "a.safetensors"
    out, report = tmp_path / "a.bale", tmp_path / "a.bale.report.json"
    bale.compress(one, out, pipeline="int8")
    (tmp_path / "kept").mkdir()
    for path in (out, report):
        shutil.copy(path, tmp_path / "kept")

    def stage() -> None:
        shutil.copytree(tmp_path / "kept", tmp_path, dirs_exist_ok=True)

    old = sha256(out)
    told = []
    for where in every_kill(lambda: bale.compress(one, out, force=True), stage):
        found = bale.verify(out).report
        if found != "matches":
            assert sha256(out) == old, where
            told.append(where)
        bale.compress(one, out, force=True)
        assert bale.verify(out).report == "matches", where
    assert len(told) == 1


def test_the_old_folder_comes_back_where_a_kill_has_left_none(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any run that looks for leftovers there brings it back, not only one of the same work."""
    monkeypatch.setattr(placing, "exchange", lambda *paths: False)
    bale.compress(source)
    back = tmp_path / "back"
    back.mkdir()
    (back / "mine").write_text("precious")
    work = lambda: bale.decompress(tmp_path / "model.bale", back, force=True)  # noqa: E731
    assert killed(work, [(placing.os, "rename")], 1, after=True)
    assert not back.exists()
    assert [path.name for path in tmp_path.glob(f"{PREFIX}*/{BEGUN}")]
    bale.compress(source / "a.safetensors", tmp_path / "another.bale")
    assert contents(back) == {"mine": sha256(back / "mine")}
    assert leftovers(tmp_path) == []

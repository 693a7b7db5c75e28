"""Folders there and back, and interrupted runs. Forged ones are in io/test_folder.py."""

from __future__ import annotations

import errno
import json
import os
import resource
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import bale
from bale.api import compressing
from bale.engine.folder import compressing as folder_compressing
from bale.engine.folder import restoring, verifying, writer
from bale.engine.folder.writer import FolderWriter
from bale.engine.reading.listing import SourceFolder
from bale.errors import ArchiveError, CheckFailed, OutputError, SourceError
from bale.io.folders.record import RECORD, Entry, Record
from bale.io.storage.commit import Target
from bale.io.storage.leftovers import lock_folder
from tests.making import bf16, names_in, sha256, weights, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three shards with their index, side files, a folder in the folder, and a link to a file."""
    made = tmp_path / "model"
    (made / "tokenizer").mkdir(parents=True)
    shards = {}
    for n in (1, 2, 3):
        name = f"model-{n}.safetensors"
        write(made / name, {f"layers.{n}.weight": bf16(weights(80, 64, seed=n)), f"layers.{n}.bias": weights(64)})
        shards |= {f"layers.{n}.weight": name, f"layers.{n}.bias": name}
    (made / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (made / "config.json").write_text("{}")
    (made / "empty").touch()
    (made / "tokenizer" / "vocab.txt").write_text("a\nb\n")
    (made / "tokenizer" / "link").symlink_to("vocab.txt")
    (made / "config.json").chmod(0o640)
    os.utime(made / "config.json", (1, 1_000_000_000))
    return made


def contents(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): sha256(path) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("choice", [None, "int8"])
def test_there_and_back(source: Path, tmp_path: Path, choice: str | None) -> None:
    report = bale.compress(source, pipeline=choice)
    stored = tmp_path / ("model.bale" if choice is None else "model.lossy.bale")
    assert Path(f"{stored}.report.json").is_file()
    expected = {name if not name.endswith(".safetensors") else f"{name}.bale" for name in contents(source)} | {RECORD}
    assert contents(stored).keys() == expected
    done = bale.verify(stored, source)
    assert (done.files, done.tensors, done.exact) == (len(expected) - 1, 6, choice is None)
    back = bale.decompress(stored, tmp_path / "back")
    assert sorted(str(path.relative_to(tmp_path / "back")) for path in back.files) == sorted(contents(source))
    before, after = contents(source), contents(tmp_path / "back")
    if choice is None:
        assert before == after
    else:
        assert {name for name in before if before[name] != after[name]} == {f"model-{n}.safetensors" for n in (1, 2, 3)}
    assert not (tmp_path / "back" / "tokenizer" / "link").is_symlink()
    assert (tmp_path / "back" / "config.json").stat().st_mode & 0o777 == 0o640
    assert (tmp_path / "back" / "config.json").stat().st_mtime == 1_000_000_000
    assert report.side_bytes == sum(
        (source / name).stat().st_size for name in before if not name.endswith(".safetensors")
    )


def test_the_record(source: Path, tmp_path: Path) -> None:
    bale.compress(source)
    record = json.loads((tmp_path / "model.bale" / RECORD).read_text())
    assert record["complete"] is True
    assert record["files"].keys() == contents(source).keys()
    for name, digest in contents(source).items():
        entry = record["files"][name]
        assert entry["source"] == {"bytes": (source / name).stat().st_size, "sha256": digest}
        stored = tmp_path / "model.bale" / entry["stored"]
        assert entry["archive"] == {"bytes": stored.stat().st_size, "sha256": sha256(stored)}
        assert entry["kind"] == ("safetensors" if name.endswith(".safetensors") else "copy")


def test_folders_that_hold_nothing_come_back(source: Path, tmp_path: Path) -> None:
    for name in ("logs", "a/b/c"):
        (source / name).mkdir(parents=True)
    bale.compress(source)
    stored, back = tmp_path / "model.bale", tmp_path / "back"
    assert json.loads((stored / RECORD).read_text())["folders"] == ["a/b/c", "logs"]
    for force in (False, True):
        bale.decompress(stored, back, force=force)
        assert names_in(back) == names_in(source)
        (back / "logs").rmdir()
    (back / "logs").symlink_to(tmp_path)
    with pytest.raises(OutputError, match="leads out of"):
        bale.decompress(stored, back, force=True)
    bale.verify(stored, source)
    assert bale.compress(source, skip_existing=True).skipped
    (source / "new").mkdir()
    with pytest.raises(OutputError, match="other empty folders"):
        bale.compress(source, skip_existing=True)
    bale.compress(source, exclude=["a/*", "logs/", "new/*"], force=True)
    assert "folders" not in json.loads((stored / RECORD).read_text())


def test_files_of_others_in_a_folder_that_is_written_over_are_told(source: Path, tmp_path: Path) -> None:
    stored = tmp_path / "model.bale"
    assert "not-own" not in bale.compress(source).to_json()["note_kinds"]
    (source / "config.json").unlink()  # what was stored of it is no stranger's, and goes
    for name in ("notes.txt", "tokenizer/mine"):
        (stored / name).write_text("mine")
    notes = bale.compress(source, force=True).to_json()["notes"]
    assert "2 files, such as notes.txt, are in model.bale and not of it: left there, and in no sum" in notes
    (stored / "tokenizer/mine").unlink()
    notes = bale.compress(source, force=True).to_json()["notes"]
    assert "notes.txt is in model.bale and not of it: left there, and in no sum" in notes
    assert (stored / "notes.txt").read_text() == "mine"
    assert not (stored / "config.json").exists()


class Interrupted(BaseException):
    """Like a signal: nothing catches it."""


def interrupt_at(monkeypatch: pytest.MonkeyPatch, call: int) -> list[str]:
    """Let the call'th weights file fail while it is compressed; the names of those that were begun."""
    begun: list[str] = []
    honest = writer.compress_file

    def counting(resolved: object, *arguments: object, **more: object) -> object:
        begun.append(resolved.checkpoint.path.name)  # type: ignore[attr-defined]
        if len(begun) == call:
            raise Interrupted
        return honest(resolved, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(writer, "compress_file", counting)
    return begun


@pytest.mark.parametrize("call", [1, 2, 3])
def test_an_interrupted_run_goes_on(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: int) -> None:
    bale.compress(source, tmp_path / "whole", pipeline="int8")
    with monkeypatch.context() as patched:
        interrupt_at(patched, call)
        with pytest.raises(Interrupted):
            bale.compress(source, tmp_path / "parts", pipeline="int8")
    with pytest.raises(ArchiveError, match="interrupted"):
        bale.decompress(tmp_path / "parts", tmp_path / "back")
    with monkeypatch.context() as patched:
        begun = interrupt_at(patched, 99)
        report = bale.compress(source, tmp_path / "parts", pipeline="int8").to_json()
        assert len(begun) == 4 - call
    assert contents(tmp_path / "whole") == contents(tmp_path / "parts")
    whole = json.loads((tmp_path / "whole.report.json").read_text())
    for key in ("totals", "files", "side_bytes", "verified"):
        assert report[key] == whole[key]


def _other_choice(source: Path, stored: Path) -> dict[str, object]:
    return {"pipeline": "int4"}


def _no_longer_unverified(source: Path, stored: Path) -> dict[str, object]:
    return {"pipeline": "int8", "verify": True}


def _changed_source(source: Path, stored: Path) -> dict[str, object]:
    shard = {"layers.1.weight": bf16(weights(80, 64, seed=77)), "layers.1.bias": weights(64)}
    write(source / "model-1.safetensors", shard)
    return {"pipeline": "int8", "verify": False}


def _damaged_archive(source: Path, stored: Path) -> dict[str, object]:
    path = stored / "model-1.safetensors.bale"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return {"pipeline": "int8", "verify": False}


def _removed_archive(source: Path, stored: Path) -> dict[str, object]:
    (stored / "model-1.safetensors.bale").unlink()
    return {"pipeline": "int8", "verify": False}


@pytest.mark.parametrize(
    "change", [_other_choice, _no_longer_unverified, _changed_source, _damaged_archive, _removed_archive]
)
def test_what_is_not_what_would_be_made_is_made_again(
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Path, Path], dict[str, object]],
) -> None:
    with monkeypatch.context() as patched:
        interrupt_at(patched, 2)
        with pytest.raises(Interrupted):
            bale.compress(source, tmp_path / "parts", pipeline="int8", verify=False)
    choices = change(source, tmp_path / "parts")
    if change in (_other_choice, _no_longer_unverified):
        before = contents(tmp_path / "parts")
        with pytest.raises(OutputError, match=r"begun with other choices, by which it has model-1.safetensors.bale"):
            bale.compress(source, tmp_path / "parts", **choices)  # type: ignore[arg-type]
        assert contents(tmp_path / "parts") == before
        choices["force"] = True
    with monkeypatch.context() as patched:
        begun = interrupt_at(patched, 99)
        bale.compress(source, tmp_path / "parts", **choices)  # type: ignore[arg-type]
        assert begun == [f"model-{n}.safetensors" for n in (1, 2, 3)]
    bale.verify(tmp_path / "parts", source)


def test_a_finished_folder_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    bale.compress(source)
    before = contents(tmp_path / "model.bale")
    with pytest.raises(OutputError, match="exists already"):
        bale.compress(source)
    assert contents(tmp_path / "model.bale") == before
    bale.compress(source, force=True)
    assert contents(tmp_path / "model.bale") == before
    (source / "empty").unlink()
    (tmp_path / "model.bale" / "mine").write_text("kept")
    bale.compress(source, force=True)
    assert contents(tmp_path / "model.bale").keys() == before.keys() - {"empty"} | {"mine"}


def test_somebodys_folder_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("precious")
    for force in (False, True):
        with pytest.raises(OutputError):
            bale.compress(source, out, force=force)
    assert names_in(out) == ["mine"]
    (out / "mine").unlink()
    bale.compress(source, out)
    bale.verify(out)


@pytest.mark.parametrize("place", ["", "inside", "tokenizer"])
def test_a_target_in_the_source(source: Path, place: str) -> None:
    before = contents(source)
    with pytest.raises(OutputError):
        bale.compress(source, source / place, report=source.parent / "r.json", force=True)
    assert contents(source) == before


def test_a_compressed_folder_is_not_compressed_again(source: Path, tmp_path: Path) -> None:
    bale.compress(source)
    with pytest.raises(SourceError, match="compressed folder already"):
        bale.compress(tmp_path / "model.bale")


def _missing(stored: Path) -> None:
    (stored / "tokenizer" / "vocab.txt").unlink()


def _missing_archive(stored: Path) -> None:
    (stored / "model-3.safetensors.bale").unlink()


def _changed(stored: Path) -> None:
    (stored / "config.json").write_text("[]")


def _changed_archive(stored: Path) -> None:
    path = stored / "model-3.safetensors.bale"
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def _swapped(stored: Path) -> None:
    """Both are sound bales."""
    one, other = stored / "model-2.safetensors.bale", stored / "model-3.safetensors.bale"
    one.rename(stored / "x")
    other.rename(one)
    (stored / "x").rename(other)


def _linked(stored: Path) -> None:
    path = stored / "model-3.safetensors.bale"
    path.rename(stored.parent / "elsewhere")
    path.symlink_to(stored.parent / "elsewhere")


@pytest.mark.parametrize("damage", [_missing, _missing_archive, _changed, _changed_archive, _swapped, _linked])
def test_a_missing_or_changed_file(source: Path, tmp_path: Path, damage: Callable[[Path], None]) -> None:
    bale.compress(source)
    damage(tmp_path / "model.bale")
    with pytest.raises(ArchiveError):
        bale.verify(tmp_path / "model.bale")
    with pytest.raises(ArchiveError):
        bale.decompress(tmp_path / "model.bale", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_verify_against_another_folder(source: Path, tmp_path: Path) -> None:
    bale.compress(source)
    stored = tmp_path / "model.bale"
    (source / "config.json").write_text("[]")
    with pytest.raises(CheckFailed, match=r"config\.json"):
        bale.verify(stored, source)
    (source / "config.json").unlink()
    with pytest.raises(CheckFailed, match=r"has no config\.json"):
        bale.verify(stored, source)
    with pytest.raises(SourceError, match="not a folder"):
        bale.verify(stored, source / "empty")


def test_into_a_folder_that_holds_something(source: Path, tmp_path: Path) -> None:
    bale.compress(source)
    back = tmp_path / "back"
    back.mkdir()
    (back / "config.json").write_text("mine")
    with pytest.raises(OutputError, match="exists already"):
        bale.decompress(tmp_path / "model.bale", back)
    assert contents(back).keys() == {"config.json"}
    bale.decompress(tmp_path / "model.bale", back, force=True)
    assert contents(back) == contents(source)


def test_rules_are_for_all_shards_together(source: Path) -> None:
    report = bale.compress(source, rules=["layers.2.weight=int8", "layers.3.*=int4"]).to_json()
    assert {row["name"]: row["pipeline"] for row in report["tensors"]} == {
        "layers.1.weight": "lossless",
        "layers.1.bias": "lossless",
        "layers.2.weight": "int8",
        "layers.2.bias": "lossless",
        "layers.3.weight": "int4",
        "layers.3.bias": "int4",
    }


def test_two_entries_that_changed_places(source: Path, tmp_path: Path) -> None:
    """Each archive is sound and each digest is of some file, but the weights would come back under the wrong name."""
    bale.compress(source)
    path = tmp_path / "model.bale" / RECORD
    data = json.loads(path.read_text())
    one, other = (data["files"][f"model-{n}.safetensors"] for n in (1, 2))
    one["source"], other["source"] = other["source"], one["source"]
    path.write_text(json.dumps(data))
    with pytest.raises(ArchiveError, match="not of the source"):
        bale.verify(tmp_path / "model.bale")
    with pytest.raises(ArchiveError, match="not of the source"):
        bale.decompress(tmp_path / "model.bale", tmp_path / "back")
    assert not (tmp_path / "back").exists()


def test_a_run_into_an_empty_folder_goes_on(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / f".bale-tmp-{0:016x}").touch()
    with monkeypatch.context() as patched:
        patched.setattr(writer, "copy_file", _interrupt)
        with pytest.raises(Interrupted):
            bale.compress(source, out)
    bale.compress(source, out)
    bale.verify(out, source)


def _interrupt(*_: object, **__: object) -> None:
    raise Interrupted


def test_overwriting_keeps_the_old_archives_until_there_are_new_ones(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bale.compress(source)
    stored = tmp_path / "model.bale"
    before = contents(stored)
    with monkeypatch.context() as patched:
        interrupt_at(patched, 1)
        with pytest.raises(Interrupted):
            bale.compress(source, force=True)
    after = contents(stored)
    assert after.pop(RECORD) != before.pop(RECORD)  # incomplete now
    assert after == before
    with monkeypatch.context() as patched:
        begun = interrupt_at(patched, 99)
        bale.compress(source, force=True)
        assert len(begun) == 3  # an old archive is not taken for a finished one


def test_going_on_leaves_no_stray_archives(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, outside = tmp_path / "out", tmp_path / "outside"
    outside.mkdir()
    (outside / "vocab.txt").write_text("precious")
    with monkeypatch.context() as patched:
        interrupt_at(patched, 3)
        with pytest.raises(Interrupted):
            bale.compress(source, out)
    for gone in ("model.safetensors.index.json", "model-1.safetensors", "tokenizer/vocab.txt", "tokenizer/link"):
        (source / gone).unlink()
    (out / "tokenizer").rename(tmp_path / "moved")
    (out / "tokenizer").symlink_to(outside)
    bale.compress(source, out)
    names = {"config.json", "empty", "model-2.safetensors.bale", "model-3.safetensors.bale", RECORD}
    assert {path.name for path in out.iterdir() if not path.is_symlink()} == names
    assert names_in(outside) == ["vocab.txt"]


@pytest.mark.parametrize("name", ["x.safetensors", "x.PT", "x.pth", "x.bin", "x.ckpt", "part-1.dat"])
def test_an_empty_weights_file(source: Path, tmp_path: Path, name: str) -> None:
    """By its suffix, or because an index names it."""
    (source / name).touch()
    if name == "part-1.dat":
        (source / "a.index.json").write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(SourceError, match="is empty"):
        bale.compress(source)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("there", [False, True])
def test_an_interrupted_decompress_leaves_nothing(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    bale.compress(source)
    back = tmp_path / "new" / "back"
    if there:
        back.mkdir(parents=True)
        (back / "config.json").write_text("mine")
        (back / "mine").write_text("kept")
    monkeypatch.setattr(restoring, "restore_file", _interrupt)
    with pytest.raises(Interrupted):
        bale.decompress(tmp_path / "model.bale", back, force=there)
    if there:
        assert contents(back).keys() == {"config.json", "mine"}
        assert not (back / "tokenizer").exists()
    else:
        assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("place", [".", "sub", "tokenizer/sub"])
def test_decompress_into_the_archive(source: Path, tmp_path: Path, place: str) -> None:
    bale.compress(source)
    before = contents(tmp_path / "model.bale")
    with pytest.raises(OutputError, match="in the compressed folder"):
        bale.decompress(tmp_path / "model.bale", tmp_path / "model.bale" / place, force=True)
    assert contents(tmp_path / "model.bale") == before


def test_files_that_were_added(source: Path, tmp_path: Path) -> None:
    bale.compress(source)
    stored = tmp_path / "model.bale"
    (stored / "added").write_text("ignored")
    (source / "added.txt").write_text("no weights")
    bale.verify(stored, source)
    for name in ("b.safetensors", "a.safetensors"):
        write(source / name, {"w": weights(8)})
    with pytest.raises(CheckFailed, match=r"does not hold a\.safetensors"):
        bale.verify(stored, source)


# Two runs, and what they cost.


@pytest.mark.parametrize("force", [False, True])
def test_a_second_run_is_refused_and_touches_nothing(source: Path, tmp_path: Path, force: bool) -> None:
    out, back, report = tmp_path / "out", tmp_path / "back", tmp_path / "r.json"
    bale.compress(source)
    if force:
        bale.compress(source, out, report=report)
    else:
        out.mkdir()
    back.mkdir()
    before = contents(tmp_path)
    never = pytest.MonkeyPatch()
    never.setattr(compressing, "resolve_plan", lambda *_, **__: pytest.fail("work was begun"))
    for module in (restoring, verifying):
        never.setattr(module, "check_stored", lambda *_, **__: pytest.fail("work was begun"))
    for place, work in (
        (out, lambda: bale.compress(source, out, report=report, force=force)),
        (out, lambda: bale.compress(source, out, report=report, pipeline="int8", force=force)),
        (back, lambda: bale.decompress(tmp_path / "model.bale", back, force=force)),
    ):
        lock = lock_folder(place, place)
        with pytest.raises(OutputError, match="another run is writing it"):
            work()
        os.close(lock)
    never.undo()
    assert contents(tmp_path) == before
    bale.compress(source, out, report=report, force=force)


def test_the_lock_is_held_until_the_report_is_there(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, seen = tmp_path / "out", []
    honest = folder_compressing.commit_together

    def look(*targets: object) -> None:
        with pytest.raises(OutputError, match="another run"):
            lock_folder(out, out)
        seen.append(len(targets))
        honest(*targets)  # type: ignore[arg-type]

    monkeypatch.setattr(folder_compressing, "commit_together", look)
    bale.compress(source, out)
    assert seen == [2]
    os.close(lock_folder(out, out))


def test_a_link_to_a_folder_is_refused_by_both(source: Path, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    bale.compress(source)
    for force in (False, True):
        with pytest.raises(OutputError, match="symbolic link"):
            bale.compress(source, tmp_path / "link", force=force)
        with pytest.raises(OutputError, match="symbolic link"):
            bale.decompress(tmp_path / "model.bale", tmp_path / "link", force=force)
    assert names_in(tmp_path / "real") == []


def test_files_whose_names_are_like_temporary_ones(source: Path, tmp_path: Path) -> None:
    (source / ".bale-tmp-x").write_text("mine")
    bale.compress(source)
    bale.decompress(tmp_path / "model.bale", tmp_path / "back")
    assert contents(tmp_path / "back") == contents(source)


@pytest.mark.parametrize("verb", ["compress", "decompress"])
@pytest.mark.parametrize("verify", [True, False])
def test_copies_are_read_back(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str, verify: bool
) -> None:
    """A bit flips on the way to the disk."""
    bale.compress(source, tmp_path / "sound")
    honest = writer.copy_file

    def copying(*arguments: Any, **more: Any) -> Any:
        """Only the copies: archives have a check of their own."""
        write = Target.write

        def flipping(self: Target, data: memoryview, at: int) -> None:
            write(self, bytes([data[0] ^ 1]) + bytes(data[1:]), at)

        with monkeypatch.context() as patched:
            patched.setattr(Target, "write", flipping)
            return honest(*arguments, **more)

    monkeypatch.setattr(writer, "copy_file", copying)
    monkeypatch.setattr(restoring, "copy_file", copying)
    out = tmp_path / "out"
    if verb == "decompress":
        with pytest.raises(OutputError, match="read back"):
            bale.decompress(tmp_path / "sound", out)
        assert not out.exists()
    elif verify:
        with pytest.raises(OutputError, match="read back"):
            bale.compress(source, out)
        assert names_in(out) == [RECORD]
    else:
        bale.compress(source, out, verify=False)


def test_a_full_disk_is_told_with_the_bytes_of_the_folder(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "sync_folder", full)
    with pytest.raises(OutputError, match="no space left") as raised:
        bale.compress(source, tmp_path / "out")
    stored = sum(
        path.stat().st_size for path in (tmp_path / "out").rglob("*") if path.is_file() and path.name != RECORD
    )
    assert f"at least {stored} bytes" in raised.value.hint


def calls_of(monkeypatch: pytest.MonkeyPatch, source: Path, out: Path, count: int) -> Counter[str]:
    """System calls of a run over so many side files, and entries of folders that it looks at."""
    source.mkdir()
    write(source / "a.safetensors", {"w": weights(8, 8)})
    for n in range(count):
        (source / f"{n}.txt").write_text(str(n))
    done: Counter[str] = Counter()
    with monkeypatch.context() as patched:
        for name in ("open", "pwrite", "fsync", "link", "unlink", "replace", "scandir", "lstat", "stat", "rename"):
            honest = getattr(os, name)

            def counting(*a: object, honest: Callable[..., object] = honest, name: str = name, **k: object) -> object:
                done[name] += 1
                if name == "scandir":
                    done["entries"] += len(os.listdir(*a))  # type: ignore[call-overload]
                if name == "pwrite":
                    done["bytes"] += len(a[1])  # type: ignore[arg-type]
                return honest(*a, **k)

            patched.setattr(os, name, counting)
        bale.compress(source, out)
        bale.decompress(out, out.with_name("back"))
    shutil.rmtree(source), shutil.rmtree(out), shutil.rmtree(out.with_name("back"))
    out.with_name(f"{out.name}.report.json").unlink()
    return done


def test_the_cost_follows_the_number_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten times the files, at most ten times the calls, the entries that are looked at, and the bytes written."""
    few, many = (calls_of(monkeypatch, tmp_path / "source", tmp_path / "out", count) for count in (20, 200))
    assert few.keys() >= {"open", "pwrite", "fsync", "link", "scandir", "entries", "bytes"}
    for name in few:
        assert many[name] <= 10 * few[name] + 20, name
    assert many["fsync"] < 2 * 200 + 40  # each copy once, in either direction


def test_the_files_of_a_base_are_looked_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not again for each file that is compressed, though the choices of each name the base."""
    made: Counter[int] = Counter()
    honest = os.stat
    for count in (3, 12):
        source, base = tmp_path / f"source{count}", tmp_path / f"base{count}"
        for n in range(count):
            for folder, seed in ((source, n), (base, 100 + n)):
                folder.mkdir(exist_ok=True)
                write(folder / f"{n}.safetensors", {f"w{n}": weights(8, 8, seed=seed)})

        def counting(path: Any, *more: Any, base: Path = base, count: int = count, **named: Any) -> os.stat_result:
            made[count] += str(path).startswith(str(base))
            return honest(path, *more, **named)

        with monkeypatch.context() as patched:
            patched.setattr(os, "stat", counting)
            bale.compress(source, base=base)
            bale.compress(source, base=base, skip_existing=True)
    assert made[12] <= 4 * made[3], made


def test_a_finished_folder_is_compared_in_one_walk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    walks: list[int] = []

    class Walked(tuple[str, ...]):
        def __iter__(self) -> Iterator[str]:
            walks.append(1)
            return super().__iter__()

    entry = Entry("copy", "x", 0, "", 0, "")
    names = Walked(str(n) for n in range(50))
    monkeypatch.setattr(FolderWriter, "is_current", lambda *_: True)
    made = FolderWriter(SourceFolder(tmp_path, {}, {}), {}, tmp_path, *3 * [mock.Mock()])
    assert made.other(Record(True, dict.fromkeys(names, entry)), names) is None
    more = Record(True, {**dict.fromkeys(names, entry), "more": entry})
    assert made.other(more, names) == "it has more, which the source has not"
    assert len(walks) < 10


@pytest.fixture
def few_files() -> Iterator[None]:
    """A process that may have a dozen more files open than it has."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 12, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.parametrize("pipeline", [None, "int8"])
def test_a_folder_may_have_more_files_than_can_be_open(tmp_path: Path, few_files: None, pipeline: str | None) -> None:
    source = tmp_path / "many"
    source.mkdir()
    for n in range(30):
        write(source / f"{n:02}.safetensors", {"w": weights(64, 64, seed=n)})
    bale.plan(source, pipeline=pipeline)
    assert len(bale.compress(source, tmp_path / "out", pipeline=pipeline).files) == 30


def test_a_pool_opens_the_files_that_are_in_it(tmp_path: Path, few_files: None) -> None:
    """And says what is in the way where they are too many."""
    source = tmp_path / "many"
    source.mkdir()
    for n in range(30):
        write(source / f"{n:02}.safetensors", {f"w{n:02}": weights(64, 64, seed=n)})
    pooled = "trellis:bits=4,pool=model"
    bale.plan(source, rules=[f"w0[0-3]={pooled}"])
    with pytest.raises(SourceError, match=r"too many open files; raise the limit \(ulimit -n\)"):
        bale.plan(source, rules=[f"w*={pooled}"])


def test_a_full_disk_names_what_the_whole_folder_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for n in range(4):
        write(folder / f"{n}.safetensors", {"w": weights(256, 256, seed=n)})
    honest = os.pwrite

    def full(descriptor: int, data: bytes, offset: int) -> int:
        if len(data) > 4096 and os.path.exists(tmp_path / "out" / "1.safetensors.bale"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return honest(descriptor, data, offset)

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OutputError, match=r"it needs at least \d+ bytes there, about 87\d\.\d kB in all; free"):
        bale.compress(folder, tmp_path / "out")

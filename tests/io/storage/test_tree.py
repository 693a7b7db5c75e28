"""A folder is there whole or not at all. Runs that are killed are in engine/test_killed.py."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from bale.errors import OutputError
from bale.io.storage import placing, tree
from bale.io.storage.leftovers import PREFIX, lock_folder, temporary_name
from bale.io.storage.tree import TreeTarget, is_incomplete
from tests.making import names_in

NAMES = ["a", "sub/b"]


def target(out: Path, force: bool = False, names: list[str] = NAMES, folders: Sequence[str] = ()) -> TreeTarget:
    return TreeTarget(out, {"work": "test"}, names, 1234, lambda path, size, sha256: path.is_file(), force, folders)


def write(
    out: Path, force: bool = False, meanwhile: Callable[[], object] = lambda: None, folders: Sequence[str] = ()
) -> None:
    with target(out, force, folders=folders) as made:
        for name in NAMES:
            made.place(name).write_text(f"new {name}")
            made.add(name, 1, "")
        meanwhile()
        made.commit()


def test_the_name_appears_with_commit(tmp_path: Path) -> None:
    out = tmp_path / "far" / "out"
    write(out, meanwhile=lambda: os.path.lexists(out) and pytest.fail("it is there too early"))
    assert names_in(tmp_path) == ["far", "far/out", "far/out/a", "far/out/sub", "far/out/sub/b"]
    assert out.stat().st_mode & 0o777 == (tmp_path / "far").stat().st_mode & 0o777


@pytest.mark.parametrize("there", [False, True])
def test_without_commit_nothing_is_left(tmp_path: Path, there: bool) -> None:
    out = tmp_path / "far" / "out"
    if there:
        (out / "sub").mkdir(parents=True)
        (out / "a").write_text("old")
    before = names_in(tmp_path)

    def interrupted() -> None:
        with target(out, force=there) as made:
            made.place("sub/b").write_text("new")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names_in(tmp_path) == before


def test_an_empty_folder_is_filled_and_keeps_its_mode(tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir(mode=0o750)
    (out / f"{PREFIX}{1:016x}").write_text("left by a killed run")
    write(out)
    assert names_in(out) == ["a", "sub", "sub/b"]
    assert out.stat().st_mode & 0o777 == 0o750


def test_what_is_in_a_folder_that_is_replaced_stays_in_it(tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "sub" / "deep").mkdir(parents=True)
    (out / "empty").mkdir(mode=0o700)
    (out / "a").write_text("old")
    (out / "sub" / "deep" / "mine").write_text("precious")
    (out / "link").symlink_to("nowhere")
    (out / "folder").symlink_to("/")
    os.mkfifo(out / "fifo")
    out.chmod(0o711)
    inode = (out / "sub" / "deep" / "mine").stat().st_ino
    with pytest.raises(OutputError, match="exists already"):
        write(out)
    write(out, force=True)
    others = ["empty", "fifo", "folder", "link", "sub/deep", "sub/deep/mine"]
    assert names_in(out) == sorted(["a", "sub", "sub/b", *others])
    assert (out / "a").read_text() == "new a"
    assert (out / "sub" / "deep" / "mine").stat().st_ino == inode
    assert os.readlink(out / "link") == "nowhere"
    assert stat.S_ISFIFO((out / "fifo").stat().st_mode)
    assert (out.stat().st_mode & 0o777, (out / "empty").stat().st_mode & 0o777) == (0o711, 0o700)
    assert names_in(tmp_path)[0] == "out"


def test_a_file_system_without_links_and_exchanges(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(*paths: object, **more: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("precious")
    (out / "link").symlink_to("mine")
    os.utime(out / "mine", (1, 2))
    monkeypatch.setattr(os, "link", unable)
    monkeypatch.setattr(placing, "exchange", lambda *paths: False)
    write(out, force=True)
    assert names_in(tmp_path) == ["out", "out/a", "out/link", "out/mine", "out/sub", "out/sub/b"]
    assert (out / "mine").read_text() == "precious"
    assert (out / "mine").stat().st_mtime == 2
    assert (out / "link").is_symlink()


def test_what_comes_into_the_old_folder_meanwhile_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("precious")
    honest = placing.exchange

    def late(one: Path, other: Path) -> bool:
        (out / "late").write_text("precious too")
        return honest(one, other)

    monkeypatch.setattr(placing, "exchange", late)
    write(out, force=True)
    assert names_in(out) == ["a", "late", "mine", "sub", "sub/b"]


@pytest.mark.parametrize("kind", ["file", "folder", "empty folder"])
@pytest.mark.parametrize("empty", [False, True])
def test_what_appears_meanwhile_is_not_replaced(tmp_path: Path, kind: str, empty: bool) -> None:
    out = tmp_path / "out"
    if empty:
        out.mkdir()

    def appear() -> None:
        if empty:
            out.rmdir()
        if kind == "file":
            out.write_text("precious")
        else:
            out.mkdir()
        if kind == "folder":
            (out / "mine").write_text("precious")

    if kind == "empty folder" and empty:
        write(out, meanwhile=appear)  # as good as the one before
        return
    with pytest.raises(OutputError, match="exists already"):
        write(out, meanwhile=appear)
    assert names_in(tmp_path) == (["out", "out/mine"] if kind == "folder" else ["out"])


def test_what_appears_in_a_folder_that_cannot_be_renamed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)
    with pytest.raises(OutputError, match="exists already"):
        write(out, meanwhile=lambda: (out / "a").write_text("precious"))
    assert names_in(out) == ["a"]
    assert (out / "a").read_text() == "precious"


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("there", [False, True])
def test_a_second_run_is_refused_and_touches_nothing(tmp_path: Path, there: bool, force: bool) -> None:
    out = tmp_path / "out"
    if there:
        out.mkdir()
        if force:
            (out / "mine").write_text("precious")

    def second() -> None:
        before = names_in(tmp_path)
        with pytest.raises(OutputError, match="another run is writing it"):
            write(out, force)
        assert names_in(tmp_path) == before

    write(out, force, meanwhile=second)
    assert (out / "a").exists()


def test_a_run_that_was_first_to_make_it_and_second_to_lock_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between its two calls another run has taken the temporary folder."""
    honest, taken = tree.lock_folder, []

    def late(path: Path, told: Path) -> int:
        if not taken:
            taken.append(lock_folder(path, told))
        return honest(path, told)

    monkeypatch.setattr(tree, "lock_folder", late)
    with pytest.raises(OutputError, match="another run is writing it"):
        write(tmp_path / "out")
    assert [Path(name).name for name in names_in(tmp_path)] == [temporary_name("tree out")]  # the other's
    os.close(taken[0])
    write(tmp_path / "out")
    assert names_in(tmp_path) == ["out", "out/a", "out/sub", "out/sub/b"]


def test_a_temporary_folder_that_is_removed_meanwhile_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    honest, seen = tree.lock_folder, []

    def late(path: Path, told: Path) -> int:
        if not seen:
            seen.append(path)
            path.rmdir()
        return honest(path, told)

    monkeypatch.setattr(tree, "lock_folder", late)
    write(tmp_path / "out")
    assert seen
    assert (tmp_path / "out" / "a").exists()


def _link(out: Path) -> None:
    out.rename(out.parent / "real")
    out.symlink_to("real")


def _file(out: Path) -> None:
    out.rmdir()
    out.write_text("precious")


def _dangling(out: Path) -> None:
    out.rmdir()
    out.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("make", "word"), [(_link, "symbolic link"), (_dangling, "symbolic link"), (_file, "no folder")]
)
def test_what_is_no_folder(tmp_path: Path, make: Callable[[Path], None], word: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    make(out)
    before = names_in(tmp_path)
    for force in (False, True):
        with pytest.raises(OutputError, match=word):
            write(out, force)
    assert names_in(tmp_path) == before


def _outwards(out: Path) -> None:
    (out / "sub").symlink_to("..")


def _inwards(out: Path) -> None:
    (out / "other").mkdir()
    (out / "sub").symlink_to("other")


def _in_the_way(out: Path) -> None:
    (out / "sub").write_text("precious")


def _folder(out: Path) -> None:
    (out / "a" / "mine").mkdir(parents=True)


def _link_to_a_file(out: Path) -> None:
    (out.parent / "file").write_text("precious")
    (out / "a").symlink_to("../file")


def _fifo(out: Path) -> None:
    os.mkfifo(out / "a")


@pytest.mark.parametrize(
    ("make", "word"),
    [
        (_outwards, "leads out of"),
        (_inwards, "is a link within"),
        (_in_the_way, "it is a file"),
        (_folder, "it is a folder"),
        (_link_to_a_file, "it is a symbolic link"),
        (_fifo, "it is no regular file"),
    ],
)
def test_what_stands_where_files_are_to_be(tmp_path: Path, make: Callable[[Path], None], word: str) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("precious")
    make(out)
    before = names_in(tmp_path)
    with pytest.raises(OutputError, match=word):
        write(out, force=True)
    assert names_in(tmp_path) == before


@pytest.mark.parametrize("force", [False, True])
def test_a_temporary_name_that_could_not_be_removed_does_not_come_along(tmp_path: Path, force: bool) -> None:
    out = tmp_path / "out"
    if force:
        out.mkdir()
        (out / "mine").write_text("precious")
    leftover = tmp_path / temporary_name("tree out") / "tree" / "sub" / temporary_name()
    write(out, force, meanwhile=lambda: leftover.write_text("a second name of a file"))
    assert [name for name in names_in(out) if PREFIX in name] == []


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("call", ["sync_folder", "rename"])
def test_a_failing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool, call: str) -> None:
    out = tmp_path / "out"
    if force:
        out.mkdir()
        (out / "a").write_text("old")
    before = names_in(tmp_path)

    def fail(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    if call == "rename":
        monkeypatch.setattr(placing, "exchange", fail)
        monkeypatch.setattr(placing, "rename_new", fail)
    else:
        monkeypatch.setattr(placing, "sync_folder", fail)
    with pytest.raises(OutputError, match="no space left") as raised:
        write(out, force)
    assert "at least 1234 bytes" in raised.value.hint
    assert names_in(tmp_path) == before
    assert not force or (out / "a").read_text() == "old"


def _stand_in_it(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(out)


def _stand_below(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (out / "below").mkdir()
    monkeypatch.chdir(out / "below")


def _read_only(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = os.access
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != out.parent and honest(path, mode))


def _mount(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "_mounts", lambda place: [Path("/"), out.resolve()])


def _mount_below(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (out / "data").mkdir()
    monkeypatch.setattr(placing, "_mounts", lambda place: [(out / "data").resolve()])


def _lower_layer(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: object) -> bool:
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(placing, "exchange", refuse)


@pytest.mark.parametrize("why", [_stand_in_it, _stand_below, _read_only, _mount, _mount_below, _lower_layer])
def test_a_folder_that_cannot_be_renamed_stays_the_same_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: Callable[[Path, pytest.MonkeyPatch], None]
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("precious")
    (out / "a").write_text("old")
    inode = out.stat().st_ino
    why(out, monkeypatch)
    write(out, force=True, folders=["logs/old"])
    assert out.stat().st_ino == inode
    expected = {"a", "logs", "logs/old", "mine", "sub", "sub/b"}
    assert expected <= set(names_in(out)) <= {*expected, "below", "data"}
    assert (out / "a").read_text() == "new a"
    assert not is_incomplete(out)


def test_files_that_could_not_all_be_moved_in_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)

    def fail(old: Path, new: Path) -> None:
        if new.name == "b":
            raise OSError(errno.EIO, "Input/output error")
        os.rename(old, new)

    with monkeypatch.context() as patched:
        patched.setattr(placing.os, "replace", fail)
        with pytest.raises(OutputError, match="input/output error"):
            write(out)
    assert (out / "a").exists()
    assert is_incomplete(out)
    write(out)
    assert not is_incomplete(out)
    assert names_in(out) == ["a", "sub", "sub/b"]


def test_mounts_are_those_of_the_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b"1 0 8:1 / / rw - ext4 x rw\n2 1 8:1 /x /mnt/a\\040b\\134\xff rw - ext4 x rw\n"
    monkeypatch.setattr(Path, "read_bytes", lambda path: lines)
    assert list(placing._mounts(tmp_path)) == [Path("/"), Path("/mnt/a b\\\udcff")]

    def none(path: Path) -> bytes:
        raise FileNotFoundError

    monkeypatch.setattr(Path, "read_bytes", none)
    assert list(placing._mounts(tmp_path)) == []


def test_the_parts_of_a_run_are_incomplete_and_nothing_else_is(tmp_path: Path) -> None:
    out = tmp_path / "out"

    def look() -> None:
        temporary = tmp_path / temporary_name("tree out")
        assert is_incomplete(temporary)
        assert is_incomplete(temporary / "tree")
        assert not is_incomplete(tmp_path)

    write(out, meanwhile=look)
    (out / "begun.json").write_text('{"name": "out"}')
    (out / "tree").mkdir()
    assert not is_incomplete(out)
    assert not is_incomplete(out / "tree")
    assert not is_incomplete(tmp_path / "none")

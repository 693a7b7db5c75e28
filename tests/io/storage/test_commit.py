"""A file is there whole or not at all. What may be a target is in cli/test_targets.py."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from bale.errors import OutputError
from bale.io.storage import commit
from bale.io.storage.commit import Target, commit_together, write_file
from bale.io.storage.leftovers import PREFIX, temporary_name, try_lock
from tests.making import names_in


def test_the_name_appears_with_commit(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with Target(path, None) as target:
        target.write(b"data", 0)
        assert not path.exists()
        assert [name[: len(PREFIX)] for name in names_in(tmp_path)] == [PREFIX]
        target.commit()
    assert path.read_bytes() == b"data"
    assert names_in(tmp_path) == ["out"]


def test_without_commit_nothing_is_left(tmp_path: Path) -> None:
    def interrupted() -> None:
        with Target(tmp_path / "out", None) as target:
            target.write(b"data", 0)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert names_in(tmp_path) == []


def test_force_keeps_the_old_file_until_the_new_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_bytes(b"old")
    with pytest.raises(OutputError), Target(path, None):
        pass
    with Target(path, None, force=True) as target:
        target.write(b"new", 0)
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"old"
    with Target(path, None, force=True) as target:
        target.write(b"new", 0)
        target.commit()
    assert path.read_bytes() == b"new"


def test_a_target_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "out"
    with Target(path, None) as target:
        path.write_bytes(b"somebody's")
        with pytest.raises(OutputError, match="exists already"):
            target.commit()
    assert path.read_bytes() == b"somebody's"
    assert names_in(tmp_path) == ["out"]


def test_the_order_is_write_sync_rename_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[str] = []
    for module, name in ((os, "fsync"), (os, "link"), (commit, "exchange")):
        honest = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *a, honest=honest, name=name: (done.append(name), honest(*a))[1])
    write_file(tmp_path / "out", b"data")
    write_file(tmp_path / "out", b"data", force=True)
    assert done == ["fsync", "link", "fsync", "fsync", "exchange", "fsync"]


def test_leftovers_of_killed_runs_are_removed_and_those_in_use_are_not(tmp_path: Path) -> None:
    dead, alive, link = (tmp_path / f"{PREFIX}{digit * 16}" for digit in "123")
    dead.write_bytes(b"x")
    alive.write_bytes(b"x")
    link.symlink_to("elsewhere")
    descriptor = os.open(alive, os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    write_file(tmp_path / "out", b"data")
    assert names_in(tmp_path) == [alive.name, link.name, "out"]
    os.close(descriptor)
    write_file(tmp_path / "out", b"data", force=True)
    assert names_in(tmp_path) == [link.name, "out"]


def test_two_targets_at_once_do_not_remove_each_other(tmp_path: Path) -> None:
    with Target(tmp_path / "a", None) as one, Target(tmp_path / "b", None) as other:
        one.commit()
        other.commit()
    assert names_in(tmp_path) == ["a", "b"]


def test_new_files_have_the_mode_of_any_new_file(tmp_path: Path) -> None:
    old = os.umask(0o027)
    try:
        write_file(tmp_path / "out", b"")
    finally:
        os.umask(old)
    assert (tmp_path / "out").stat().st_mode & 0o777 == 0o640


def test_room_that_is_not_there_is_found_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, offset: int, size: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with Target(tmp_path / "out", None) as target:
        target.reserve(12345)  # there is plenty: it is not even asked for
        monkeypatch.setattr(os, "fstatvfs", lambda descriptor: SimpleNamespace(f_bavail=3, f_frsize=4096))
        target.reserve(0)
        with pytest.raises(OutputError, match="12345 bytes"):
            target.reserve(12345)


def test_a_file_system_that_cannot_reserve_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(descriptor: int, offset: int = 0, size: int = 0) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(os, "posix_fallocate", unable)
    monkeypatch.setattr(os, "fstatvfs", unable)
    with Target(tmp_path / "out", None) as target:
        target.reserve(12345)


@pytest.mark.parametrize("calls", [["fsync"], ["link", "replace"], ["open"]])  # where a link fails, a rename is tried
def test_a_failing_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[str]) -> None:
    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        for call in calls:
            patched.setattr(os, call, fail)
        with pytest.raises(OutputError, match="input/output error"):
            write_file(tmp_path / "out", b"data", force=True)
    assert names_in(tmp_path) == []


def test_a_target_that_appears_in_the_last_moment_is_not_overwritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "out"
    honest = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (path.write_bytes(b"somebody's"), honest(descriptor))[1])
    with pytest.raises(OutputError, match="exists already"):
        write_file(path, b"data")
    assert path.read_bytes() == b"somebody's"
    assert names_in(tmp_path) == ["out"]


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_system_without_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def unable(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", unable)
    write_file(tmp_path / "out", b"data")
    assert (tmp_path / "out").read_bytes() == b"data"
    with Target(tmp_path / "other", None) as target:
        (tmp_path / "other").write_bytes(b"somebody's")
        with pytest.raises(OutputError, match="exists already"):
            target.commit()
    assert names_in(tmp_path) == ["other", "out"]
    assert (tmp_path / "other").read_bytes() == b"somebody's"


def test_a_temporary_file_that_is_taken_for_a_leftover_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another run removes it between its making and its lock."""
    honest, seen = fcntl.flock, []

    def late(descriptor: int, operation: int) -> None:
        if not seen:
            seen.extend(tmp_path.glob(f"{PREFIX}*"))
            seen[0].unlink()
        honest(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    write_file(tmp_path / "out", b"data")
    assert len(seen) == 1
    assert names_in(tmp_path) == ["out"]
    assert (tmp_path / "out").read_bytes() == b"data"


def test_a_leftover_whose_path_is_another_file_by_now_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    leftover = tmp_path / f"{PREFIX}{0:016}"
    leftover.write_bytes(b"old")
    honest = fcntl.flock

    def replaced(descriptor: int, operation: int) -> None:
        honest(descriptor, operation)
        if leftover.read_bytes() == b"old":
            leftover.rename(tmp_path / "elsewhere")
            leftover.write_bytes(b"new")

    monkeypatch.setattr(fcntl, "flock", replaced)
    with Target(tmp_path / "out", None):
        assert leftover.read_bytes() == b"new"


def test_many_at_once_in_one_folder(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom bale.io.storage.commit import write_file\n"
        "for n in range(100): write_file(Path(sys.argv[1]) / f'{sys.argv[2]}-{n}', b'data')"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(n)]) for n in range(4)]
    assert [process.wait(60) for process in running] == [0, 0, 0, 0]
    assert len(names_in(tmp_path)) == 400


def test_permission_bits_are_copied_and_no_others(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.touch()
    source.chmod(0o6754)
    with Target(tmp_path / "out", source.stat()) as target:
        target.commit()
    assert (tmp_path / "out").stat().st_mode & 0o7777 == 0o754


# Several files together.


def two(tmp_path: Path, force: bool = False) -> None:
    with Target(tmp_path / "report", None, force) as one, Target(tmp_path / "archive", None, force) as other:
        for target in (one, other):
            target.write(b"new", 0)
        commit_together(one, other)


@pytest.mark.parametrize(("force", "name"), [(False, "link"), (True, "exchange")])
def test_names_are_given_one_directly_behind_the_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool, name: str
) -> None:
    """The first first: a run that is killed between them leaves a report alone, and no archive without one."""
    done: list[str] = []

    def watch(module: object, name: str) -> None:
        honest = getattr(module, name)

        def watched(*arguments: object, **more: object) -> object:
            done.append(f"{name} {Path(str(arguments[-1])).name}" if name in ("link", "exchange") else name)
            return honest(*arguments, **more)

        monkeypatch.setattr(module, name, watched)

    if force:
        two(tmp_path)
    for call in ("link", "replace", "rename", "fsync", "unlink", "open", "fchmod", "utime", "pwrite", "stat"):
        watch(os, call)
    watch(commit, "exchange")
    two(tmp_path, force)
    first = done.index(f"{name} report")
    assert done[first + 1] == f"{name} archive"
    assert done[:first].count("fsync") == 2
    assert done[first:].count("fsync") == 1  # one folder


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("call", ["second name", "folder"])
def test_both_or_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool, call: str) -> None:
    """Also when it is the very last call that fails: that which brings the names to the disk."""
    if force:
        for name in ("report", "archive"):
            (tmp_path / name).write_bytes(b"old")

    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    def failing(honest: Callable[..., object]) -> Callable[..., object]:
        return lambda *paths: (fail if Path(paths[1]).name == "archive" else honest)(*paths)

    if call == "folder":
        monkeypatch.setattr(commit, "sync_folder", fail)
    else:
        monkeypatch.setattr(os, "replace", failing(os.replace))
        monkeypatch.setattr(os, "link", failing(os.link))
        monkeypatch.setattr(commit, "exchange", failing(commit.exchange))
    with pytest.raises(OutputError, match="input/output error"):
        two(tmp_path, force)
    assert names_in(tmp_path) == (["archive", "report"] if force else [])
    assert all((tmp_path / name).read_bytes() == b"old" for name in names_in(tmp_path))


def test_what_cannot_be_undone_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an exchange the old file is gone when the folder cannot be brought to the disk."""

    def fail(*arguments: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    (tmp_path / "out").write_bytes(b"old")
    monkeypatch.setattr(commit, "exchange", lambda *paths: False)
    monkeypatch.setattr(commit, "sync_folder", fail)
    with pytest.raises(OutputError, match=r"the new .*out is in place, and may be lost if the power fails"):
        write_file(tmp_path / "out", b"new", force=True)
    assert (tmp_path / "out").read_bytes() == b"new"
    assert names_in(tmp_path) == ["out"]


@pytest.mark.parametrize("call", ["link", "fsync"])
def test_a_full_disk_is_told_with_the_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="no space left") as raised:
        write_file(tmp_path / "out", b"x" * 4321)
    assert "at least 4321 bytes" in raised.value.hint


def test_a_second_name_that_appears_takes_the_first_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = os.link

    def meanwhile(old: Path, new: Path) -> None:
        if new.name == "archive":
            new.write_bytes(b"somebody's")
        honest(old, new)

    monkeypatch.setattr(os, "link", meanwhile)
    with pytest.raises(OutputError, match="archive exists already"):
        two(tmp_path)
    assert names_in(tmp_path) == ["archive"]
    assert (tmp_path / "archive").read_bytes() == b"somebody's"


def test_names_of_two_files_are_given_by_one_run_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest, seen = os.link, []

    def look(old: Path, new: Path) -> None:
        descriptor = os.open(tmp_path / temporary_name("commit archive"), os.O_RDWR)
        seen.append(try_lock(descriptor))
        os.close(descriptor)
        honest(old, new)

    monkeypatch.setattr(os, "link", look)
    two(tmp_path)
    assert seen == [False, False]


def test_many_that_overwrite_two_files_do_not_mix_theirs(tmp_path: Path) -> None:
    script = (
        "import sys\nfrom pathlib import Path\nfrom bale.io.storage.commit import commit_together, staged\n"
        "folder, mine = Path(sys.argv[1]), sys.argv[2].encode()\n"
        "for n in range(60):\n"
        "    with staged(folder / 'report', mine, True) as one, staged(folder / 'archive', mine, True) as other:\n"
        "        commit_together(one, other)"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(tmp_path), str(n)]) for n in range(3)]
    assert [process.wait(120) for process in running] == [0, 0, 0]
    assert (tmp_path / "report").read_bytes() == (tmp_path / "archive").read_bytes()
    assert names_in(tmp_path) == ["archive", "report"]

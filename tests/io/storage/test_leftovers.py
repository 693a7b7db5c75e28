"""Temporary files and folders are known by name and lock; what is the user's is left alone."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from bale.errors import OutputError
from bale.io.storage.leftovers import (
    BEGUN,
    OLD,
    PREFIX,
    TREE,
    alone,
    is_temporary,
    lock_folder,
    put_back,
    remove_leftovers,
    temporary_name,
    try_lock,
)
from tests.making import names_in

MINE = f"{PREFIX}{7:016x}"


@pytest.mark.parametrize("name", [".bale-tmp-x", ".bale-tmp-", f"{MINE}.txt", f"a{MINE}", MINE.upper(), MINE[:-1]])
def test_names_that_are_the_users(tmp_path: Path, name: str) -> None:
    assert not is_temporary(name)
    (tmp_path / name).write_text("precious")
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == [name]


def test_names_that_are_ours() -> None:
    assert is_temporary(MINE)
    assert is_temporary(temporary_name())
    assert temporary_name() != temporary_name()
    assert temporary_name("a") == temporary_name("a") != temporary_name("b")
    assert is_temporary(temporary_name("a\udcff"))


def test_folders_that_a_killed_run_has_left(tmp_path: Path) -> None:
    free, used = tmp_path / MINE, tmp_path / f"{PREFIX}{8:016x}"
    for folder in (free, used):
        (folder / "a" / "b").mkdir(parents=True)
        (folder / "a" / "out").symlink_to("..")
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "mine").write_text("precious")
    (free / "link").symlink_to(outside)
    lock = lock_folder(used, tmp_path)
    remove_leftovers(tmp_path)
    assert not free.exists()
    assert (used / "a" / "b").is_dir()
    assert names_in(outside) == ["mine"]
    os.close(lock)
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == ["outside", "outside/mine"]


def test_a_folder_has_one_lock(tmp_path: Path) -> None:
    lock = lock_folder(tmp_path, tmp_path)
    with pytest.raises(OutputError, match="another run is writing it") as raised:
        lock_folder(tmp_path, tmp_path / "out")
    assert str(tmp_path / "out") in raised.value.message
    os.close(lock)
    os.close(lock_folder(tmp_path, tmp_path))


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unable(descriptor: int, operation: int) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", unable)
    (tmp_path / MINE).mkdir()
    os.close(lock_folder(tmp_path, tmp_path))
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == [MINE]  # it might be in use


def test_alone_leaves_nothing(tmp_path: Path) -> None:
    with alone(tmp_path, "something"):
        (name,) = names_in(tmp_path)
        descriptor = os.open(tmp_path / name, os.O_RDWR)
        assert not try_lock(descriptor)
        os.close(descriptor)
    assert names_in(tmp_path) == []


def replaced(tmp_path: Path, name: object) -> Path:
    """What a run leaves that is killed after it has renamed the old folder away."""
    temporary = tmp_path / MINE
    (temporary / TREE).mkdir(parents=True)
    (temporary / OLD).mkdir()
    (temporary / OLD / "mine").write_text("precious")
    (temporary / BEGUN).write_text(json.dumps({"name": name}))
    return temporary


def test_an_old_folder_gets_its_name_again(tmp_path: Path) -> None:
    replaced(tmp_path, "out")
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == ["out", "out/mine"]


@pytest.mark.parametrize("name", ["../out", "", "/out", None, 5, ".", ".."])
def test_an_old_folder_goes_nowhere_else(tmp_path: Path, name: object) -> None:
    inner = tmp_path / "inner"
    inner.mkdir()
    temporary = replaced(inner, name)
    remove_leftovers(inner)
    assert names_in(tmp_path / "inner") != []
    assert (temporary / OLD / "mine").read_text() == "precious"
    assert names_in(tmp_path)[0] == "inner"


def test_an_old_folder_is_kept_while_it_is_the_only_copy(tmp_path: Path) -> None:
    temporary = replaced(tmp_path, "out")
    (tmp_path / "out").mkdir()
    assert not put_back(temporary)
    remove_leftovers(tmp_path)
    assert (temporary / OLD / "mine").exists()
    (temporary / TREE).rmdir()  # it had been replaced
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == ["out"]

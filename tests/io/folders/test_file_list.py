"""The files below a folder, and what cannot be stored."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from bale.errors import SourceError
from bale.io.folders.file_list import list_files
from bale.io.folders.selection import Selection


def test_listing(tmp_path: Path) -> None:
    (tmp_path / "b" / "c").mkdir(parents=True)
    for name in ("z", "b/y", "b/c/x", ".hidden", f".bale-tmp-{1:016x}"):
        (tmp_path / name).touch()
    (tmp_path / "link").symlink_to("z")
    listed = list_files(tmp_path)
    assert (listed.names, listed.left_out) == ([".hidden", "b/c/x", "b/y", "link", "z"], {})
    (tmp_path / "b" / "y").write_text("five5")
    listed = list_files(tmp_path, Selection(("b/*", "z"), ("*x",)))
    assert (listed.names, listed.left_out) == (["b/y", "z"], {".hidden": 0, "b/c/x": 0, "link": 0})


def _folder_link(folder: Path) -> None:
    (folder / "x").symlink_to(folder.parent)


def _own_link(folder: Path) -> None:
    (folder / "x").symlink_to(".")


def _dangling(folder: Path) -> None:
    (folder / "x").symlink_to("nowhere")


def _loop(folder: Path) -> None:
    (folder / "x").symlink_to("x")


def _fifo(folder: Path) -> None:
    os.mkfifo(folder / "x")


def _fifo_link(folder: Path) -> None:
    os.mkfifo(folder.parent / "pipe")
    (folder / "x").symlink_to("../pipe")


@pytest.mark.parametrize(
    ("make", "what", "hint"),
    [
        (_folder_link, "link to a folder", "the folder itself"),
        (_own_link, "link to a folder", "the folder itself"),
        (_dangling, "leads nowhere", "fix or remove"),
        (_loop, "leads nowhere", "fix or remove"),
        (_fifo, "neither a file nor a folder", "move it elsewhere"),
        (_fifo_link, "link to what is neither", "remove the link"),
    ],
)
def test_what_is_no_file(tmp_path: Path, make: Callable[[Path], None], what: str, hint: str) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    make(folder)
    if "a folder" in what and "nor" not in what:
        with pytest.raises(SourceError) as raised:
            list_files(folder)
        problem: SourceError = raised.value
    else:  # whether it matters is for others to say
        problem = list_files(folder).no_files["x"]
    assert what in problem.message
    assert hint in problem.hint
    assert "--exclude x" in problem.hint
    for selection in (Selection(exclude=("x",)), Selection(exclude=("x/",)), Selection(include=("other*",))):
        if "a folder" in what or selection.exclude != ("x/",):
            listed = list_files(folder, selection)
            assert (listed.names, listed.no_files) == ([], {})


def test_a_link_that_may_not_be_followed_is_an_error(tmp_path: Path) -> None:
    """It may lead to a file. Root may follow all: so a name that is too long stands for what the system refuses."""
    (tmp_path / "x").symlink_to("y" * 300)
    with pytest.raises(SourceError, match=r"x cannot be read: file name too long") as raised:
        list_files(tmp_path)
    assert "--exclude x" in raised.value.hint


def test_folders_that_hold_nothing(tmp_path: Path) -> None:
    for name in ("a/b", "c", "d", "e"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("d/file", f"e/.bale-tmp-{1:016x}"):
        (tmp_path / name).touch()
    assert list_files(tmp_path).empty == ("a/b", "c", "e")
    assert list_files(tmp_path, Selection(exclude=("a/*", "d/*"))).empty == ("c", "e")
    assert list_files(tmp_path, Selection(include=("*file",))).empty == ()

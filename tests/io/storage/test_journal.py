"""Lines that a run adds, and the next one reads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bale.errors import OutputError
from bale.io.storage.journal import Journal, read_journal
from bale.io.storage.leftovers import remove_leftovers, temporary_name
from tests.making import names_in


def test_lines_are_read_as_written(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    assert list(read_journal(path)) == []
    items = [{"name": "a\udcff\n"}, {"name": "ü", "bytes": 5}]
    with Journal(path) as journal:
        for item in items:
            journal.add(item)
    assert list(read_journal(path)) == items
    with Journal(path):
        pass
    assert list(read_journal(path)) == []


@pytest.mark.parametrize("end", [b'{"name": "b"', b'{"name": "b"}', b"\0" * 20, b"[" * 10_000, b"\xff\n", b"{\n"])
def test_a_line_that_was_cut_ends_it(tmp_path: Path, end: bytes) -> None:
    path = tmp_path / "journal"
    path.write_bytes(b'{"name": "a"}\n' + end)
    assert list(read_journal(path)) == [{"name": "a"}]


def test_it_is_no_leftover_while_it_is_open(tmp_path: Path) -> None:
    path = tmp_path / temporary_name("journal")
    with Journal(path):
        remove_leftovers(tmp_path)
        assert names_in(tmp_path) == [path.name]
    remove_leftovers(tmp_path)
    assert names_in(tmp_path) == []


def test_it_is_not_written_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    (tmp_path / "journal").symlink_to("mine")
    with pytest.raises(OutputError), Journal(tmp_path / "journal"):
        pass
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_line_costs_one_call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[int] = []
    honest = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, data, at: (written.append(len(data)), honest(file, data, at))[1])
    with Journal(tmp_path / "journal") as journal:
        for n in range(50):
            journal.add({"n": n})
    assert len(written) == 50
    assert max(written) < 20
